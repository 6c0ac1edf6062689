"""`headrace produce`: push events into a topic, from a simulator or from files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from streams.cli.console import Finite, file_options
from streams.cli.produce_video import video
from streams.cli.pushing import SIMULATOR, Source, push

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from connectors.simulators.transactions import TransactionBlock
    from streams.producing import Events

    TimedRecords = tuple[list[bytes], list[bytes], NDArray[np.int64]]

DAY_MS = 86_400_000


def _options(default_topic: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """What the command of every kind of event takes."""
    options = (
        click.option("--from", "source", default=SIMULATOR, metavar="FILE|simulator", show_default=True,
                     help="A .csv, .jsonl or .parquet file (text also as .gz), or the simulator."),
        file_options,
        click.option("--topic", help=f"Where they go.  [{default_topic}]"),
        click.option("--create", is_flag=True, help="Create the topic, with 4 partitions, where it does not exist."),
        click.option("--rate", type=Finite(0), default=0,
                     help="Events a second, steadily; 0: as fast as possible."),
        click.option("--count", type=click.IntRange(0), default=0, help="End after so many events.  [no limit]"),
        click.option("--seconds", type=Finite(0), default=0, help="End after so many seconds.  [no limit]"),
        click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True,
                     help="Simulator: same seed, same events."),
        click.option("--customers", type=click.IntRange(1, 1_000_000), default=5_000, show_default=True,
                     help="Simulator: how many cards; each pays twice a simulated day."),
        click.option("--start", type=click.DateTime(["%Y-%m-%d"]), default="2025-01-01", metavar="DATE", callback=_day,
                     help="Simulator: the first simulated day (UTC).  [default: 2025-01-01]"),
    )  # fmt: skip

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def _day(context: click.Context, parameter: click.Parameter, start: datetime) -> datetime:
    """The callback of `--start`: what lies ahead, or before 2000, is poison to a pipeline."""
    from streams.clock import SystemClock

    day = start.replace(tzinfo=UTC)
    if day.year < 2000 or day.timestamp() > SystemClock().time():
        raise click.BadParameter(f"expected a day from 2000-01-01 until today, got {day.date()}", context, parameter)
    return day


@click.group()
def produce() -> None:
    """Push events into a topic, from a simulator, from your own files or from cameras."""


produce.add_command(video)


@produce.command()
@_options("the fraud pipeline's input: transactions")
def transactions(seed: int, customers: int, start: datetime, **options: Any) -> None:
    """Push card transactions, keyed by card id.

    The simulator plays the days from --start on, as fast as the rate allows, and ends when it has reached the present.
    Files are read as they are: JSON lines unchanged, CSV and Parquet by the columns transaction_id, card_id,
    terminal_id, amount and event_time (also currency, country, channel and mcc, where present). Ctrl-C ends in order:
    what was sent is acknowledged first.

    \b
    Examples:
      headrace produce transactions --rate 1000 --seconds 60
      headrace produce transactions --count 1000000 --seed 7
      headrace produce transactions --from payments.csv --map card_id=PAN --map event_time="Booked at"
    """
    from connectors.simulators.transactions import FIELDS

    def records(block: TransactionBlock) -> TimedRecords:
        return *block.records(), block.event_time_ms

    events = partial(_until_now, _blocks(seed, customers, start), 0, records)
    push(Source("fraud", FIELDS, events), **options)


@produce.command()
@_options("the label loop's input: fraud.labels")
@click.option(
    "--genuine",
    is_flag=True,
    help="Simulator: label genuine transactions, too, as analysts do.  [fraud alone, as chargebacks do]",
)
@click.option("--delay-days", type=Finite(0, 365), default=7.0, show_default=True,
              help="Simulator: how long after event_time the label_time is.")  # fmt: skip
def labels(seed: int, customers: int, start: datetime, genuine: bool, delay_days: float, **options: Any) -> None:
    """Push labels, keyed by card id: what transactions turned out to be.

    The simulator labels the transactions that `headrace produce transactions` pushes with the same --seed, --customers
    and --start, in the order of label_time, and ends when that has reached the present. Files are read as they are:
    JSON lines unchanged, CSV and Parquet by the columns transaction_id, card_id, terminal_id, fraud (true, false, 1 or
    0), event_time and label_time (also amount, where present).

    \b
    Examples:
      headrace produce labels --create
      headrace produce labels --seed 7 --genuine --delay-days 3
      headrace produce labels --from chargebacks.csv --map label_time="Reported at"
    """
    from connectors.simulators import labels as simulator

    delay_ms = int(delay_days * DAY_MS)

    def records(block: TransactionBlock) -> TimedRecords:
        return simulator.records(block, delay_ms, genuine=genuine)

    events = partial(_until_now, _blocks(seed, customers, start), delay_ms, records)
    push(Source("labels", simulator.FIELDS, events), **options)


def _blocks(seed: int, customers: int, start: datetime) -> Iterator[TransactionBlock]:
    from connectors.simulators.transactions import TransactionSettings, blocks

    return blocks(TransactionSettings(seed=seed, customers=customers, start=start))


def _until_now(
    blocks: Iterable[TransactionBlock], delay_ms: int, records: Callable[[TransactionBlock], TimedRecords]
) -> Iterator[Events]:
    """Until the simulated time reaches the present: what lies far ahead of the clock is poison to a pipeline.

    Args:
        delay_ms: how long after its transaction an event takes place.
        records: keys, values and times, which never go back.
    """
    import numpy as np

    from streams.clock import SystemClock

    clock = SystemClock()
    for block in blocks:
        now_ms = int(clock.time() * 1000)
        keys, values, times = records(block)
        past = int(np.searchsorted(times, now_ms))
        if past:
            yield keys[:past], values[:past]
        if len(block) and block.event_time_ms[-1] + delay_ms >= now_ms:
            return

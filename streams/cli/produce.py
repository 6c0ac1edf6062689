"""`headrace produce`: push events into a topic, from a simulator or from files."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from streams.cli.console import DEFAULT_PARTITIONS, Meter, existing_file, file_options, run, stop_on_signal, summary

if TYPE_CHECKING:
    from connectors.files import EventFile
    from connectors.simulators.transactions import TransactionSettings
    from streams.producing import EventProducer, Events, Pace
    from streams.settings import Settings

SIMULATOR = "simulator"


@click.group()
def produce() -> None:
    """Push events into a topic, from a simulator or from your own files."""


@produce.command()
@click.option("--from", "source", default=SIMULATOR, metavar="FILE|simulator", show_default=True,
              help="A .csv, .jsonl or .parquet file (text also as .gz), or the simulator.")  # fmt: skip
@file_options
@click.option("--topic", help="Where they go.  [the fraud pipeline's input: transactions]")
@click.option("--create", is_flag=True, help="Create the topic, with 4 partitions, where it does not exist.")
@click.option("--rate", type=click.FloatRange(0), default=0, help="Events a second, steadily; 0: as fast as possible.")
@click.option("--count", type=click.IntRange(0), default=0, help="End after so many events.  [no limit]")
@click.option("--seconds", type=click.FloatRange(0), default=0, help="End after so many seconds.  [no limit]")
@click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Simulator: same seed, same events."
)
@click.option("--customers", type=click.IntRange(1, 1_000_000), default=5_000, show_default=True,
              help="Simulator: how many cards; each pays twice a simulated day.")  # fmt: skip
@click.option("--start", type=click.DateTime(["%Y-%m-%d"]), default="2025-01-01", metavar="DATE",
              help="Simulator: the first simulated day (UTC).  [default: 2025-01-01]")  # fmt: skip
def transactions(
    source: str,
    columns: dict[str, str],
    bad_rows: str,
    topic: str | None,
    create: bool,
    rate: float,
    count: int,
    seconds: float,
    seed: int,
    customers: int,
    start: datetime,
) -> None:
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
    from connectors.simulators.transactions import TransactionSettings
    from streams import settings
    from streams.producing import Pace

    if source == SIMULATOR and columns:
        raise click.UsageError("--map renames a file's columns; the simulator has none: give --from FILE as well")
    simulated = TransactionSettings(seed=seed, customers=customers, start=start.replace(tzinfo=UTC))
    with ExitStack() as stack:
        file = None if source == SIMULATOR else stack.enter_context(_open(source, columns, bad_rows))
        job = _Job(settings.load(), topic, create, Pace(rate, count, seconds), simulated, file)
        run(job.run())


@dataclass(frozen=True)
class _Job:
    settings: Settings
    topic_or_default: str | None
    create: bool
    pace: Pace
    simulated: TransactionSettings
    file: EventFile | None

    @property
    def topic(self) -> str:
        return self.topic_or_default or self.settings.fraud.input

    async def run(self) -> None:
        """Everything from the look at the topic to the summary, which is printed after a failure, too."""
        from streams.producing import EventProducer

        await self._find_topic()
        started = time.perf_counter()
        async with EventProducer(self.settings.kafka, self.topic) as producer:
            try:
                await self._pump(producer)
                await producer.flush()
            finally:
                self._summarise(producer, time.perf_counter() - started)

    async def _find_topic(self) -> None:
        from streams.errors import TopicError
        from streams.topics import Admin, Topic

        async with Admin(self.settings.kafka) as admin:
            if self.topic in await admin.partitions():
                return
            if not self.create:
                raise TopicError(
                    f"topic {self.topic!r} does not exist at {self.settings.kafka.bootstrap_servers}; create it with "
                    f"`headrace topics create {self.topic}`, or give --create"
                )
            await admin.create(Topic(self.topic), DEFAULT_PARTITIONS)

    async def _pump(self, producer: EventProducer) -> None:
        from streams.producing import pump

        file, pace = self.file, self.pace
        total = float(file.total_bytes) if file else float(pace.count) or None
        with stop_on_signal() as stop, Meter("events", total) as meter:
            source = _file_events(file) if file else _simulated_events(self.simulated)
            await pump(producer, source, pace, stop, lambda n: meter.show(n, file.bytes_read if file else n))

    def _summarise(self, producer: EventProducer, seconds: float) -> None:
        rate = producer.acknowledged / max(seconds, 1e-9)
        text = f"{producer.acknowledged:,} events to {self.topic} in {seconds:.1f} s ({rate:,.0f}/s)"
        if producer.sent != producer.acknowledged:
            text += f"; {producer.sent - producer.acknowledged:,} more were sent, but not acknowledged"
        if self.file and self.file.skipped:
            text += f"; {self.file.skipped:,} bad rows left out, the first: {self.file.first_skipped}"
        summary(text)


def _open(source: str, columns: dict[str, str], bad_rows: str) -> EventFile:
    from connectors.files import open_events
    from connectors.simulators.transactions import FIELDS

    path = existing_file(source)
    return open_events(
        path, fields=FIELDS, key="card_id", columns=columns, bad_rows="skip" if bad_rows == "skip" else "stop"
    )


def _file_events(file: EventFile) -> Iterator[Events]:
    for batch in file:
        yield batch.keys, batch.values


def _simulated_events(simulated: TransactionSettings) -> Iterator[Events]:
    """Until the simulated time reaches the present: what lies far ahead of the clock is poison to a pipeline."""
    import numpy as np

    from connectors.simulators.transactions import blocks
    from streams.clock import SystemClock

    clock = SystemClock()
    for block in blocks(simulated):
        keys, values = block.records()
        past = int(np.searchsorted(block.event_time_ms, int(clock.time() * 1000)))
        if past:
            yield keys[:past], values[:past]
        if past < len(block):
            return

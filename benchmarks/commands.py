"""The command line: `python -m benchmarks COMMAND`."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

import click
from confluent_kafka import KafkaException
from rich.console import Console
from rich.table import Table

from benchmarks import bars, engines, guarantees, latency, reasons, recovery, soak, state, swaps, tables, throughput
from benchmarks.brokers import broker
from benchmarks.chaos import chaos_command
from benchmarks.contenders import CONTENDERS, ECHOES, Contender, Echo
from benchmarks.drift import drift_command
from benchmarks.processes import exit_on_sigterm
from benchmarks.vision import vision_command
from connectors.contract import ConnectorError
from streams import settings

RATES = (1_000, 5_000, 20_000)
QUICK_BUDGET_S = 42.0  # under the promised 50 s, with room for the stop of the last contender and the broker

Named = TypeVar("Named", Contender, Echo)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def bench() -> None:
    """Compare Headrace with what you would use instead: same work, same broker, same run.

    Each event is a small JSON transaction: decode it, make two features, run a 16-64-64-1 network on ONNX Runtime,
    encode the prediction, produce it. Every contender is one process. Without --bootstrap a Kafka is started for the
    run on this machine and stopped after it. Compare numbers of one run only: the machine changes between runs, and the
    broker shares its cores. `guarantees`, `recovery` and `soak` measure Headrace alone, with its fraud pipeline.

    \b
    Examples:
      headrace bench throughput --quick
      headrace bench throughput --contenders aiokafka,librdkafka --rounds 7
      headrace bench latency --json | tail -1
      headrace bench guarantees --quick
      headrace bench recovery --guarantee exactly_once
      headrace bench soak --minutes 20
    """


bench.add_command(chaos_command)
bench.add_command(drift_command)
bench.add_command(vision_command)


def _names(text: str | None, known: Sequence[Named], default: Sequence[Named]) -> tuple[Named, ...]:
    if text is None:
        return tuple(default)
    by_name = {contender.name: contender for contender in known}
    asked = [name.strip() for name in text.split(",") if name.strip()]
    if not asked or (unknown := [name for name in asked if name not in by_name]):
        wrong = ", ".join(unknown) if asked else "nothing"
        raise click.BadParameter(f"expected names out of {', '.join(by_name)}; got {wrong}", param_hint="--contenders")
    return tuple(by_name[name] for name in asked)


def _finish(
    drawn: Table, answer: object, failures: Sequence[str], as_json: bool, held_against: Sequence[bars.Bar] = ()
) -> None:
    console = Console(stderr=as_json)
    console.print(drawn)
    if held_against:
        console.print(bars.table(held_against))
    for failure in failures:
        click.echo(f"failed: {failure}", err=True)
    if as_json:
        click.echo(json.dumps(answer))
    if failures:
        sys.exit(1)


@contextlib.contextmanager
def _in_one_sentence() -> Iterator[None]:
    try:
        yield
    except ConnectorError as error:
        raise click.ClickException(str(error)) from error
    except KafkaException as error:
        raise click.ClickException(f"talking to the broker: {error.args[0].str()}; nothing was measured") from error


def _say(line: str) -> None:
    click.echo(line, err=True)


_bootstrap = click.option(
    "--bootstrap", metavar="HOST:PORT", help="Use this broker, on this machine, instead of starting one."
)
_contenders = click.option("--contenders", "names", metavar="A,B", help="Only these, in this order.")
_rounds = click.option("--rounds", type=click.IntRange(1), help="How often each contender runs.")
_quick = click.option("--quick", is_flag=True, help="Everything once, small, in under 50 s: a look, not a measurement.")
_json = click.option(
    "--json", "as_json", is_flag=True, help="The last line on stdout is the answer as one JSON object."
)


@bench.command("throughput")
@_bootstrap
@_contenders
@_rounds
@_quick
@_json
def throughput_command(
    bootstrap: str | None, names: str | None, rounds: int | None, quick: bool, as_json: bool
) -> None:
    """Events per second, and CPU per event, of each contender.

    Topics of four partitions are filled beforehand, one for each number of events: slow contenders are given fewer. In
    each round every contender in turn reads its topic from the start, in a new consumer group, and writes to a new one.
    Its clock runs from the first record it receives until the broker has acknowledged all its outputs, which are then
    counted: a contender that lost or repeated one has failed.

    \b
    events/s        median over rounds
    CPU µs/event    of the contender's process, all its threads; the broker's is not in it
    / librdkafka    events/s by librdkafka's in the same round, median over rounds

    --json: contender -> events per second. Exit code 1 if any run failed; the others are still reported.
    """
    began_s = time.monotonic()
    plan = throughput.Plan(
        contenders=_names(names, CONTENDERS, CONTENDERS),
        rounds=rounds or (3 if quick else 5),
        quick=quick,
        budget_s=QUICK_BUDGET_S if quick else float("inf"),
        began_s=began_s,
    )
    with _in_one_sentence(), exit_on_sigterm(), broker(bootstrap, _say) as address:
        outcome = throughput.run(plan, address, _say)
    _finish(throughput.table(outcome.rows()), outcome.by_name(), outcome.failures, as_json)


@bench.command("latency")
@_bootstrap
@_contenders
@_rounds
@_quick
@_json
@click.option(
    "--rates", default=",".join(map(str, RATES)), show_default=True, help="Events per second, comma-separated."
)
def latency_command(
    bootstrap: str | None, names: str | None, rounds: int | None, quick: bool, as_json: bool, rates: str
) -> None:
    """Milliseconds from producer to subscriber of each contender, at fixed rates.

    An open loop: one process sends events on a fixed schedule, whether or not earlier ones have come back; another
    reads the predictions. An event's latency runs from the moment it was due, so a stall weighs on every event that was
    due meanwhile. Sender and reader are the same for all contenders; what they take is printed first.

    "sent late" is the sender's own p99 lateness. A row marked * was measured with a sender that fell behind its
    schedule (more than 5 ms): the machine was too busy for a verdict.

    --json: rate -> contender -> p50_ms, p99_ms, max_ms, achieved_per_s, lost, sent_late_p99_ms, behind.
    """
    plan = latency.Plan(
        echoes=_names(names, ECHOES, ECHOES),
        rates=_whole_numbers(rates, "--rates"),
        rounds=rounds or (1 if quick else 3),
        warm_up_s=1.0 if quick else 2.0,
        measured_s=2.0 if quick else 10.0,
    )
    with _in_one_sentence(), exit_on_sigterm(), broker(bootstrap, _say) as address:
        outcome = latency.run(plan, address, _say)
    _finish(latency.table(outcome.combined()), outcome.by_rate(), outcome.failures, as_json)


def _whole_numbers(text: str, option: str) -> tuple[int, ...]:
    try:
        numbers = tuple(int(number) for number in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or min(numbers) < 1:
        raise click.BadParameter(f"expected whole numbers above zero, comma-separated, got {text!r}", param_hint=option)
    return numbers


@bench.command("state")
@_bootstrap
@_quick
@_json
@click.option("--transactions", type=click.IntRange(1, 500), default=8, show_default=True, help="Held by each card.")
def state_command(bootstrap: str | None, quick: bool, as_json: bool, transactions: int) -> None:
    """Restore rate, bytes per card and RSS at 100 000 and 1 000 000 cards.

    A changelog is written as compaction would leave it, and restored into the memory of a fresh process with the
    worker's own code. --quick: 100 000 cards only.

    --json: cards -> restore_records_per_s, restore_s, records, bytes_per_card, rss_mib, rss_before_mib.
    """
    sizes = (100_000,) if quick else (100_000, 1_000_000)
    with _in_one_sentence(), exit_on_sigterm(), broker(bootstrap, _say) as address:
        found = state.run(sizes, transactions, address, _say)
    _finish(state.table(found), {name: each.answer() for name, each in found.items()}, [], as_json)


@bench.command("table")
@_quick
@_json
def table_command(quick: bool, as_json: bool) -> None:
    """What the table of terminals costs an event's owner and every other worker, and the memory that each holds.

    No broker: 350 000 transactions of 10 000 terminals, and 10 000 000 of 1 000 000, in the 37 days that windows look
    back on; 1 % are labelled as fraud. --quick: the former only.

    --json: a list of terminals, transactions, own_us, log_bytes, follow_us, ask_us, table_bytes; all but the first two
    are for one event.
    """
    found = tables.run((tables.SMALL,) if quick else (tables.SMALL, tables.LARGE), _say)
    _finish(tables.table(found), [each.answer() for each in found], [], as_json)


@bench.command("reasons")
@_rounds
@_quick
@_json
def reasons_command(rounds: int | None, quick: bool, as_json: bool) -> None:
    """What reasons for 1 % of the transactions leave of the throughput, and microseconds per flagged one.

    No broker: the fraud pipeline's own work on one core, with nothing flagged and with the 1 % of the highest scores.

    --json: plain_eps, explained_eps, flagged_share, us_per_flag, ratio.
    """
    found = reasons.run(200_000 if quick else 500_000, rounds or (1 if quick else 5), _say)
    _finish(reasons.table(found), found.answer(), [], as_json)


@bench.command("guarantees")
@_bootstrap
@_rounds
@_quick
@_json
@click.option(
    "--partitions",
    default=",".join(map(str, guarantees.PARTITIONS)),
    show_default=True,
    help="Of the topics, comma-separated; --quick takes the first.",
)
def guarantees_command(bootstrap: str | None, rounds: int | None, quick: bool, as_json: bool, partitions: str) -> None:
    """What exactly-once costs: events/s and latency of the fraud pipeline under both guarantees.

    The worker with its state and changelog, once with worker.processing_guarantee = at_least_once and once with
    exactly_once, in turn, on topics of few and of many partitions. events/s is measured as `throughput` does it, and a
    record counts as done when what it became is durable: acknowledged, or its transaction committed. Latency is
    measured as `latency` does it, at 5 000 events/s, by a subscriber that reads committed records only. Afterwards the
    outputs are counted by reading them, and that there were transactions is checked. About ten minutes.

    \b
    ratio        events/s by those of at_least_once in the same round, median over rounds
    CPU µs       of the worker, an event, all its threads; less in the way of other work on the machine than events/s
    extra        p99 less that of at_least_once in the same round, median over rounds

    --json: guarantee -> partitions -> eps, p50_ms, p99_ms. Exit code 1 if a run failed; a bar missed is no failure.
    """
    began_s = time.monotonic()
    counts = _whole_numbers(partitions, "--partitions")
    spans = latency.Plan((), (guarantees.RATE,), rounds=1, warm_up_s=2.0, measured_s=3.0 if quick else 10.0)
    plan = guarantees.Plan(
        partitions=counts[:1] if quick else counts,
        rounds=rounds or 3,
        events=300_000 if quick else 600_000,
        latency=spans,
        budget_s=QUICK_BUDGET_S if quick else float("inf"),
        began_s=began_s,
    )
    with _in_one_sentence(), exit_on_sigterm(), broker(bootstrap, _say) as address:
        outcome = guarantees.run(plan, address, _say)
    held_against = outcome.bars(guarantees.transaction_interval_s())
    _finish(guarantees.table(outcome), outcome.answer(), outcome.failures, as_json, held_against)


@bench.command("recovery")
@_bootstrap
@click.option("--quick", is_flag=True, help="One repetition, in under 100 s: a look, not a measurement.")
@_json
@click.option("--repetitions", type=click.IntRange(1), help="How often each fault.  [3; 1 with --quick]")
@click.option("--guarantee", type=click.Choice(guarantees.GUARANTEES), help="Only this one.")
def recovery_command(
    bootstrap: str | None, quick: bool, as_json: bool, repetitions: int | None, guarantee: str | None
) -> None:
    """How soon every partition flows again when workers come, go and are killed.

    Fraud workers as a user starts them, on 8 partitions, under 2 000 events/s. A subscriber that reads committed
    records only notes when each output arrives. What counts is the longest silence of any partition from the fault
    until the partitions are spread over the workers again and each has flowed since; a silence that begins with the
    fault counts from the fault.

    \b
    a second worker joins           beside the one that had all partitions
    SIGTERM of one of two           the older one and the newer one in turn
    SIGKILL, restarted in its slot  with worker.slot, at once, as a supervisor does
    SIGKILL of one of two           not restarted: the other takes over after the session timeout

    About four minutes; --quick, one repetition, is under 100 s.

    --json: guarantee -> fault -> median_s, worst_s, bar_s, runs_s. Exit code 1 if a fault could not be measured; a bar
    missed is no failure.
    """
    chosen = (guarantee,) if guarantee else guarantees.GUARANTEES
    with _in_one_sentence(), exit_on_sigterm(), broker(bootstrap, _say) as address:
        outcome = recovery.run(repetitions or (1 if quick else 3), chosen, address, _say)
    _finish(recovery.table(outcome), outcome.answer(), outcome.failures, as_json)


@bench.command("engines")
@_bootstrap
@_json
@click.option("--quick", is_flag=True, help="Fewer rounds, in under 50 s.")
def engines_command(bootstrap: str | None, as_json: bool, quick: bool) -> None:
    """What the batcher and hot swaps cost.

    In memory, with the bundled fraud model: the engine in a bare loop; through the batcher and the compute thread at
    saturation; a single event at an idle batcher; the mean micro-batch at twice the load that one by one could serve,
    with a queue delay in which it can fill.

    Through Kafka, with a fraud worker as a user starts it, at 2,000 events/s: latency without swaps, and while one hot
    swap follows the other, every fifth one of a version that must be refused.

    --json: bare and batcher with eps, mean_batch and p99_ms, and swaps. Exit code 1 if something could not be measured;
    a bar missed is no failure.
    """
    in_memory = engines.run(100_000 if quick else 400_000, 2 if quick else 5, _say)
    with _in_one_sentence(), exit_on_sigterm(), broker(bootstrap, _say) as address:
        swapped = swaps.run(quick, address, _say)
    answer = in_memory.answer() | {"swaps": swapped.answer()}
    _finish(engines.table(in_memory), answer, swapped.failures, as_json, in_memory.bars() + swapped.bars())


@bench.command("soak")
@_bootstrap
@_json
@click.option("--minutes", type=click.FloatRange(0.1), default=20, show_default=True, help="How long; verdicts from 6.")
@click.option("--rate", type=click.FloatRange(1), help="Events/s.  [70 % of what a short calibration finds]")
@click.option(
    "--guarantee",
    type=click.Choice(guarantees.GUARANTEES),
    default=settings.Worker().processing_guarantee,
    show_default=True,
    help="worker.processing_guarantee.",
)
def soak_command(bootstrap: str | None, as_json: bool, minutes: float, rate: float | None, guarantee: str) -> None:
    """One worker under a steady load for a long time: does it hold on to memory or files?

    A fraud worker as a user starts it, on 4 partitions, and `headrace produce transactions` at a steady rate. Every
    10 s RSS, open files, threads, lag and the size of the state are sampled. Cards are few and event time runs fast:
    the 67 days that the state goes back have passed when the warm-up ends, so that it has its size; its own
    growth stands beside that of the RSS. Topics delete what is older than a moment.

    \b
    growth    MB in 10 minutes, by least squares over the samples after the first quarter, at least three minutes
    files     at the end beside after the warm-up
    done      of what was sent: a worker that falls behind is measured with its queues full

    --json: rss_slope_mb_per_10min, files_first, files_last, verdict, samples and what else was seen. Exit code 1 if the
    worker ended; a bar missed is no failure.
    """
    with _in_one_sentence(), exit_on_sigterm(), broker(bootstrap, _say, soak.BROKER) as address:
        outcome = soak.run(minutes, rate, guarantee, address, _say)
    _finish(soak.table(outcome), outcome.answer(), outcome.failures, as_json, outcome.bars())

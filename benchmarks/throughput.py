"""Throughput: the contenders in turn, several rounds, on one pre-filled topic."""

from __future__ import annotations

import contextlib
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import KafkaException
from rich import box
from rich.table import Table

from benchmarks.contenders import REFERENCE, Contender
from benchmarks.contenders.contract import Measurement
from benchmarks.processes import ChildError, started
from benchmarks.topics import Topics
from benchmarks.work import EVENTS, good, write_network

Input = tuple[str, int]


@dataclass(frozen=True)
class Plan:
    """What a throughput run does.

    Attributes:
        contenders: in the order of the table.
        rounds: at most so many.
        quick: take each contender's `quick_events`.
        budget_s: begin no round that would probably end later than this after `began_s`; the first is always run.
        began_s: `time.monotonic()` when the command began, so that the broker's start counts.
        run_limit_s: a contender that takes longer has failed.
    """

    contenders: tuple[Contender, ...]
    rounds: int
    quick: bool
    budget_s: float
    began_s: float
    run_limit_s: float = 180.0

    def events(self, contender: Contender) -> int:
        return contender.quick_events if self.quick else contender.events

    def input(self, contender: Contender) -> Input:
        """Kind and number of the events that a contender reads."""
        return contender.input, self.events(contender)


@dataclass(frozen=True)
class Row:
    """One contender over all rounds: medians of events per second and CPU, the range, the ratio to the reference."""

    name: str
    events_per_s: float
    lowest: float
    highest: float
    cpu_us: float
    ratio: float | None
    rounds: int


@dataclass
class Outcome:
    """Measurements by contender, one a round (None where it failed), and what failed."""

    measurements: dict[str, list[Measurement | None]]
    failures: list[str]

    def rows(self) -> list[Row]:
        """Return one row for each contender that was measured at least once."""
        return summarise(self.measurements)

    def by_name(self) -> dict[str, float]:
        """Return contender -> events per second: the machine-readable answer."""
        return {row.name: round(row.events_per_s, 1) for row in self.rows()}


def summarise(measurements: Mapping[str, Sequence[Measurement | None]], reference: str = REFERENCE) -> list[Row]:
    """Reduce rounds to medians.

    The ratio is the median over rounds of contender / reference *of that round*: other work on the machine, which comes
    and goes in minutes, then weighs on both sides of it.
    """
    rows = []
    for name, rounds in measurements.items():
        measured = [measurement for measurement in rounds if measurement is not None]
        if not measured:
            continue
        rates = [measurement.events_per_s for measurement in measured]
        ratios = [
            own.events_per_s / other.events_per_s
            for own, other in zip(rounds, measurements.get(reference, ()), strict=False)
            if own is not None and other is not None
        ]
        rows.append(
            Row(
                name=name,
                events_per_s=statistics.median(rates),
                lowest=min(rates),
                highest=max(rates),
                cpu_us=statistics.median(measurement.cpu_us for measurement in measured),
                ratio=statistics.median(ratios) if ratios else None,
                rounds=len(measured),
            )
        )
    return rows


def table(rows: Sequence[Row]) -> Table:
    """Draw the rows for a terminal of 80 columns."""
    drawn = Table(
        title="Throughput: medians over rounds, one process each",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    drawn.add_column("contender", no_wrap=True)
    for heading in ("events/s", "range", "CPU µs/event", f"/ {REFERENCE}", "rounds"):
        drawn.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        drawn.add_row(
            row.name,
            f"{row.events_per_s:,.0f}",
            f"{row.lowest:,.0f}-{row.highest:,.0f}",
            f"{row.cpu_us:.1f}",
            "" if row.ratio is None else f"{row.ratio:.2f}",
            str(row.rounds),
        )
    return drawn


def run(plan: Plan, bootstrap: str, said: Callable[[str], None]) -> Outcome:
    """Fill the input topics, run all contenders in turn, round after round, and return what was measured.

    Args:
        plan: what to do.
        bootstrap: a broker on this machine; its topics are made for the run and deleted after it.
        said: called with a line of progress.

    Raises:
        KafkaException: the topics could not be filled. A contender's failure is no error: it is in the outcome.
    """
    outcome = Outcome({contender.name: [] for contender in plan.contenders}, [])
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headrace-bench-")))
        model = scratch / "model.onnx"
        write_network(model)
        topics = stack.enter_context(Topics(bootstrap))
        sources = _fill(plan, topics, said)
        longest_s = 0.0
        for number in range(plan.rounds):
            began_s = time.monotonic()
            if number and began_s - plan.began_s + longest_s > plan.budget_s:
                break
            # There and back again: no contender always follows the same other one, nor is always first.
            for contender in plan.contenders if number % 2 == 0 else reversed(plan.contenders):
                label = f"round {number + 1} of {plan.rounds}, {contender.name}"
                try:
                    measured: Measurement | None = _run_one(
                        plan, contender, topics, sources.get(plan.input(contender), "none"), model, number
                    )
                except (ChildError, ValueError, KafkaException) as error:
                    measured = None
                    outcome.failures.append(f"{label}: {error}")
                said(f"{label}: " + (f"{measured.events_per_s:,.0f} events/s" if measured else "failed"))
                outcome.measurements[contender.name].append(measured)
            longest_s = max(longest_s, time.monotonic() - began_s)
    return outcome


def _fill(plan: Plan, topics: Topics, said: Callable[[str], None]) -> dict[Input, str]:
    """Make one input topic for each kind and number of events: one without a count of its own then ends with it."""
    sources = {}
    for source in sorted({plan.input(contender) for contender in plan.contenders if contender.kafka}):
        kind, count = source
        said(f"filling a topic with {count:,} {kind} transactions")
        sources[source] = topics.create(f"{kind}.{count}")
        topics.fill(sources[source], EVENTS[kind](count))
    return sources


def _run_one(plan: Plan, contender: Contender, topics: Topics, source: str, model: Path, number: int) -> Measurement:
    events = plan.events(contender)
    sink = topics.create(f"{contender.name}.{number}") if contender.kafka else "none"
    options = ("--bootstrap", topics.bootstrap, "--input", source, "--output", sink, "--count", str(events))
    with started(contender.name, (*contender.command, *options, "--model", str(model)), scratch=model.parent) as child:
        output = child.finish(plan.run_limit_s)
        lines = output.strip().splitlines()
        if not lines:
            raise child.failure("reported nothing")
        measurement = Measurement.from_line(lines[-1])
    if measurement.events != events:
        raise ValueError(f"counting events of {contender.name}: expected {events}, it reported {measurement.events}")
    expected = good(*plan.input(contender))
    # End offsets are at hand; one who writes in transactions leaves more of them than records.
    if contender.kafka and topics.size(sink) != expected and (written := topics.committed(sink)) != expected:
        raise ValueError(f"counting outputs of {contender.name}: expected {expected} records in {sink}, got {written}")
    return measurement

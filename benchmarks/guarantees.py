"""What exactly-once costs: the fraud pipeline under both guarantees, in turn, on few and on many partitions."""

from __future__ import annotations

import contextlib
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from confluent_kafka import KafkaException
from rich import box
from rich.table import Table

from benchmarks import latency
from benchmarks.bars import Bar
from benchmarks.contenders import Echo
from benchmarks.contenders.contract import Measurement
from benchmarks.processes import Child, ChildError, started
from benchmarks.schedule import Latencies, combine
from benchmarks.throughput import Row, summarise
from benchmarks.topics import Topics
from benchmarks.work import simulated_transactions, write_network
from streams import settings

AT_LEAST_ONCE, EXACTLY_ONCE = GUARANTEES = ("at_least_once", "exactly_once")
PARTITIONS = (4, 16, 64)
RATE = 5_000  # of the open loop: modest, so that what is seen is the way of a record and no queue
RUN_LIMIT_S = 180.0
PINGS_A_PARTITION = 16
# The first records of a fresh topic's partition take long, whoever sends them; with 64 of them the queue that comes of
# it takes seconds to go.
WARM_UP_S_A_PARTITION = 0.1

LEAST_RATIO = 0.7  # exactly_once / at_least_once events/s, on the first number of partitions
MOST_EXTRA_MS = 15.0  # p99 of exactly_once over that of at_least_once, beyond the transaction interval


@dataclass(frozen=True)
class Plan:
    """What a run does: each guarantee, on each number of partitions, in each round.

    Attributes:
        events: in the topic that throughput is measured on.
        latency: warm-up and measured span of the open loop.
        budget_s: begin no round that would probably end later than this after `began_s`; the first is always run.
        began_s: `time.monotonic()` when the command began, so that the broker's start counts.
    """

    partitions: tuple[int, ...]
    rounds: int
    events: int
    latency: latency.Plan
    budget_s: float
    began_s: float


@dataclass
class Found:
    """What was measured on one number of partitions: per guarantee an entry a round."""

    throughput: dict[str, list[Measurement | None]] = field(default_factory=lambda: {name: [] for name in GUARANTEES})
    latency: dict[str, list[Latencies | None]] = field(default_factory=lambda: {name: [] for name in GUARANTEES})

    def rows(self) -> dict[str, Row]:
        """Return guarantee -> throughput; the ratio is to at_least_once of the same round."""
        return {row.name: row for row in summarise(self.throughput, AT_LEAST_ONCE)}

    def latencies(self) -> dict[str, Latencies]:
        """Return guarantee -> the rounds reduced to one."""
        measured = {name: [each for each in rounds if each] for name, rounds in self.latency.items()}
        return {name: combine(rounds) for name, rounds in measured.items() if rounds}

    def extra_p99_ms(self) -> float:
        """Return the median over rounds of p99 under exactly_once less that of at_least_once; NaN without a round."""
        rounds = zip(self.latency[AT_LEAST_ONCE], self.latency[EXACTLY_ONCE], strict=False)
        extra_ms = [exactly.p99_ms - at_least.p99_ms for at_least, exactly in rounds if at_least and exactly]
        return statistics.median(extra_ms) if extra_ms else math.nan


@dataclass
class Outcome:
    """What was measured, by number of partitions, and what failed."""

    found: dict[int, Found]
    failures: list[str] = field(default_factory=list)

    def answer(self) -> dict[str, dict[str, dict[str, float]]]:
        """Return the machine-readable answer: guarantee -> partitions -> eps, p50_ms, p99_ms."""
        answer: dict[str, dict[str, dict[str, float]]] = {name: {} for name in GUARANTEES}
        for partitions, found in self.found.items():
            rows, latencies = found.rows(), found.latencies()
            for name in rows.keys() & latencies.keys():
                answer[name][str(partitions)] = {
                    "eps": round(rows[name].events_per_s, 1),
                    "p50_ms": round(latencies[name].p50_ms, 2),
                    "p99_ms": round(latencies[name].p99_ms, 2),
                }
        return answer

    def bars(self, transaction_interval_s: float) -> list[Bar]:
        """Return what exactly_once may cost, beside what it does."""
        bars = []
        for number, (partitions, found) in enumerate(self.found.items()):
            row = found.rows().get(EXACTLY_ONCE)
            ratio = math.nan if row is None or row.ratio is None else row.ratio
            if number == 0:
                what = f"events/s of exactly_once / at_least_once, {partitions} partitions"
                bars.append(Bar(what, ratio, LEAST_RATIO, at_least=True, digits=2))
            what = f"p99 over that of at_least_once, {partitions} partitions"
            limit_ms = 1000 * transaction_interval_s + MOST_EXTRA_MS
            spoiled = any(seen.behind for seen in found.latencies().values())
            bars.append(Bar(what, found.extra_p99_ms(), limit_ms, " ms", spoiled=spoiled))
        return bars


def table(outcome: Outcome) -> Table:
    """Draw the results for a terminal of 80 columns."""
    drawn = Table(
        title="The fraud pipeline under both guarantees: medians over rounds",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
        caption=f"latency at {RATE:,} events/s; * the sender fell behind its schedule: no verdict",
    )
    drawn.add_column("partitions", justify="right", no_wrap=True)
    drawn.add_column("guarantee", no_wrap=True)
    for heading in ("events/s", "ratio", "CPU µs", "p50 ms", "p99 ms", "extra"):
        drawn.add_column(heading, justify="right", no_wrap=True)
    for partitions, found in outcome.found.items():
        rows, latencies, extra_ms = found.rows(), found.latencies(), found.extra_p99_ms()
        for name in GUARANTEES:
            row, latency_ = rows.get(name), latencies.get(name)
            drawn.add_row(
                str(partitions),
                name + (" *" if latency_ and latency_.behind else ""),
                f"{row.events_per_s:,.0f}" if row else "failed",
                f"{row.ratio:.2f}" if row and row.ratio is not None and name == EXACTLY_ONCE else "",
                f"{row.cpu_us:.1f}" if row else "",
                f"{latency_.p50_ms:.1f}" if latency_ else "failed",
                f"{latency_.p99_ms:.1f}" if latency_ else "",
                f"{extra_ms:+.1f}" if name == EXACTLY_ONCE and not math.isnan(extra_ms) else "",
            )
        drawn.add_section()
    return drawn


def run(plan: Plan, bootstrap: str, said: Callable[[str], None]) -> Outcome:
    """Measure both guarantees on each number of partitions, and return what was found.

    Args:
        plan: what to do.
        bootstrap: a broker on this machine: sender and subscriber must share its clock.
        said: called with a line of progress.

    Raises:
        KafkaException: the broker is not there. A guarantee's failure is no error: it is in the outcome.
    """
    outcome = Outcome({partitions: Found() for partitions in plan.partitions})
    with contextlib.ExitStack() as stack:
        model = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headrace-bench-"))) / "model.onnx"
        write_network(model)  # every contender is handed one; the fraud pipeline brings its own
        sender = stack.enter_context(latency.probe("send", bootstrap))
        reader = stack.enter_context(latency.probe("read", bootstrap))
        for number, partitions in enumerate(plan.partitions):
            # Topics of their own, deleted before the next ones are made: 64 partitions are many files.
            with Topics(bootstrap) as topics:
                bench = _Bench(plan, partitions, topics, sender, reader, model, said)
                bench.fill()
                if number == 0:
                    bench.rehearse()
                for round_number in _rounds(plan):
                    bench.round(round_number, outcome)
    return outcome


def _rounds(plan: Plan) -> Iterator[int]:
    """As many rounds as the plan has, or as its budget allows."""
    longest_s = 0.0
    for number in range(plan.rounds):
        began_s = time.monotonic()
        if number and began_s - plan.began_s + longest_s > plan.budget_s:
            return
        yield number
        longest_s = max(longest_s, time.monotonic() - began_s)


@dataclass
class _Bench:
    """One number of partitions."""

    plan: Plan
    partitions: int
    topics: Topics
    sender: Child
    reader: Child
    model: Path
    said: Callable[[str], None]

    def fill(self) -> None:
        self.said(f"filling a topic of {self.partitions} partitions with {self.plan.events:,} transactions")
        self._source = self.topics.create("simulated", self.partitions)
        self.topics.fill(self._source, simulated_transactions(self.plan.events))

    def rehearse(self) -> None:
        """Run both once unmeasured: the broker compiles what a client asks of it for the first time."""
        for guarantee in GUARANTEES:
            self.said(f"rehearsing {guarantee}")
            # What fails here fails again where it is measured, and is reported there.
            with contextlib.suppress(ChildError, KafkaException, TimeoutError, ValueError):
                self._throughput(guarantee, "rehearsal")

    def round(self, number: int, outcome: Outcome) -> None:
        """Measure both, in turn; every second round in the other order."""
        found = outcome.found[self.partitions]
        for guarantee in GUARANTEES if number % 2 == 0 else reversed(GUARANTEES):
            label = f"{self.partitions} partitions, round {number + 1} of {self.plan.rounds}, {guarantee}"
            measured: Measurement | None = None
            seen: Latencies | None = None
            try:
                measured = self._throughput(guarantee, str(number))
                self.said(f"{label}: {measured.events_per_s:,.0f} events/s")
                seen = self._latency(guarantee, str(number))
                self.said(f"{label}: p50 {seen.p50_ms:.1f} ms, p99 {seen.p99_ms:.1f} ms")
            except (ChildError, KafkaException, TimeoutError, ValueError) as error:
                outcome.failures.append(f"{label}: {error}")
                self.said(f"{label}: failed")
            found.throughput[guarantee].append(measured)
            found.latency[guarantee].append(seen)

    def _throughput(self, guarantee: str, name: str) -> Measurement:
        sink = self.topics.create(f"{guarantee}.{name}", self.partitions)
        module = ("-m", "benchmarks.contenders.headrace_fraud", "--guarantee", guarantee)
        options = ("--bootstrap", self.topics.bootstrap, "--input", self._source, "--output", sink)
        count = self.plan.events
        with started(guarantee, (*module, *options, "--count", str(count), "--model", str(self.model))) as child:
            lines: Sequence[str] = child.finish(RUN_LIMIT_S).strip().splitlines()
            if not lines:
                raise child.failure("reported nothing")
            measured = Measurement.from_line(lines[-1])
        self._check(guarantee, sink, count)
        return measured

    def _latency(self, guarantee: str, name: str) -> Latencies:
        source, sink = (
            self.topics.create(f"{guarantee}.latency.{name}.{end}", self.partitions) for end in ("in", "out")
        )
        echo = Echo(guarantee, "", "benchmarks.contenders.headrace_fraud_echo", ("--guarantee", guarantee))
        pings = PINGS_A_PARTITION * self.partitions
        warm_up_s = max(self.plan.latency.warm_up_s, WARM_UP_S_A_PARTITION * self.partitions)
        plan = replace(self.plan.latency, warm_up_s=warm_up_s)
        with latency.echoing(echo, self.topics, source, sink, self.model, pings):
            return latency.measure(plan, RATE, self.topics, source, sink, self.sender, self.reader)

    def _check(self, guarantee: str, sink: str, count: int) -> None:
        """Count what a subscriber finds; and that there were transactions exactly where there should be.

        Raises:
            ValueError: something else is there.
        """
        written = self.topics.committed(sink)
        if written != count:
            raise ValueError(f"counting outputs of {guarantee}: expected {count} records in {sink}, got {written}")
        markers = self.topics.size(sink) - written
        if (markers > 0) != (guarantee == EXACTLY_ONCE):
            raise ValueError(
                f"looking for transactions of {guarantee}: {markers} markers in {sink}; was it used at all?"
            )


def transaction_interval_s() -> float:
    """How long outputs wait for their commit under exactly_once, as the contenders are configured."""
    return settings.load().worker.transaction_interval_s

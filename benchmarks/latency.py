"""Latency under open-loop load: contenders in turn, several rounds, from the scheduled send to the subscriber."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import KafkaException
from rich import box
from rich.table import Table

from benchmarks.contenders import Echo
from benchmarks.probe import AMOUNT, ReadRequest, SendRequest
from benchmarks.processes import Child, ChildError, started
from benchmarks.schedule import NS_PER_S, Latencies, Lateness, Schedule, combine
from benchmarks.topics import Topics
from benchmarks.work import transaction, write_network

PINGS = 64  # enough cards to reach all partitions
START_LIMIT_S = 60.0
DRAIN_LIMIT_S = 5.0
LEAD_S = 0.3  # from the request to the first event, for the reader to have its partitions


@dataclass(frozen=True)
class Plan:
    """What a latency run does: each contender, at each rate (events per second), in each round.

    `warm_up_s` is sent before the `measured_s` at the same rate, and left out of the numbers.
    """

    echoes: tuple[Echo, ...]
    rates: tuple[int, ...]
    rounds: int
    warm_up_s: float
    measured_s: float


@dataclass
class Outcome:
    """Latencies by rate and contender, one a round, and what failed."""

    measurements: dict[int, dict[str, list[Latencies]]]
    failures: list[str]

    def combined(self) -> dict[int, dict[str, Latencies]]:
        """Return rate -> contender -> the rounds reduced to one."""
        return {
            rate: {name: combine(rounds) for name, rounds in contenders.items() if rounds}
            for rate, contenders in self.measurements.items()
        }

    def by_rate(self) -> dict[str, dict[str, dict[str, float | int | bool]]]:
        """Return the machine-readable answer: rate -> contender -> fields."""
        return {
            str(rate): {name: latencies.rounded() for name, latencies in contenders.items()}
            for rate, contenders in self.combined().items()
        }


def table(combined: Mapping[int, Mapping[str, Latencies]]) -> Table:
    """Draw the results for a terminal."""
    drawn = Table(
        title="Latency from scheduled send to subscriber, ms: medians over rounds",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
        caption="* the sender fell behind its schedule: no verdict",
    )
    drawn.add_column("events/s", justify="right")
    drawn.add_column("contender")
    for heading in ("p50", "p99", "max", "achieved/s", "lost", "sent late"):
        drawn.add_column(heading, justify="right")
    for rate, contenders in combined.items():
        for name, latencies in contenders.items():
            drawn.add_row(
                f"{rate:,}",
                name + (" *" if latencies.behind else ""),
                f"{latencies.p50_ms:.1f}",
                f"{latencies.p99_ms:.1f}",
                f"{latencies.max_ms:.1f}",
                f"{latencies.achieved_per_s:,.0f}",
                str(latencies.lost),
                f"{latencies.sent_late_p99_ms:.1f}",
            )
        drawn.add_section()
    return drawn


def run(plan: Plan, bootstrap: str, said: Callable[[str], None]) -> Outcome:
    """Measure all contenders, one at a time, and return the latencies.

    Args:
        plan: what to do.
        bootstrap: a broker on this machine: sender and subscriber must share its clock.
        said: called with a line of progress.

    Raises:
        KafkaException: the broker is not there. A contender's failure is no error: it is in the outcome.
    """
    outcome = Outcome({rate: {echo.name: [] for echo in plan.echoes} for rate in plan.rates}, [])
    with contextlib.ExitStack() as stack:
        model = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headrace-bench-"))) / "model.onnx"
        write_network(model)
        topics = stack.enter_context(Topics(bootstrap))
        sender = stack.enter_context(probe("send", bootstrap))
        reader = stack.enter_context(probe("read", bootstrap))
        warm_broker(plan, topics, sender, reader, said)
        _rehearse(plan, topics, sender, reader, model, said)
        for number in range(plan.rounds):
            for echo in plan.echoes if number % 2 == 0 else reversed(plan.echoes):
                label = f"round {number + 1} of {plan.rounds}, {echo.name}"
                source, sink = (topics.create(f"{echo.name}.{number}.{end}") for end in ("in", "out"))
                try:
                    with echoing(echo, topics, source, sink, model):
                        for rate in plan.rates:
                            latencies = measure(plan, rate, topics, source, sink, sender, reader)
                            outcome.measurements[rate][echo.name].append(latencies)
                            said(f"{label}, {rate:,}/s: p50 {latencies.p50_ms:.1f} ms, p99 {latencies.p99_ms:.1f} ms")
                            _drain(topics, source, sink)
                except (ChildError, KafkaException, TimeoutError) as error:
                    outcome.failures.append(f"{label}: {error}")
                    said(f"{label}: failed")
    return outcome


def warm_broker(plan: Plan, topics: Topics, sender: Child, reader: Child, said: Callable[[str], None]) -> None:
    """Send straight to the reader: a broker's first seconds are slow, and would all be the first contender's."""
    topic, rate = topics.create("direct"), max(plan.rates)
    brief = dataclasses.replace(plan, warm_up_s=1.0, measured_s=3.0)
    floor = measure(brief, rate, topics, topic, topic, sender, reader)
    said(f"without a contender, {rate:,}/s: p50 {floor.p50_ms:.1f} ms, p99 {floor.p99_ms:.1f} ms")


def _rehearse(
    plan: Plan, topics: Topics, sender: Child, reader: Child, model: Path, said: Callable[[str], None]
) -> None:
    """Run each contender once unmeasured: the broker compiles what a client asks of it for the first time."""
    brief = dataclasses.replace(plan, warm_up_s=1.0, measured_s=3.0)
    for echo in plan.echoes:
        said(f"rehearsing {echo.name}")
        source, sink = (topics.create(f"{echo.name}.rehearsal.{end}") for end in ("in", "out"))
        # A contender that fails here fails again where it is measured, and is reported there.
        with contextlib.suppress(ChildError, KafkaException, TimeoutError), echoing(echo, topics, source, sink, model):
            measure(brief, max(plan.rates), topics, source, sink, sender, reader)


def probe(role: str, bootstrap: str) -> contextlib.AbstractContextManager[Child]:
    """Start the process that sends on schedule (`send`), or the subscriber (`read`)."""
    return started(f"probe {role}", ("-m", "benchmarks.probe", role, bootstrap), piped_input=True)


@contextlib.contextmanager
def echoing(echo: Echo, topics: Topics, source: str, sink: str, model: Path, pings: int = PINGS) -> Iterator[None]:
    """Keep a contender running inside the block, which begins when it has answered so many events."""
    options = ("--bootstrap", topics.bootstrap, "--input", source, "--output", sink, "--model", str(model))
    topics.fill(source, (transaction(index, AMOUNT, b"0") for index in range(pings)))
    with started(echo.name, (*echo.command, *options), scratch=model.parent) as child:
        limit_s = time.monotonic() + START_LIMIT_S
        while topics.committed(sink) < pings:
            if not child.running:
                raise child.failure("ended before its first outputs")
            if time.monotonic() > limit_s:
                raise child.failure(f"had not answered {pings} events after {START_LIMIT_S:.0f} s")
            time.sleep(0.1)
        try:
            yield
        except (ChildError, TimeoutError):
            if not child.running:
                raise child.failure("ended while it was measured") from None
            raise


def measure(plan: Plan, rate: int, topics: Topics, source: str, sink: str, sender: Child, reader: Child) -> Latencies:
    """Send at a rate for the plan's warm-up and measured span, and return what the subscriber saw.

    Raises:
        ChildError: no output came.
    """
    offsets = [end for _, end in sorted(topics.ends(sink).items())]
    start_ns = time.monotonic_ns() + int(LEAD_S * NS_PER_S)
    count = int(rate * (plan.warm_up_s + plan.measured_s))
    schedule = Schedule(start_ns, rate, count)
    measure_ns = schedule.at_ns(int(rate * plan.warm_up_s))
    deadline_ns = schedule.end_ns + int(DRAIN_LIMIT_S * NS_PER_S)
    asked = ReadRequest(sink, offsets, start_ns, measure_ns, count, deadline_ns)
    reader.ask(json.dumps(dataclasses.asdict(asked)))
    sender.ask(json.dumps(dataclasses.asdict(SendRequest(source, start_ns, rate, count))))
    lateness = Lateness(**json.loads(sender.answer()))
    answer = json.loads(reader.answer())
    if "error" in answer:
        raise ChildError(f"{answer['error']} in {sink} at {rate:,} events/s")
    latencies = Latencies(**answer)
    return dataclasses.replace(latencies, sent_late_p99_ms=lateness.p99_ms, behind=lateness.behind(rate))


def _drain(topics: Topics, source: str, sink: str) -> None:
    """Wait until what was sent has come out, so that one rate's backlog is not the next one's latency."""
    limit_s = time.monotonic() + DRAIN_LIMIT_S
    while (left := topics.size(source) - topics.committed(sink)) > 0:
        if time.monotonic() > limit_s:
            raise TimeoutError(f"draining {source}: expected as many outputs as inputs, {left} are still missing")
        time.sleep(0.1)

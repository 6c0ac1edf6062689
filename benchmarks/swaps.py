"""What a hot swap costs those who wait for predictions: latency without swaps, and with one after the other."""

from __future__ import annotations

import asyncio
import contextlib
import math
import statistics
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import psutil

from benchmarks import latency
from benchmarks.bars import Bar
from benchmarks.processes import ChildError
from benchmarks.schedule import Latencies
from benchmarks.topics import Topics
from benchmarks.workers import Flow, Worker, until
from models import manifest
from models.repository import Repository
from streams.promoting import Rollouts
from streams.rollout import Rollout
from streams.settings import Kafka, Models

RATE = 2_000  # modest, so that what is seen is the swaps and no queue
PLAN = latency.Plan((), (RATE,), 1, 3.0, 12.0)
QUICK = latency.Plan((), (RATE,), 1, 2.0, 5.0)
PARTITIONS = 4
SWAPS = 100
REPORT_S = 20.0
START_S = 60.0
TRUNCATED, FORGED, DIFFERENT = 4, 5, 6
SCHEDULE = (3, 2, 3, 2, TRUNCATED, 3, 2, 3, 2, FORGED, 3, 2, 3, 2, DIFFERENT)

MOST_TIMES = 2.0  # p99 during swaps / before
MOST_DRIFT = 0.02


@dataclass
class Outcome:
    """Latencies before and during swaps, and swaps by what came of them.

    `rss` is in bytes: at the beginning and the end of as long a flow without swaps, then after each swap. State grows
    with the events in both, so what counts is by how much more it grows with swaps.
    """

    before: Latencies | None = None
    during: Latencies | None = None
    rss: list[int] = field(default_factory=list)
    done: int = 0
    refused: int = 0
    seconds: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def answer(self) -> dict[str, float]:
        """Return the machine-readable answer."""
        if self.before is None or self.during is None:
            return {}
        return {
            "swaps": self.done,
            "refused": self.refused,
            "lost": self.before.lost + self.during.lost,
            "p99_before_ms": round(self.before.p99_ms, 2),
            "p99_during_ms": round(self.during.p99_ms, 2),
            "median_ms": round(1000 * statistics.median(self.seconds), 1),
            "rss_drift": round(self._drift(), 4),
        }

    def bars(self) -> list[Bar]:
        """Return what swaps may cost, beside what they do."""
        before, during = self.before, self.during
        if before is None or during is None:
            return []
        behind = before.behind or during.behind
        return [
            Bar("p99 during swaps / before", during.p99_ms / before.p99_ms, MOST_TIMES, digits=2, spoiled=behind),
            Bar("records lost over the swaps", before.lost + during.lost, 0, digits=0),
            Bar("RSS drift over the swaps", 100 * self._drift(), 100 * MOST_DRIFT, " %"),
        ]

    def _drift(self) -> float:
        if len(self.rss) < 4:
            return math.nan
        begun, ended, first, *_, last = self.rss
        return ((last - first) - (ended - begun)) / first


def run(quick: bool, bootstrap: str, said: Callable[[str], None]) -> Outcome:
    """Measure one fraud worker as a user starts it.

    Raises:
        KafkaException: the broker is not there.
    """
    outcome, plan = Outcome(), QUICK if quick else PLAN
    with contextlib.ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headrace-bench-")))
        _write_versions(root)
        topics = stack.enter_context(Topics(bootstrap))
        sender = stack.enter_context(latency.probe("send", bootstrap))
        reader = stack.enter_context(latency.probe("read", bootstrap))
        source, sink = topics.create("swaps.in", PARTITIONS), topics.create("swaps.out", PARTITIONS)
        flow = Flow(bootstrap, f"{source}.group", source, sink, "at_least_once")
        control = f"{source}.models"
        with _worker(flow, {"HEADRACE_MODELS__ROOT": str(root), "HEADRACE_MODELS__CONTROL": control}) as worker:
            process = psutil.Process(worker.pid)
            try:
                until(lambda: worker.owns(PARTITIONS), START_S, "the worker's partitions")
                latency.measure(plan, RATE, topics, source, sink, sender, reader)
                outcome.rss.append(process.memory_info().rss)
                outcome.before = latency.measure(plan, RATE, topics, source, sink, sender, reader)
                outcome.rss.append(process.memory_info().rss)
                said(f"without swaps: p99 {outcome.before.p99_ms:.1f} ms")
                with _Swapping(bootstrap, control, root, outcome, process):
                    outcome.during = latency.measure(plan, RATE, topics, source, sink, sender, reader)
                said(f"with {outcome.done} swaps, {outcome.refused} refused: p99 {outcome.during.p99_ms:.1f} ms")
            except (ChildError, TimeoutError) as error:
                outcome.failures.append(str(error))
    return outcome


def _write_versions(root: Path) -> None:
    """The bundled model as versions 2 and 3, and three that must never serve."""
    bundled = Repository().load("fraud", 2)
    for version in (2, 3, TRUNCATED, FORGED, DIFFERENT):
        own = msgspec.structs.replace(bundled.manifest, version=version)
        Repository([root]).save(bundled.onnx_bytes(), own, bundled.golden())
    network = root / "fraud" / str(TRUNCATED) / "model.onnx"
    network.write_bytes(network.read_bytes()[:-1000])
    other = bundled.golden()
    altered = {name: array + 0.25 for name, array in other.outputs.items()}
    golden = root / "fraud" / str(DIFFERENT) / "golden.npz"
    golden.write_bytes(type(other)(other.inputs, altered).encode())


@contextlib.contextmanager
def _worker(flow: Flow, more: Mapping[str, str]) -> Iterator[Worker]:
    worker = Worker(flow, more=more)
    try:
        yield worker
    finally:
        worker.stop()


class _Swapping:
    """Asks for one version after the other, each when the last one has been answered, for as long as it is open."""

    def __init__(self, bootstrap: str, control: str, root: Path, outcome: Outcome, process: psutil.Process) -> None:
        self._kafka, self._models = Kafka(bootstrap_servers=bootstrap), Models(control=control)
        self._root, self._outcome, self._process = root, outcome, process
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    async def _run(self) -> None:
        outcome, last = self._outcome, None
        async with Rollouts(self._kafka, self._models) as rollouts:
            for turn in range(10 * SWAPS):
                version = SCHEDULE[turn % len(SCHEDULE)]
                if (self._stop.is_set() and turn >= SWAPS) or outcome.failures:
                    break
                path = self._root / "fraud" / str(version) / "manifest.toml"
                sha256 = "0" * 64 if version == FORGED else manifest.decode(path.read_bytes(), path).sha256
                last = Rollout("fraud", version, sha256).after(last)
                offset = await rollouts.ask(last)
                async for report in rollouts.reports(offset, REPORT_S):
                    outcome.seconds.append(report.seconds)
                    outcome.done += not report.error
                    outcome.refused += bool(report.error)
                    if bool(report.error) != (version in (TRUNCATED, FORGED, DIFFERENT)):
                        outcome.failures.append(f"fraud/{version}: {report.error or 'served, and must not be'}")
                    break
                else:
                    outcome.failures.append(f"fraud/{version}: no answer within {REPORT_S:g} s")
                if turn >= len(SCHEDULE):  # the first ones are the warm-up of the allocator
                    outcome.rss.append(self._process.memory_info().rss)

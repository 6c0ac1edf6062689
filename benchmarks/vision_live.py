"""A vision worker as a user starts it, under frames that arrive on a schedule: at half load, and at three times it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.latency import DRAIN_LIMIT_S, LEAD_S
from benchmarks.processes import Child, ChildError, started
from benchmarks.schedule import NS_PER_S, Lateness
from benchmarks.topics import PARTITIONS, Topics
from benchmarks.vision_probe import Ages, Request
from benchmarks.workers import Flow, Worker, until

START_S = 60.0
DONE_S = 20.0
REHEARSED_S = 1.0  # the first frames of all: the broker compiles what it is asked for the first time


@dataclass(frozen=True)
class Detector:
    """A model that detects, and the folder that it is in."""

    name: str
    root: Path


@dataclass(frozen=True)
class Spans:
    """How long each load is sent: what is left out, and what is measured."""

    warm_up_s: float
    measured_s: float


@dataclass(frozen=True)
class Counts:
    """What a worker says of all the frames that it was sent."""

    sent: int
    done: int
    out: int
    dropped: int
    dead_lettered: int

    @property
    def add_up(self) -> bool:
        return self.sent == self.done == self.out + self.dropped + self.dead_lettered


class Load:
    """A process that detects, between the process that sends to its topic and the one that reads what comes of it."""

    def __init__(self, topics: Topics, source: str, sink: str, sender: Child, reader: Child, serving: Child) -> None:
        self._topics, self._sender, self._reader, self._serving = topics, sender, reader, serving
        self._source, self._sink = source, sink
        self._next = 0

    def ages(self, rate: int, spans: Spans) -> Ages:
        """Send at a rate, and say how old detections are when a subscriber has them.

        Raises:
            ChildError: none came, or a process has ended.
        """
        count = int(rate * (spans.warm_up_s + spans.measured_s))
        start_ns = time.monotonic_ns() + int(LEAD_S * NS_PER_S)
        request = Request(
            topic=self._source,
            sink=self._sink,
            offsets=[end for _, end in sorted(self._topics.ends(self._sink).items())],
            first=self._next,
            start_ns=start_ns,
            start_ms=int((time.time() + LEAD_S) * 1000),
            rate=rate,
            count=count,
            warm_up=int(rate * spans.warm_up_s),
            deadline_ns=start_ns + int((count / rate + DRAIN_LIMIT_S) * NS_PER_S),
        )
        self._next += count
        for process in (self._reader, self._sender):
            process.ask(json.dumps(dataclasses.asdict(request)))
        lateness, seen = Lateness(**json.loads(self._sender.answer())), json.loads(self._reader.answer())
        if "error" in seen:
            raise ChildError(f"{seen['error']} at {rate:,} frames/s") if self._serving.running else self._ended()
        return dataclasses.replace(Ages(**seen), sent_late_p99_ms=lateness.p99_ms, behind=lateness.behind(rate))

    def _ended(self) -> ChildError:
        return self._serving.failure("ended while it was measured")


class Stage(Load):
    """One worker between the two."""

    def __init__(self, topics: Topics, source: str, sink: str, sender: Child, reader: Child, worker: Worker) -> None:
        super().__init__(topics, source, sink, sender, reader, worker)
        self._worker = worker

    def counts(self) -> Counts:
        """What became of all frames, once the worker is done with them, or will not be."""
        sent = self._topics.size(self._source)
        with contextlib.suppress(TimeoutError):
            until(lambda: self._counted(sent).done == sent, DONE_S, "the last frames")
        return self._counted(sent)

    def _counted(self, sent: int) -> Counts:
        if not self._worker.running:
            raise self._ended()
        found = self._worker.metrics()
        done, out, dropped, dead = (
            int(found.get(f"headrace_records_{name}_total", 0)) for name in ("in", "out", "dropped", "dead_lettered")
        )
        return Counts(sent, done, out, dropped, dead)


@contextlib.contextmanager
def stage(detector: Detector, topics: Topics, frames: Path) -> Iterator[Stage]:
    """Keep a worker with its default settings, and the processes around it, inside the block.

    Raises:
        ChildError, TimeoutError: it does not start.
    """
    source, sink = (topics.create(f"{detector.name}.{end}") for end in ("in", "out"))
    flow = Flow(topics.bootstrap, f"{source}.group", source, sink, "at_least_once")
    own = {
        "MODELS__ROOT": str(detector.root),
        "MODELS__CONTROL": f"{source}.models",
        "VISION__INPUT": source,
        "VISION__OUTPUT": sink,
        "VISION__EVENTS": f"{sink}.events",
        "VISION__MODEL": detector.name,
    }
    with contextlib.ExitStack() as stack:
        sender, reader = _probes(stack, topics, frames)
        worker = Worker(flow, more={f"HEADRACE_{name}": value for name, value in own.items()}, pipeline="vision")
        stack.callback(worker.stop)
        until(lambda: worker.owns(PARTITIONS), START_S, "the worker's partitions")
        yield Stage(topics, source, sink, sender, reader, worker)


@contextlib.contextmanager
def loop(detector: Detector, topics: Topics, frames: Path, threads: int) -> Iterator[Load]:
    """Keep a plain loop with so many threads, and the processes around it, inside the block.

    Raises:
        ChildError: it does not start.
    """
    source, sink = (topics.create(f"{detector.name}.loop.{end}") for end in ("in", "out"))
    words = (topics.bootstrap, source, sink, str(detector.root), detector.name, str(threads))
    with contextlib.ExitStack() as stack:
        sender, reader = _probes(stack, topics, frames)
        serving = stack.enter_context(started("plain loop", ("-m", "benchmarks.vision_loop", *words)))
        serving.answer()
        yield Load(topics, source, sink, sender, reader, serving)


def _probes(stack: contextlib.ExitStack, topics: Topics, frames: Path) -> tuple[Child, Child]:
    """The process that sends and the one that reads."""
    sender, reader = (
        stack.enter_context(
            started(role, ("-m", "benchmarks.vision_probe", role, topics.bootstrap, str(frames)), piped_input=True)
        )
        for role in ("send", "read")
    )
    return sender, reader


@dataclass(frozen=True)
class Live:
    """A worker's detections at half load and under overload, what became of all frames, and what a plain loop does at
    that half load, if that was measured."""

    half: Ages
    over: Ages
    counts: Counts
    plain: Ages | None = None


def measure(
    detector: Detector,
    fps: float,
    spans: Spans,
    topics: Topics,
    frames: Path,
    plain: contextlib.AbstractContextManager[Load] | None,
) -> Live:
    """Measure a worker that does `fps` frames a second, at half and at three times that, and a plain loop at half.

    Raises:
        ChildError, TimeoutError: it did not start, or has ended.
    """
    half, over = max(1, math.floor(fps / 2)), math.ceil(3 * fps)
    with stage(detector, topics, frames) as live:
        live.ages(half, Spans(0, REHEARSED_S))
        at_half, beside = live.ages(half, spans), None
        if plain is not None:
            with plain as other:
                other.ages(half, Spans(0, REHEARSED_S))
                beside = other.ages(half, spans)
        return Live(at_half, live.ages(over, spans), live.counts(), beside)

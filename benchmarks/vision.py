"""Vision: a worker beside a bare loop over the same frames, its latency at half load, its staleness under overload."""

from __future__ import annotations

import contextlib
import json
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import click
from confluent_kafka import KafkaException
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks import bars
from benchmarks.bars import Bar
from benchmarks.brokers import broker
from benchmarks.contenders.contract import Measurement
from benchmarks.frames import CAMERAS, Frames
from benchmarks.processes import ROOT, Child, ChildError, exit_on_sigterm, started
from benchmarks.topics import Topics
from benchmarks.vision_bare import Run
from benchmarks.vision_live import Detector, Live, Spans, measure
from connectors.contract import ConnectorError
from models.repository import Repository
from streams.pipelines.vision.served import threads
from streams.settings import Vision

SHARED = ROOT.parent / "shared" / "data"
FASTESTDET = SHARED / "models" / "FastestDet.onnx"
LABELS = SHARED / "detection" / "coco.names"

HEADRACE, BARE = "headrace", "bare"
VARIANTS: Mapping[str, Mapping[str, Any]] = {HEADRACE: {}}
"""Contender -> what its section `vision` says beside the defaults; each one's cost is that of `HEADRACE` beside it."""

RUN_LIMIT_S = 180.0
LEAST_OF_BARE = 0.9
MOST_ADDED_MS = 20.0
MOST_STALE_MS = 500.0
LEAST_OF_VARIANT = 0.9


@dataclass(frozen=True)
class Plan:
    """What a run does.

    Attributes:
        each: different frames of every camera.
        frames: in the topic that is filled beforehand.
        singles: frames that the bare loop does one by one.
        engine_s: how long the network by itself is run at each batch.
    """

    each: int
    frames: int
    singles: int
    rounds: int
    spans: Spans
    engine_s: float


FULL = Plan(each=40, frames=2_400, singles=400, rounds=5, spans=Spans(2.0, 10.0), engine_s=2.0)
QUICK = Plan(each=16, frames=320, singles=50, rounds=1, spans=Spans(0.5, 2.0), engine_s=0.3)


@dataclass
class Found:
    """What was measured with one detector; of `throughput` and `bare`, one a round."""

    throughput: dict[str, list[Measurement]] = field(default_factory=lambda: {name: [] for name in VARIANTS})
    bare: list[Run] = field(default_factory=list)
    single: Run | None = None
    live: Live | None = None
    engines: dict[str, Any] = field(default_factory=dict)

    def fps(self, name: str = HEADRACE) -> float:
        """Frames a second, median over rounds; NaN where none was measured."""
        return _median([each.events_per_s for each in self.throughput[name]])

    def cpu_ms(self, name: str = HEADRACE) -> float:
        return _median([each.cpu_us / 1000 for each in self.throughput[name]])

    @property
    def bare_fps(self) -> float:
        return _median([each.fps for each in self.bare])

    @property
    def bare_cpu_ms(self) -> float:
        return _median([each.cpu_us / 1000 for each in self.bare])

    @property
    def ratio(self) -> float:
        """Of the worker to the bare loop, in the same round; median over rounds."""
        pairs = zip(self.throughput[HEADRACE], self.bare, strict=False)
        return _median([own.events_per_s / bare.fps for own, bare in pairs])

    def answer(self) -> dict[str, Any]:
        """Return the machine-readable answer."""
        single, live = self.single, self.live
        headrace = {"fps": self.fps(), "cpu_ms": self.cpu_ms(), "p95_ms": live.half.p95_ms if live else math.nan}
        bare = {"fps": self.bare_fps, "cpu_ms": self.bare_cpu_ms}
        if single is not None:
            bare |= {"frame_ms": single.p50_ms, "p95_ms": single.p95_ms}
        answer: dict[str, Any] = {HEADRACE: headrace, BARE: bare, "ratio": self.ratio}
        answer |= {name: {"fps": self.fps(name)} for name in VARIANTS if name != HEADRACE}
        if live is not None:
            counts = asdict(live.counts) | {"add_up": live.counts.add_up}
            answer |= {"half_load": asdict(live.half), "overload": asdict(live.over), "counts": counts}
        rounded: dict[str, Any] = _rounded(answer)
        return rounded | {"network": self.engines}

    def bars(self, detector: str) -> list[Bar]:
        """Return what a worker may cost, beside what it does."""
        found = [Bar(f"{detector}: frames/s / bare loop", self.ratio, LEAST_OF_BARE, "", True, 2)]
        for name in VARIANTS:
            if name != HEADRACE:
                share = self.fps() / self.fps(name)
                found.append(Bar(f"{detector}: frames/s / {name}", share, LEAST_OF_VARIANT, "", True, 2))
        if self.live is None or self.single is None:
            return found
        half, over, counts = self.live.half, self.live.over, self.live.counts
        lost = abs(counts.sent - counts.out - counts.dropped - counts.dead_lettered)
        served = sum(published > 0 for published in over.by_camera)
        return [
            *found,
            Bar(
                f"{detector}: p95 at half load",
                half.p95_ms,
                self.single.p50_ms + MOST_ADDED_MS,
                " ms",
                spoiled=half.behind,
            ),
            Bar(f"{detector}: p95 age at 3 x overload", over.p95_ms, MOST_STALE_MS, " ms", digits=0),
            Bar(f"{detector}: cameras served at overload", served, CAMERAS, "", True, 0),
            Bar(f"{detector}: frames unaccounted for", lost, 0, digits=0),
        ]


@dataclass
class Outcome:
    """What was found by detector, what was left out and why, and what failed."""

    detectors: dict[str, Found] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def answer(self) -> dict[str, Any]:
        """Return the machine-readable answer: that of the bundled detector, or the first, and those of all."""
        all_of_them = {name: found.answer() for name, found in self.detectors.items()}
        first = next(reversed(all_of_them.values()), {})
        return first | {"detectors": all_of_them, "skipped": self.skipped}

    def bars(self) -> list[Bar]:
        return [bar for name, found in self.detectors.items() for bar in found.bars(name)]


def run(plan: Plan, bootstrap: str, frames: Path, scratch: Path, said: Callable[[str], None]) -> Outcome:
    """Measure each detector that there is.

    Args:
        frames: the file that `benchmarks.frames` has written.
        scratch: a folder for models and temporary files.

    Raises:
        KafkaException: the broker is not there.
    """
    outcome = Outcome()
    with Topics(bootstrap) as topics:
        source = topics.create("frames")
        said(f"filling a topic with {plan.frames:,} frames")
        start_ms = int(time.time() * 1000) - plan.frames * 1000
        topics.fill(source, Frames.load(frames).records(plan.frames, start_ms))
        for detector in _detectors(scratch, outcome):
            found = outcome.detectors[detector.name] = Found()
            try:
                _measure(plan, detector, topics, source, frames, found, outcome, said)
            except (ChildError, KafkaException, TimeoutError, ValueError) as error:
                outcome.failures.append(f"{detector.name}: {error}")
                said(f"{detector.name}: failed")
    return outcome


def _detectors(scratch: Path, outcome: Outcome) -> Iterator[Detector]:
    """FastestDet, added as a user adds it, and the bundled one."""
    root = scratch / "models"
    if not FASTESTDET.is_file():
        outcome.skipped.append(f"fastestdet: there is no {FASTESTDET}")
    else:
        named = {"task": "detect", "family": "fastestdet", "labels": str(LABELS), "root": str(root)}
        described = named | {"licence": "BSD-3-Clause", "description": "FastestDet, 80 classes of COCO."}
        options = [word for name, value in described.items() for word in (f"--{name}", value)]
        with started(
            "models add", ("-m", "streams.cli", "models", "add", str(FASTESTDET), "fastestdet", *options)
        ) as child:
            child.finish(RUN_LIMIT_S)
        yield Detector("fastestdet", root)
    if "vision" in Repository().names():
        yield Detector("vision", root)
    else:
        outcome.skipped.append("vision: no detector is bundled under that name")


def _measure(
    plan: Plan,
    detector: Detector,
    topics: Topics,
    source: str,
    frames: Path,
    found: Found,
    outcome: Outcome,
    said: Callable[[str], None],
) -> None:
    common = (str(detector.root), detector.name)
    width, batch = str(threads(Vision())), Vision().max_batch_size
    bare_loop = ("-m", "benchmarks.vision_bare", str(frames), *common, width)
    with started("bare loop", bare_loop, piped_input=True) as bare:
        for number in range(plan.rounds):
            label = f"{detector.name}, round {number + 1} of {plan.rounds}"
            # There and back again: neither always follows the other.
            for name in (*VARIANTS, BARE) if number % 2 == 0 else (BARE, *reversed(list(VARIANTS))):
                if name == BARE:
                    found.bare.append(_bare(bare, plan.frames, batch))
                    said(f"{label}, bare loop: {found.bare[-1].fps:,.0f} frames/s")
                    continue
                sink = topics.create(f"{detector.name}.{name}.{number}")
                found.throughput[name].append(_throughput(detector, name, topics, source, sink, plan.frames, batch))
                said(f"{label}, {name}: {found.throughput[name][-1].events_per_s:,.0f} frames/s")
        found.single = _bare(bare, plan.singles, 1)
    found.live = measure(detector, found.fps(), plan.spans, topics, frames)
    half, over = found.live.half, found.live.over
    said(f"{detector.name}: p95 {half.p95_ms:.1f} ms at half load, {over.p95_ms:.0f} ms old at three times the load")
    with started("network", ("-m", "benchmarks.vision_engines", *common, str(plan.engine_s), width)) as child:
        found.engines = json.loads(child.finish(RUN_LIMIT_S).splitlines()[-1])


def _bare(bare: Child, count: int, batch: int) -> Run:
    bare.ask(json.dumps({"count": count, "batch": batch}))
    return Run(**json.loads(bare.answer()))


def _throughput(
    detector: Detector, name: str, topics: Topics, source: str, sink: str, count: int, batch: int
) -> Measurement:
    options = {
        "bootstrap": topics.bootstrap,
        "input": source,
        "output": sink,
        "root": str(detector.root),
        "count": str(count),
        "vision": json.dumps({"model": detector.name, "max_batch_size": batch} | dict(VARIANTS[name])),
    }
    words = [word for option, value in options.items() for word in (f"--{option}", value)]
    with started(name, ("-m", "benchmarks.contenders.headrace_vision", *words)) as child:
        lines = child.finish(RUN_LIMIT_S).splitlines()
        if not lines:
            raise child.failure("reported nothing")
    if (written := topics.size(sink)) != count:
        raise ValueError(f"counting outputs of {name}: expected {count} records in {sink}, got {written}")
    return Measurement.from_line(lines[-1])


def table(outcome: Outcome) -> Table:
    """Draw what was found for a terminal of 80 columns."""
    drawn = Table(title=f"Vision: {CAMERAS} cameras", box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    drawn.add_column("")
    answers = {name: _lines(found) for name, found in outcome.detectors.items()}
    for name in answers:
        drawn.add_column(name, justify="right")
    for line in dict.fromkeys(line for lines in answers.values() for line in lines):
        drawn.add_row(line, *(lines.get(line, "") for lines in answers.values()))
    return drawn


def _lines(found: Found) -> dict[str, str]:
    lines = {
        "frames/s of a worker": f"{found.fps():,.0f}",
        "frames/s of the bare loop": f"{found.bare_fps:,.0f}",
        "CPU ms a frame, worker / bare": f"{found.cpu_ms():.2f} / {found.bare_cpu_ms:.2f}",
    }
    lines |= {f"frames/s, {name}": f"{found.fps(name):,.0f}" for name in VARIANTS if name != HEADRACE}
    if found.single is not None:
        lines["one frame in the bare loop, ms: p50 / p95"] = f"{found.single.p50_ms:.1f} / {found.single.p95_ms:.1f}"
    if found.live is not None:
        for load, ages in (("half load", found.live.half), ("3 x overload", found.live.over)):
            mark = " *" if ages.behind else ""
            lines[f"{load}, ms: p50 / p95"] = f"{ages.p50_ms:.1f} / {ages.p95_ms:.1f}{mark}"
        shares = found.live.over.by_camera
        lines["frames of a camera published at overload"] = f"{min(shares)} to {max(shares)}"
    for engine, batches in found.engines.items():
        if isinstance(batches, Mapping):
            for size, each in batches.items():
                shown = f"{each['fps']:,.0f} ({each['fps_per_core']:,.0f} a core)"
                lines[f"network alone on {engine}, batch {size}, frames/s"] = shown
    return lines


def _median(values: list[float]) -> float:
    return statistics.median(values) if values else math.nan


def _rounded(value: Any) -> Any:
    """Numbers with two decimals; JSON has no NaN."""
    if isinstance(value, dict):
        return {name: _rounded(each) for name, each in value.items()}
    if isinstance(value, float):
        return round(value, 2) if math.isfinite(value) else None
    return value


@contextlib.contextmanager
def _drawing(plan: Plan, path: Path) -> Iterator[Child]:
    """Have the frames drawn and encoded in a process of their own, while something else starts."""
    with started("frames", ("-m", "benchmarks.frames", str(path), str(plan.each))) as child:
        yield child


@click.command("vision")
@click.option("--bootstrap", metavar="HOST:PORT", help="Use this broker, on this machine, instead of starting one.")
@click.option("--quick", is_flag=True, help="Everything once, small, in under 50 s: a look, not a measurement.")
@click.option("--json", "as_json", is_flag=True, help="The last line on stdout is the answer as one JSON object.")
def vision_command(bootstrap: str | None, quick: bool, as_json: bool) -> None:
    """Frames per second, latency and staleness of a vision worker, beside a bare loop with the same parts.

    JPEGs of 640x480 from 8 simulated cameras, encoded once. Measured with FastestDet, where ../shared/data has it, and
    with the bundled detector.

    \b
    frames/s       a worker on a topic filled beforehand, and a loop in memory: decode, fit, run, read, suppress, with
                   the same threads and largest batch; in turn
    half load      p95 from the scheduled send to the subscriber, at half the frames/s of the worker
    3 x overload   p95 age of what is published by a worker that leaves out what is overtaken
    network alone  frames/s, and of each core that it takes, in batches of 1, 4 and 16; up to 64 on a GPU

    --json: headrace (fps, cpu_ms, p95_ms), bare (fps, cpu_ms, frame_ms, p95_ms), ratio, half_load, overload, counts and
    network of the bundled detector, or the only one, and the same for each under detectors. Exit code 1 if something
    could not be measured; a bar missed is no failure.
    """
    plan = QUICK if quick else FULL

    def say(line: str) -> None:
        click.echo(line, err=True)

    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder, exit_on_sigterm():
        scratch = Path(folder)
        frames = scratch / "frames"
        try:
            with _drawing(plan, frames) as drawing, broker(bootstrap, say) as address:
                drawing.finish(RUN_LIMIT_S)
                outcome = run(plan, address, frames, scratch, say)
        except (ConnectorError, ChildError) as error:
            raise click.ClickException(str(error)) from error
        except KafkaException as error:
            raise click.ClickException(f"talking to the broker: {error.args[0].str()}; nothing was measured") from error
    _finish(outcome, as_json)


def _finish(outcome: Outcome, as_json: bool) -> None:
    console = Console(stderr=as_json)
    console.print(table(outcome))
    console.print(bars.table(outcome.bars()))
    for reason in outcome.skipped:
        click.echo(f"skipped: {reason}", err=True)
    for failure in outcome.failures:
        click.echo(f"failed: {failure}", err=True)
    if as_json:
        sys.stdout.write(json.dumps(outcome.answer()) + "\n")
    if outcome.failures or not outcome.detectors:
        sys.exit(1)

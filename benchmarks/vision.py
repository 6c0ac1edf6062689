"""Vision: a worker beside a bare loop over the same frames, its latency at half load, its staleness under overload."""

from __future__ import annotations

import json
import math
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import click
from confluent_kafka import KafkaException
from rich.console import Console

from benchmarks import bars
from benchmarks.brokers import broker
from benchmarks.contenders.contract import Measurement
from benchmarks.frames import Frames
from benchmarks.processes import ROOT, Child, ChildError, exit_on_sigterm, started
from benchmarks.speeds import Run, Speed
from benchmarks.topics import Topics
from benchmarks.vision_found import BARE, HEADRACE, UNTRACKED, Found, Outcome, table
from benchmarks.vision_live import Detector, Spans, loop, measure
from connectors.contract import ConnectorError
from models.repository import Repository
from streams.settings import Vision

SHARED = ROOT.parent / "shared" / "data"
FASTESTDET = SHARED / "models" / "FastestDet.onnx"
LABELS = SHARED / "detection" / "coco.names"

BUNDLED, ADDED = "vision", "fastestdet"
WORKERS: Mapping[str, tuple[str, ...]] = {HEADRACE: (), UNTRACKED: ("--untracked",)}
"""Contender -> options of `benchmarks.contenders.headrace_vision`."""

RUN_LIMIT_S = 180.0


@dataclass(frozen=True)
class Plan:
    """What a run does.

    Attributes:
        each: different frames of every camera.
        frames: in the topic that is filled beforehand.
        singles: frames that the bare loop does one by one.
        engine_s: how long the network by itself is run at each batch.
        beside: whether a worker without tracks and a plain loop are measured, too.
        budget_s: a second detector that would probably not be done so long after the start is left out.
    """

    each: int
    frames: int
    singles: int
    rounds: int
    spans: Spans
    engine_s: float
    beside: bool
    budget_s: float


FULL = Plan(
    each=40,
    frames=1_200,
    singles=200,
    rounds=9,
    spans=Spans(2.0, 10.0),
    engine_s=2.0,
    beside=True,
    budget_s=math.inf,
)
QUICK = Plan(
    each=16, frames=240, singles=30, rounds=1, spans=Spans(0.5, 1.5), engine_s=0.2, beside=False, budget_s=42.0
)


def run(
    plan: Plan, bootstrap: str, frames: Path, scratch: Path, began_s: float, said: Callable[[str], None]
) -> Outcome:
    """Measure each detector that there is.

    Args:
        frames: the file that `benchmarks.frames` has written.
        scratch: a folder for models.
        began_s: `time.monotonic()` when the command began.

    Raises:
        KafkaException: the broker is not there.
    """
    outcome, longest_s = Outcome(), 0.0
    with Topics(bootstrap) as topics:
        source = topics.create("frames")
        said(f"filling a topic with {plan.frames:,} frames")
        start_ms = int(time.time() * 1000) - plan.frames * 1000
        topics.fill(source, Frames.load(frames).records(plan.frames, start_ms))
        for name in (BUNDLED, ADDED):
            started_s = time.monotonic()
            if (reason := _why_not(name)) or started_s - began_s + longest_s > plan.budget_s:
                outcome.skipped.append(f"{name}: {reason or 'there was no time left'}")
                continue
            found = outcome.detectors[name] = Found()
            try:
                detector = _detector(name, scratch / "models")
                _measure(plan, detector, topics, source, frames, found, said)
            except (ChildError, KafkaException, TimeoutError, ValueError) as error:
                outcome.failures.append(f"{name}: {error}")
                said(f"{name}: failed")
            longest_s = max(longest_s, time.monotonic() - started_s)
    return outcome


def _why_not(name: str) -> str:
    """Why a detector is left out; empty where it is there."""
    if name == BUNDLED:
        return "" if name in Repository().names() else "no detector is bundled under that name"
    return "" if FASTESTDET.is_file() else f"there is no {FASTESTDET}"


def _detector(name: str, root: Path) -> Detector:
    """The detector, in a folder of the user's own or bundled.

    Raises:
        ChildError: it could not be added.
    """
    if name == ADDED:
        about = {"licence": "BSD-3-Clause", "description": "80 classes of COCO.", "root": str(root)}
        named = {"task": "detect", "family": name, "labels": str(LABELS)} | about
        options = [word for option, value in named.items() for word in (f"--{option}", value)]
        with started("models add", ("-m", "streams.cli", "models", "add", str(FASTESTDET), name, *options)) as child:
            child.finish(RUN_LIMIT_S)
    return Detector(name, root)


def _measure(
    plan: Plan,
    detector: Detector,
    topics: Topics,
    source: str,
    frames: Path,
    found: Found,
    said: Callable[[str], None],
) -> None:
    from streams.pipelines.vision.served import threads  # loads OpenCV, which the other benchmarks do without

    common = (str(detector.root), detector.name)
    width, batch = str(threads(Vision())), Vision().max_batch_size
    bare_loop = ("-m", "benchmarks.vision_bare", str(frames), *common, width)
    with started("bare loop", bare_loop, piped_input=True) as bare:
        for number in range(plan.rounds):
            # There and back again: none always follows the same other one.
            names = [name for name in found.throughput if plan.beside or name != UNTRACKED]
            for name in names if number % 2 == 0 else reversed(names):
                if name == BARE:
                    speed: Speed = _bare(bare, plan.frames, batch)
                else:
                    sink = topics.create(f"{detector.name}.{name}.{number}")
                    speed = _worker(detector, name, topics, source, sink, plan.frames, batch)
                found.throughput[name].append(speed)
                said(f"{detector.name}, round {number + 1} of {plan.rounds}, {name}: {speed.fps:,.0f} frames/s")
        found.single = _bare(bare, plan.singles, 1)
    plain = loop(detector, topics, frames, int(width)) if plan.beside else None
    found.live = measure(detector, found.fps(HEADRACE), plan.spans, topics, frames, plain)
    half, over = found.live.half, found.live.over
    said(f"{detector.name}: p95 {half.p95_ms:.1f} ms at half load, {over.p95_ms:.0f} ms old at three times the load")
    with started("network", ("-m", "benchmarks.vision_engines", *common, str(plan.engine_s), width)) as child:
        found.network = json.loads(child.finish(RUN_LIMIT_S).splitlines()[-1])


def _bare(bare: Child, count: int, batch: int) -> Run:
    bare.ask(json.dumps({"count": count, "batch": batch}))
    return Run(**json.loads(bare.answer()))


def _worker(detector: Detector, name: str, topics: Topics, source: str, sink: str, count: int, batch: int) -> Speed:
    options = {
        "bootstrap": topics.bootstrap,
        "input": source,
        "output": sink,
        "root": str(detector.root),
        "count": str(count),
        "vision": json.dumps({"model": detector.name, "max_batch_size": batch}),
    }
    words = [word for option, value in options.items() for word in (f"--{option}", value)]
    with started(name, ("-m", "benchmarks.contenders.headrace_vision", *words, *WORKERS[name])) as child:
        lines = child.finish(RUN_LIMIT_S).splitlines()
        if not lines:
            raise child.failure("reported nothing")
    if (written := topics.size(sink)) != count:
        raise ValueError(f"counting outputs of {name}: expected {count} records in {sink}, got {written}")
    measured = Measurement.from_line(lines[-1])
    return Speed(measured.events_per_s, measured.cpu_us)


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
    untracked      that worker without tracks, events and state
    half load      p95 from the scheduled send to the subscriber, at half the frames/s of the worker; beside it, a
                   plain loop with aiokafka and ONNX Runtime, without order, tracks, events, state or dead letters
    3 x overload   p95 age of what is published by a worker that leaves out what is overtaken
    network alone  frames/s, and of each core that it takes, in batches of 1, 4 and 16; up to 64 on a GPU

    --json: headrace (fps, cpu_ms, p95_ms), untracked (fps, cpu_ms), bare (fps, cpu_ms, frame_ms, p95_ms), ratios,
    half_load, plain_loop, overload, counts and network of the bundled detector, or the only one; detectors has those
    of each. Exit code 1 if something could not be measured; a bar missed is no failure.
    """
    began_s, plan = time.monotonic(), QUICK if quick else FULL

    def say(line: str) -> None:
        click.echo(line, err=True)

    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder, exit_on_sigterm():
        scratch = Path(folder)
        frames = scratch / "frames"
        try:
            with (
                started("frames", ("-m", "benchmarks.frames", str(frames), str(plan.each))) as drawing,
                broker(bootstrap, say, optimising=False) as address,
            ):
                drawing.finish(RUN_LIMIT_S)
                outcome = run(plan, address, frames, scratch, began_s, say)
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

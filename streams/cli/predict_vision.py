"""`headrace predict vision`: a detector or a classifier over a film or pictures, without a broker."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from models.selection import AUTO, ENGINES
from streams.cli.console import Finite, Meter, pipe_safe, summary
from streams.cli.losses import incomplete, losses
from streams.cli.predicting import DeadLetters, check_apart, predictions_file
from streams.cli.roots import parse_reference

if TYPE_CHECKING:
    from connectors.video import VideoFrame, VideoSource
    from streams.cli.canvas import Canvas
    from streams.replay import Replayed
    from streams.settings import Settings


@click.command()
@click.option(
    "--from", "source", required=True, metavar="SOURCE", help="A video file, or a folder of pictures, or one."
)
@click.option(
    "--model", "reference", metavar="NAME[/VERSION]", help="A model with the task detect or classify.  [vision.model]"
)
@click.option("--camera", metavar="ID", default="camera-1", show_default=True, help="Whose frames they are.")
@click.option("--fps", type=Finite(0, 1000), default=0, help="Look at so many frames a second.  [all]")
@click.option("--score", type=Finite(0, 1), help="The least score of an object.  [the setting, or the model's]")
@click.option(
    "--draw",
    metavar="OUT.mp4|OUT.png",
    help="Also draw boxes, labels and tracks, or classes: a film, or one picture.",
)
@click.option("--snapshots", metavar="DIR", help="Also write the best picture of each track of a detector's.")
@click.option(
    "--events", metavar="FILE", help="Also write what happens, as on `video.events`: lives, zones, distances."
)
@click.option("--output", metavar="FILE", help="Where the detections go.  [standard output]")
@click.option("--engine", type=click.Choice([AUTO, *ENGINES]), help="What runs it.  [vision.engine: auto]")
@click.option(
    "--strict", is_flag=True, help="Exit code 1 where there were dead letters, or a film is damaged or cut off."
)
@click.option(
    "--root",
    type=click.Path(file_okay=False),
    help="Folder of your own models.  [default: the setting models.root, .headrace/models]",
)
def vision(
    source: str,
    reference: str | None,
    camera: str,
    fps: float,
    score: float | None,
    draw: str | None,
    snapshots: str | None,
    events: str | None,
    output: str | None,
    engine: str | None,
    strict: bool,
    root: str | None,
) -> None:
    """Find objects in a film or in pictures, and follow them from frame to frame of a film: the code that serves
    `video.frames`, without a broker.

    Detections come as JSON lines on standard output, one for each frame, as on `video.detections`: boxes are in pixels
    of the frame. Of pictures each line ends with the name of its `file`. A frame that can never succeed comes as a JSON
    line on standard error, with its number, its file and the reason. What of a film cannot be decoded is counted, and
    of one that is cut off it is said where.
    What happens in a film, as on `video.events`, goes to --events. Thresholds, cameras and zones are those of the
    section `vision` of the settings.

    A classifier gives each frame's most probable labels instead, as many as `vision.top` says; it follows nothing.

    \b
    Examples:
      headrace predict vision --from gate.mp4 --camera gate > detections.jsonl
      headrace predict vision --model yolox_nano --from gate.mp4 --draw seen.mp4 --events events.jsonl
      headrace predict vision --model fastestdet --from dog.jpg --draw seen.png
      headrace predict vision --model yolox_nano --from pictures/ | jq '.objects[].label'
      headrace predict vision --model cells --from slides/ | jq -c '.classes[0]'
    """
    from connectors.video import Wanted, open_video
    from streams.cli.canvas import Canvas
    from streams.clock import SystemClock
    from streams.pipelines import PIPELINES

    if not camera:
        raise click.BadParameter("expected an id, got nothing", param_hint="'--camera'")
    check_apart({"--from": source}, {"--draw": draw, "--events": events, "--output": output})
    loaded, clock = _settings(reference, score, engine, root), SystemClock()
    with ExitStack() as stack:
        canvas = stack.enter_context(Canvas(draw, snapshots, loaded.vision)) if draw or snapshots else None
        still = _still(source)
        wanted = Wanted(0 if still else fps)
        opened = stack.enter_context(open_video(source, lambda: int(clock.time() * 1000), wanted, speed=0))
        if opened.live:
            raise click.UsageError("--from is a film or pictures; a stream goes through `headrace produce video`")
        frames = iter(opened) if canvas is None or canvas.picture is None else _one(opened, canvas.picture)
        pipeline = PIPELINES["vision"].build(loaded)
        stack.callback(pipeline.close)
        if pipeline.new_store() is None:
            _refuse(pipeline.served.model, {"--score": score, "--snapshots": snapshots, "--events": events})
        for option, value in {"--snapshots": snapshots, "--events": events}.items() if still else ():
            if value is not None:
                raise click.UsageError(
                    f"{option} is for what is followed through a film; pictures are each by themselves"
                )
        target = stack.enter_context(predictions_file(output)) if output else sys.stdout.buffer
        told = stack.enter_context(predictions_file(events)) if events else None
        stack.enter_context(pipe_safe())
        # Pictures have nothing to do with each other: one at a time, and nothing is remembered of it.
        at_once = 1 if still else pipeline.batch.max_batch_size
        job = _Job(opened, frames, pipeline, at_once, not still, canvas, target, told, camera)
        try:
            job.run()
        finally:
            job.summarise()
    if strict and (job.dead.stages or incomplete(opened.counters)):
        sys.exit(1)


def _settings(reference: str | None, score: float | None, engine: str | None, root: str | None) -> Settings:
    import msgspec

    from streams import settings

    name, version = parse_reference(reference) if reference is not None else (None, None)
    said: dict[str, dict[str, Any]] = {
        "vision": {"model": name, "score_threshold": score, "engine": engine},
        "models": {"root": root},
    }
    loaded = settings.load(overrides=said)
    if name is None:
        return loaded
    # A version that the settings fix is one of their own model.
    return msgspec.structs.replace(loaded, vision=msgspec.structs.replace(loaded.vision, version=version))


def _refuse(model: str, options: dict[str, object]) -> None:
    """Raises: UsageError: an option is about objects, and the model is a classifier."""
    for option, value in options.items():
        if value is not None:
            raise click.UsageError(f"{option} is for objects; {model} is a classifier, which finds and follows none")


def _still(source: str) -> bool:
    from connectors.video_folder import is_picture

    path = Path(source).expanduser()
    return path.is_dir() or is_picture(path)


def _one(source: VideoSource, picture: Path) -> Iterator[VideoFrame]:
    """The only frame of a source. Raises: HeadraceError: there are several, and room for one picture alone."""
    from streams.errors import HeadraceError

    frames = iter(source)
    if len(first := list(islice(frames, 2))) > 1:
        raise HeadraceError(f"drawing to {picture}: expected one picture, got several; give --draw OUT.mp4")
    return chain(first, frames)


@dataclass
class _Job:
    source: VideoSource
    frames: Iterator[VideoFrame]
    pipeline: Any
    at_once: int
    follows: bool
    canvas: Canvas | None
    target: BinaryIO
    told: BinaryIO | None
    camera: str
    done: int = 0
    dead: DeadLetters = field(default_factory=DeadLetters)
    started: float = field(default_factory=time.perf_counter)

    def run(self) -> None:
        from streams.frames import headers
        from streams.replay import Replay

        replay = Replay(self.pipeline)
        first_ms = None
        with Meter("frames", self.source.total_s) as meter:
            while some := list(islice(self.frames, self.at_once)):
                if not self.follows:
                    replay = Replay(self.pipeline)
                keys, values = [self.camera.encode()] * len(some), [frame.value for frame in some]
                times_ms = [frame.event_time_ms for frame in some]
                self._report(some, replay.process(keys, values, list(map(headers, some)), times_ms))
                self.done += len(some)
                first_ms = times_ms[0] if first_ms is None else first_ms
                meter.show(self.done, (times_ms[-1] - first_ms) / 1000)
        self.target.flush()

    def _report(self, frames: list[VideoFrame], replayed: Replayed) -> None:
        import msgspec

        from streams.cli.filming import Detections

        dead = {letter.row for letter in replayed.dead_letters}
        for letter in replayed.dead_letters:
            frame = frames[letter.row]
            self.dead.tell(letter, {"frame": frame.frame} | ({} if frame.file is None else {"file": frame.file}))
        if self.told is not None:
            self.told.writelines((event or b"") + b"\n" for event in replayed.beside)
        seen = [frame for row, frame in enumerate(frames) if row not in dead]
        for frame, value in zip(seen, replayed.values, strict=True):
            self.target.write(_named(value or b"", frame.file) + b"\n")
            if self.canvas is not None:
                self.canvas.add(self.camera, frame, msgspec.json.decode(value or b"", type=Detections))

    def summarise(self) -> None:
        seconds = time.perf_counter() - self.started
        text = f"{self.done:,} frames from {self.source.name} in {seconds:.1f} s ({self.done / seconds:,.1f}/s)"
        summary(text + self.dead.summary() + losses(self.source.counters))
        if self.canvas is not None:
            self.canvas.close()
            summary(self.canvas.told())


def _named(message: bytes, file: str | None) -> bytes:
    """A message, an object in JSON, with its picture's file as the last field."""
    import msgspec

    return message if file is None else message.removesuffix(b"}") + b',"file":' + msgspec.json.encode(file) + b"}"

"""`headrace predict vision`: a detector or a classifier over a film or pictures, without a broker."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from models.selection import AUTO, ENGINES
from streams.cli.console import Meter, existing_file, pipe_safe, summary
from streams.cli.predicting import DeadLetters, check_apart, predictions_file
from streams.cli.roots import parse_reference

if TYPE_CHECKING:
    from connectors.video import VideoFrame, VideoSource
    from streams.cli.filming import Detections
    from streams.replay import Replayed
    from streams.settings import Settings, Vision

PICTURES = (".png", ".jpg", ".jpeg")


@click.command()
@click.option(
    "--from", "source", required=True, metavar="SOURCE", help="A video file, or a folder of pictures, or one."
)
@click.option(
    "--model", "reference", metavar="NAME[/VERSION]", help="A model with the task detect or classify.  [vision.model]"
)
@click.option("--camera", metavar="ID", default="camera-1", show_default=True, help="Whose frames they are.")
@click.option("--fps", type=click.FloatRange(0, 1000), default=0, help="Look at so many frames a second.  [all]")
@click.option(
    "--score", type=click.FloatRange(0, 1), help="The least score of an object.  [the setting, or the model's]"
)
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
@click.option("--strict", is_flag=True, help="Exit code 1 where there were dead letters.")
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
    of the frame. A frame that can never succeed comes as a JSON line on standard error, with its number and the reason.
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
    from streams.clock import SystemClock
    from streams.pipelines import PIPELINES

    if not camera:
        raise click.BadParameter("expected an id, got nothing", param_hint="'--camera'")
    check_apart({"--from": source}, {"--draw": draw, "--events": events, "--output": output})
    loaded, clock = _settings(reference, score, engine, root), SystemClock()
    with ExitStack() as stack:
        still = _still(source)
        wanted = Wanted(0 if still else fps)
        opened = stack.enter_context(open_video(source, lambda: int(clock.time() * 1000), wanted, speed=0))
        if opened.live:
            raise click.UsageError("--from is a film or pictures; a stream goes through `headrace produce video`")
        pipeline = PIPELINES["vision"].build(loaded)
        stack.callback(pipeline.close)
        if pipeline.new_store() is None:
            _refuse(pipeline.served.model, {"--score": score, "--snapshots": snapshots, "--events": events})
        for option, value in {"--snapshots": snapshots, "--events": events}.items() if still else ():
            if value is not None:
                raise click.UsageError(
                    f"{option} is for what is followed through a film; pictures are each by themselves"
                )
        canvas = stack.enter_context(_Canvas(draw, snapshots, loaded.vision)) if draw or snapshots else None
        target = stack.enter_context(predictions_file(output)) if output else sys.stdout.buffer
        told = stack.enter_context(predictions_file(events)) if events else None
        stack.enter_context(pipe_safe())
        # Pictures have nothing to do with each other: one at a time, and nothing is remembered of it.
        at_once = 1 if still else pipeline.batch.max_batch_size
        job = _Job(opened, pipeline, at_once, not still, canvas, target, told, camera)
        try:
            job.run()
        finally:
            job.summarise()
    if strict and job.dead.stages:
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


class _Canvas:
    """Where drawings go: a film and snapshots, or one picture."""

    def __init__(self, draw: str | None, snapshots: str | None, settings: Vision) -> None:
        from streams.cli.filming import Filming, outlines

        path = existing_file(draw) if draw else None
        self._picture = path if path is not None and path.suffix.lower() in PICTURES else None
        folder = existing_file(snapshots) if snapshots else None
        self._zones = outlines(settings)
        self._limits = settings.max_pixels, settings.max_value_bytes
        self._filming = Filming(None if self._picture else path, folder, self._zones)
        self._drawn = 0

    def __enter__(self) -> _Canvas:
        return self

    def __exit__(self, *_: object) -> None:
        self._filming.close()

    def add(self, camera: str, frame: VideoFrame, detections: Detections) -> None:
        """Draw a frame.

        Raises:
            HeadraceError: it is the second one, and there is room for one picture alone; or a file cannot be written.
        """
        if self._picture is not None:
            self._one(self._picture, camera, frame, detections)
        self._filming.add(camera, frame.value, detections, frame.event_time_ms)

    def _one(self, path: Path, camera: str, frame: VideoFrame, detections: Detections) -> None:
        import cv2

        from models.vision.drawing import Drawing
        from models.vision.pictures import Limits, decode
        from streams.errors import HeadraceError

        self._drawn += 1
        if self._drawn > 1:
            raise HeadraceError(f"drawing to {path}: expected one picture, got several; give --draw OUT.mp4")
        picture = decode(frame.value, Limits(*self._limits))
        detections.draw(Drawing(), picture.pixels, self._zones(camera, picture.width, picture.height))
        try:
            path.write_bytes(bytes(cv2.imencode(path.suffix, picture.pixels)[1]))
        except OSError as error:
            raise HeadraceError(f"drawing to {path}: {error.strerror or error}") from None


@dataclass
class _Job:
    source: VideoSource
    pipeline: Any
    at_once: int
    follows: bool
    canvas: _Canvas | None
    target: BinaryIO
    told: BinaryIO | None
    camera: str
    frames: int = 0
    dead: DeadLetters = field(default_factory=DeadLetters)
    started: float = field(default_factory=time.perf_counter)

    def run(self) -> None:
        from streams.frames import headers
        from streams.replay import Replay

        replay = Replay(self.pipeline)
        frames, first_ms = iter(self.source), None
        with Meter("frames", self.source.total_s) as meter:
            while some := list(islice(frames, self.at_once)):
                if not self.follows:
                    replay = Replay(self.pipeline)
                keys, values = [self.camera.encode()] * len(some), [frame.value for frame in some]
                times_ms = [frame.event_time_ms for frame in some]
                self._report(some, replay.process(keys, values, list(map(headers, some)), times_ms))
                self.frames += len(some)
                first_ms = times_ms[0] if first_ms is None else first_ms
                meter.show(self.frames, (times_ms[-1] - first_ms) / 1000)
        self.target.flush()

    def _report(self, frames: list[VideoFrame], replayed: Replayed) -> None:
        import msgspec

        from streams.cli.filming import Detections

        dead = {letter.row for letter in replayed.dead_letters}
        for letter in replayed.dead_letters:
            self.dead.tell(letter, {"frame": frames[letter.row].frame})
        if self.told is not None:
            self.told.writelines((event or b"") + b"\n" for event in replayed.beside)
        seen = [frame for row, frame in enumerate(frames) if row not in dead]
        for frame, value in zip(seen, replayed.values, strict=True):
            self.target.write((value or b"") + b"\n")
            if self.canvas is not None:
                self.canvas.add(self.camera, frame, msgspec.json.decode(value or b"", type=Detections))

    def summarise(self) -> None:
        seconds = time.perf_counter() - self.started
        text = f"{self.frames:,} frames from {self.source.name} in {seconds:.1f} s ({self.frames / seconds:,.1f}/s)"
        summary(text + self.dead.summary())

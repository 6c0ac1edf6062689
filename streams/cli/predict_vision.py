"""`headrace predict vision`: a detector over a film or pictures, without a broker."""

from __future__ import annotations

import sys
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from models.selection import AUTO, ENGINES
from streams.cli.console import Meter, existing_file, pipe_safe, summary
from streams.cli.roots import parse_reference, root_option

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from connectors.video import VideoSource
    from models.repository import Repository
    from models.vision.drawing import Shown
    from streams.cli.looking import Eye, Look
    from streams.schemas import VideoDetections

BATCH = 8
PICTURES = (".png", ".jpg", ".jpeg")


@click.command()
@click.option(
    "--from", "source", required=True, metavar="SOURCE", help="A video file, or a folder of pictures, or one."
)
@click.option("--model", "reference", required=True, metavar="NAME[/VERSION]", help="A model with the task detect.")
@click.option("--camera", metavar="ID", default="camera-1", show_default=True, help="Whose frames they are.")
@click.option("--fps", type=click.FloatRange(0, 1000), default=0, help="Look at so many frames a second.  [all]")
@click.option("--score", type=click.FloatRange(0, 1), help="The least score of an object.  [the model's]")
@click.option("--draw", metavar="OUT.mp4|OUT.png", help="Also draw boxes, labels and tracks: a film, or one picture.")
@click.option("--snapshots", metavar="DIR", help="Also write the best picture of each track.")
@click.option("--output", metavar="FILE", help="Where the detections go.  [standard output]")
@click.option("--engine", type=click.Choice([AUTO, *ENGINES]), default=AUTO, show_default=True, help="What runs it.")
@click.option("--strict", is_flag=True, help="Exit code 1 where there were dead letters.")
@root_option()
def vision(
    source: str,
    reference: str,
    camera: str,
    fps: float,
    score: float | None,
    draw: str | None,
    snapshots: str | None,
    output: str | None,
    engine: str,
    strict: bool,
    models: Repository,
) -> None:
    """Find objects in a film or in pictures, and follow them from frame to frame of a film.

    Detections come as JSON lines on standard output, one for each frame, as on `video.detections`: boxes are in pixels
    of the frame. A frame that cannot be decoded comes as a JSON line on standard error, with its number and the reason.

    \b
    Examples:
      headrace predict vision --model yolox-nano --from gate.mp4 > detections.jsonl
      headrace predict vision --model yolox-nano --from gate.mp4 --draw gate-seen.mp4
      headrace predict vision --model fastestdet --from dog.jpg --draw seen.png
      headrace predict vision --model yolox-nano --from pictures/ | jq '.objects[].label'
    """
    from connectors.video import Wanted, open_video
    from models.selection import EngineOptions, open_engine
    from streams.cli.looking import Eye
    from streams.clock import SystemClock

    model, clock = models.load(*parse_reference(reference)), SystemClock()
    with ExitStack() as stack:
        still = _still(source)
        wanted = Wanted(0 if still else fps)
        opened = stack.enter_context(open_video(source, lambda: int(clock.time() * 1000), wanted, speed=0))
        if opened.live:
            raise click.UsageError("--from is a film or pictures; a stream goes through `headrace produce video`")
        serving = open_engine(model, engine, EngineOptions(threads=0, max_batch_size=BATCH)).engine
        stack.callback(serving.close)
        eye = stack.enter_context(Eye(model, serving, camera, score, follows=not still))
        canvas = stack.enter_context(_Canvas(draw, snapshots)) if draw or snapshots else None
        target = stack.enter_context(_target(output)) if output else sys.stdout.buffer
        stack.enter_context(pipe_safe())
        job = _Job(opened, eye, canvas, target, camera)
        try:
            job.run()
        finally:
            job.summarise()
    if strict and job.dead:
        sys.exit(1)


def _still(source: str) -> bool:
    from connectors.video_folder import is_picture

    path = Path(source).expanduser()
    return path.is_dir() or is_picture(path)


def _target(output: str) -> BinaryIO:
    from streams.errors import HeadraceError

    path = existing_file(output)
    try:
        return path.open("wb")
    except OSError as error:
        raise HeadraceError(f"writing detections to {path}: {error.strerror or error}") from None


class _Canvas:
    """Where drawings go: a film and snapshots, or one picture."""

    def __init__(self, draw: str | None, snapshots: str | None) -> None:
        from streams.cli.filming import Filming

        path = existing_file(draw) if draw else None
        self._picture = path if path is not None and path.suffix.lower() in PICTURES else None
        folder = existing_file(snapshots) if snapshots else None
        self._filming = Filming(None if self._picture else path, folder)
        self._drawn = 0

    def __enter__(self) -> _Canvas:
        return self

    def __exit__(self, *_: object) -> None:
        self._filming.close()

    def add(self, camera: str, pixels: NDArray[np.uint8], message: VideoDetections, time_ms: int) -> None:
        """Draw a frame, in place.

        Raises:
            HeadraceError: it is the second one, and there is room for one picture alone; or a file cannot be written.
        """
        from models.vision.drawing import Shown

        shown = [Shown(each.label, each.score, each.box, each.track_id, each.zones) for each in message.objects]
        shown = [each for each in shown if each.drawable]
        if self._picture is not None:
            self._one(self._picture, pixels.copy(), shown)
        self._filming.add_pixels(camera, pixels, shown, time_ms)

    def _one(self, path: Path, pixels: NDArray[np.uint8], shown: list[Shown]) -> None:
        import cv2

        from models.vision.drawing import Drawing
        from streams.errors import HeadraceError

        self._drawn += 1
        if self._drawn > 1:
            raise HeadraceError(f"drawing to {path}: expected one picture, got several; give --draw OUT.mp4")
        Drawing().draw(pixels, shown)
        try:
            path.write_bytes(bytes(cv2.imencode(path.suffix, pixels)[1]))
        except OSError as error:
            raise HeadraceError(f"drawing to {path}: {error.strerror or error}") from None


@dataclass
class _Job:
    source: VideoSource
    eye: Eye
    canvas: _Canvas | None
    target: BinaryIO
    camera: str
    frames: int = 0
    dead: Counter[str] = field(default_factory=Counter)
    started: float = field(default_factory=time.perf_counter)

    def run(self) -> None:
        frames, first_ms = iter(self.source), None
        with Meter("frames", self.source.total_s) as meter:
            while some := list(islice(frames, BATCH)):
                for each in self.eye.look(some):
                    self._report(each)
                    self.frames += 1
                first_ms = some[0].event_time_ms if first_ms is None else first_ms
                meter.show(self.frames, (some[-1].event_time_ms - first_ms) / 1000)
        self.target.flush()

    def _report(self, look: Look) -> None:
        import msgspec

        if look.message is None or look.pixels is None:
            self.dead[look.stage] += 1
            line = {"frame": look.frame.frame, "stage": look.stage, "type": look.kind, "message": look.reason}
            click.echo(msgspec.json.encode(line), err=True)
            return
        self.target.write(msgspec.json.encode(look.message) + b"\n")
        if self.canvas is not None:
            self.canvas.add(self.camera, look.pixels, look.message, look.frame.event_time_ms)

    def summarise(self) -> None:
        seconds = time.perf_counter() - self.started
        text = f"{self.frames:,} frames from {self.source.name} in {seconds:.1f} s ({self.frames / seconds:,.1f}/s)"
        if self.dead:
            text += "; dead letters: " + ", ".join(f"{count:,} at {stage}" for stage, count in self.dead.items())
        summary(text)

"""Detections for people to look at: films with boxes or classes in them, and the best picture of each track."""

from __future__ import annotations

import os
import re
from collections import OrderedDict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from connectors.video import VideoError
from streams.errors import HeadraceError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from connectors.video_sink import FilmWriter
    from models.vision.drawing import Drawing, Outline, Shown
    from streams.settings import Vision

    Zones = Callable[[str, int, int], Sequence[Outline]]

FILM = ".mp4"
MOST_FILMS = 32  # an encoder each
MOST_TRACKS = 100_000
SMALLEST_PX = 2  # a side; no film can be of less
BETTER = 1.05  # a snapshot is written again for a picture that is so many times as good
SNAPSHOT_QUALITY = 90


class DetectedObject(msgspec.Struct):
    """Of an object, what can be drawn."""

    label: str
    score: float
    box: tuple[float, float, float, float]
    track_id: int | None = None
    zones: list[str] = []


class PictureClass(msgspec.Struct):
    """Of a class, what can be written."""

    label: str
    score: float


class Detections(msgspec.Struct):
    """Of a message on `video.detections`, what can be drawn."""

    objects: list[DetectedObject]
    event_time: str | int | None = None
    classes: list[PictureClass] | None = None

    def time_ms(self, otherwise: int) -> int:
        """When the frame was taken."""
        if isinstance(self.event_time, int):
            return self.event_time
        try:
            moment = datetime.fromisoformat(self.event_time or "")
        except ValueError:
            return otherwise
        return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)

    def shown(self) -> list[Shown]:
        """The objects that have an area."""
        from models.vision.drawing import Shown

        found = [Shown(each.label, each.score, each.box, each.track_id, each.zones) for each in self.objects]
        return [each for each in found if each.drawable]

    def draw(self, drawing: Drawing, pixels: NDArray[np.uint8], zones: Sequence[Outline]) -> None:
        """Draw a detector's objects, or write a classifier's classes, onto the frame."""
        if self.classes is None:
            drawing.draw(pixels, self.shown(), zones)
        else:
            drawing.classes(pixels, [(each.label, each.score) for each in self.classes])


class Filming:
    """Films and snapshots of detections; close it, or use it in a `with`.

    With one camera the film is OUT.mp4, with several each has its own OUT.<camera>.mp4. Snapshots are
    DIR/<camera>/<track>.jpg; one is written again when the object shows better: larger and surer.

    Args:
        film: OUT.mp4, or None.
        snapshots: DIR, or None.
        zones: those of a camera, for a picture's width and height.

    Raises:
        HeadraceError: `film` is no .mp4, what writes it is missing, or a file cannot be written, which is found out
            at once where it can be.
    """

    def __init__(self, film: Path | None, snapshots: Path | None, zones: Zones = lambda *_: ()) -> None:
        from models.vision.drawing import Drawing

        if film is not None:
            if film.suffix.lower() != FILM:
                raise HeadraceError(f"drawing to {film}: expected a name ending in {FILM}")
            check_file(film)
            _check_film_writer(film)
        if snapshots is not None:
            _check_folder(snapshots)
        self._film, self._snapshots, self._zones = film, snapshots, zones
        self._films: dict[str, FilmWriter] = {}
        self._names: dict[str, str] = {}
        self._best: OrderedDict[tuple[str, int], float] = OrderedDict()
        self._drawing = Drawing()
        self.frames = 0
        self.written: list[Path] = []
        self.left_out = 0

    def __enter__(self) -> Filming:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def snapshots(self) -> int:
        """How many tracks have a snapshot."""
        return len(self._best)

    def add(self, camera: str, value: bytes, detections: Detections, received_ms: int) -> None:
        """Add an encoded frame and what was found in it; frames of a camera come in order. One that cannot be decoded
        is left out and counted."""
        from models.vision.pictures import PictureError, decode

        try:
            pixels = decode(value).pixels
        except PictureError:
            self.left_out += 1
            return
        height, width = pixels.shape[:2]
        if min(height, width) < SMALLEST_PX:
            self.left_out += 1
            return
        if self._snapshots is not None:
            for each in detections.shown():
                self._snapshot(self._snapshots, camera, pixels, each)
        if self._film is not None and (film := self._film_of(camera)) is not None:
            detections.draw(self._drawing, pixels, self._zones(camera, width, height))
            film.write(pixels, detections.time_ms(received_ms))
        self.frames += 1

    def told(self, left_out: str, more: Sequence[Path] = ()) -> str:
        """What was written, once it is closed.

        Args:
            left_out: why frames can have been left out.
            more: what was written elsewhere.
        """
        written = ", ".join(map(str, [*self.written, *more]))
        text = f"{self.frames:,} frames" + (f" to {written}" if written else "")
        if self.snapshots:
            text += f"; snapshots of {self.snapshots:,} tracks in {self._snapshots}"
        if not written and not self.snapshots:
            text += "; nothing was written"
        if self.left_out:
            text += f"; {self.left_out:,} left out: {left_out}"
        return text

    def close(self) -> None:
        """Finish the films."""
        if not self._films:
            return
        for film in self._films.values():
            film.close()
        self.written = [film.path for film in self._films.values() if film.frames]
        if self._film is not None and len(self.written) == 1:
            self.written = [self.written[0].replace(self._film)]
        self._films.clear()

    def _film_of(self, camera: str) -> FilmWriter | None:
        from connectors.video_sink import FilmWriter

        if camera not in self._films:
            if self._film is None or len(self._films) == MOST_FILMS:
                self.left_out += 1
                return None
            self._films[camera] = FilmWriter(self._film.with_suffix(f".{self._name(camera)}.mp4"))
        return self._films[camera]

    def _name(self, camera: str) -> str:
        """The camera's id as part of a file's name, no other camera's."""
        if camera not in self._names:
            name = re.sub(r"[^\w-]+", "_", camera)[:100] or "_"
            while name in self._names.values():
                name += "_again"
            self._names[camera] = name
        return self._names[camera]

    def _snapshot(self, folder: Path, camera: str, pixels: NDArray[np.uint8], shown: Shown) -> None:
        if shown.track_id is None:
            return
        x1, y1, x2, y2 = shown.box
        quality = shown.score * ((x2 - x1) * (y2 - y1)) ** 0.5
        key = camera, shown.track_id
        if quality < self._best.get(key, 0.0) * BETTER:
            return
        from connectors.jpeg import encode_jpeg
        from models.vision.drawing import crop

        path = folder / self._name(camera) / f"{shown.track_id}.jpg"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encode_jpeg(crop(pixels, shown.box), SNAPSHOT_QUALITY))
        except OSError as error:
            raise VideoError(f"writing the snapshot {path}: {error.strerror or error}") from None
        self._best[key] = quality
        self._best.move_to_end(key)
        if len(self._best) > MOST_TRACKS:
            self._best.popitem(last=False)


def outlines(vision: Vision) -> Zones:
    """The zones that settings give a camera, as they lie in a picture."""
    from models.vision.drawing import Outline

    cameras = {camera.id: camera for camera in vision.cameras}

    def of(camera: str, width: int, height: int) -> list[Outline]:
        known = cameras.get(camera)
        found = []
        for zone in known.zones if known else ():
            across, down = (width, height) if zone.normalised else (1, 1)
            found.append(Outline(zone.name, [(x * across, y * down) for x, y in zone.polygon]))
        return found

    return of


def check_file(path: Path) -> None:
    """Whether a drawing can be written there; better at once than after the first frame.

    Raises:
        HeadraceError: it cannot.
    """
    if not path.parent.is_dir():
        raise HeadraceError(f"drawing to {path}: there is no folder {path.parent}")
    if path.is_dir():
        raise HeadraceError(f"drawing to {path}: expected the name of a file, got a folder")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise HeadraceError(f"drawing to {path}: permission denied")


def _check_folder(folder: Path) -> None:
    """Whether snapshots can be written there. Raises: HeadraceError."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise HeadraceError(f"writing snapshots to {folder}: expected a folder, got the file {there}")
    if not os.access(there, os.W_OK):
        raise HeadraceError(f"writing snapshots to {folder}: permission denied")


def _check_film_writer(film: Path) -> None:
    """Better at once than when the first frame comes. Raises: VideoError."""
    try:
        import connectors.video_sink  # noqa: F401
    except ImportError as error:
        raise VideoError(
            f"drawing to {film}: importing {error.name} failed; drawing a film needs PyAV: pip install "
            "'headrace[video]'"
        ) from error

"""Where `headrace predict vision` draws: a film and snapshots, or one picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streams.cli.console import existing_file
from streams.cli.filming import FILM, Filming, check_file, outlines
from streams.errors import HeadraceError

if TYPE_CHECKING:
    from pathlib import Path

    from connectors.video import VideoFrame
    from streams.cli.filming import Detections
    from streams.settings import Vision

PICTURES = (".png", ".jpg", ".jpeg")


class Canvas:
    """Draws frames and what was found in them; close it, or use it in a `with`.

    Args:
        draw: OUT.mp4, or the name of one picture, or None.
        snapshots: DIR, or None.
        settings: whose zones are drawn, and whose limits hold.

    Raises:
        HeadraceError: `draw` has another name, or what is to be written cannot be.
    """

    def __init__(self, draw: str | None, snapshots: str | None, settings: Vision) -> None:
        path = existing_file(draw) if draw else None
        if path is not None and path.suffix.lower() not in (FILM, *PICTURES):
            *names, last = (FILM, *PICTURES)
            raise HeadraceError(f"drawing to {path}: expected a name ending in {', '.join(names)} or {last}")
        self.picture = path if path is not None and path.suffix.lower() in PICTURES else None
        if self.picture is not None:
            check_file(self.picture)
        folder = existing_file(snapshots) if snapshots else None
        self._zones = outlines(settings)
        self._limits = settings.max_pixels, settings.max_value_bytes
        self._filming = Filming(None if self.picture else path, folder, self._zones)
        self._drawn: list[Path] = []

    def __enter__(self) -> Canvas:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add(self, camera: str, frame: VideoFrame, detections: Detections) -> None:
        """Draw a frame. Raises: HeadraceError: a file cannot be written."""
        if self.picture is not None:
            self._one(self.picture, camera, frame, detections)
        self._filming.add(camera, frame.value, detections, frame.event_time_ms)

    def close(self) -> None:
        """Finish the film."""
        self._filming.close()

    def told(self) -> str:
        """What was written, once it is closed."""
        return f"drawn: {self._filming.told('too small', self._drawn)}"

    def _one(self, path: Path, camera: str, frame: VideoFrame, detections: Detections) -> None:
        import cv2

        from models.vision.drawing import Drawing
        from models.vision.pictures import Limits, decode

        picture = decode(frame.value, Limits(*self._limits))
        detections.draw(Drawing(), picture.pixels, self._zones(camera, picture.width, picture.height))
        try:
            path.write_bytes(bytes(cv2.imencode(path.suffix, picture.pixels)[1]))
        except OSError as error:
            raise HeadraceError(f"drawing to {path}: {error.strerror or error}") from None
        self._drawn = [path]

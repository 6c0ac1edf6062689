"""Still pictures as frames: a folder of them in natural order, or one alone."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from connectors.video_frames import JPEG, Counters, CutOff, Shot, VideoError, Wanted

if TYPE_CHECKING:
    from numpy.typing import NDArray

CONTENT_TYPES = {".jpg": JPEG, ".jpeg": JPEG, ".png": "image/png", ".webp": "image/webp"}
FOLDER_FPS = 10.0


def is_picture(path: Path) -> bool:
    """Whether a file's name says that it is a picture that a pipeline takes."""
    return path.suffix.lower() in CONTENT_TYPES


class FolderFootage:
    """Pictures as they are, byte for byte, and unseen: what is damaged goes out damaged. With a width each is decoded,
    made smaller and encoded as JPEG. Files with other names are left out and counted, but for hidden ones.

    Raises:
        VideoError: the folder cannot be read or holds no pictures. While iterating: a file cannot be read, or, with a
            width, not be decoded.
    """

    cut_off: CutOff | None = None  # no picture says how many there should be

    def __init__(self, path: Path, wanted: Wanted, counters: Counters) -> None:
        self._wanted = wanted
        self._fps = wanted.fps or FOLDER_FPS
        self.pictures = [path] if path.is_file() else _pictures(path, counters)

    @property
    def total_s(self) -> float | None:
        """How long it lasts."""
        return len(self.pictures) / self._fps

    def close(self) -> None:
        """Nothing is open between two pictures."""

    def shots(self, choose: Callable[[float], bool]) -> Iterator[Shot]:
        """Those whose time `choose` accepts."""
        for frame, path in enumerate(self.pictures):
            time_s = frame / self._fps
            if choose(time_s):
                value, content_type = self._read(path)
                yield Shot(value, content_type, frame, time_s, os.fsencode(path.name).decode(errors="backslashreplace"))

    def _read(self, path: Path) -> tuple[bytes, str]:
        try:
            value = path.read_bytes()
        except OSError as error:
            raise VideoError(f"reading {path}: {error.strerror or error}") from None
        if not self._wanted.width:
            return value, CONTENT_TYPES[path.suffix.lower()]
        return self._smaller(path, value)

    def _smaller(self, path: Path, value: bytes) -> tuple[bytes, str]:
        import cv2

        from connectors.jpeg import encode_jpeg

        pixels = cv2.imdecode(np.frombuffer(value, np.uint8), cv2.IMREAD_COLOR) if value else None
        if pixels is None:
            raise VideoError(f"reading {path}: expected a picture to make smaller, got bytes that are none")
        height, width = pixels.shape[:2]
        size = self._wanted.size(width, height)
        if size == (width, height):
            return value, CONTENT_TYPES[path.suffix.lower()]
        smaller: NDArray[np.uint8] = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
        return encode_jpeg(smaller, self._wanted.quality), JPEG


def _pictures(folder: Path, counters: Counters) -> list[Path]:
    try:
        files = [path for path in folder.iterdir() if path.is_file()]
    except OSError as error:
        raise VideoError(f"reading the folder {folder}: {error.strerror or error}") from None
    found = [path for path in files if is_picture(path)]
    if not found:
        raise VideoError(f"reading the folder {folder}: expected pictures ({', '.join(CONTENT_TYPES)}), there are none")
    counters.foreign += sum(not is_picture(path) and not path.name.startswith(".") for path in files)
    return sorted(found, key=_natural)


def _natural(path: Path) -> list[tuple[int, int, str]]:
    """A sorting key that puts frame2 before frame10."""
    parts = re.split(r"(\d+)", path.name.lower())
    return [(0, int(part), part) if part.isdecimal() else (1, 0, part) for part in parts if part]

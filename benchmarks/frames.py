"""The frames of the vision benchmark: a simulated site through its cameras, encoded once, the same for everybody.

`python -m benchmarks.frames FILE EACH` draws so many of each camera, on all cores, and writes them to a file.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import msgspec

from connectors.simulators.camera import Site

CAMERAS = 8
WIDTH, HEIGHT = 640, 480
QUALITY = 85
SEED = 20_250_101
DRAWN_FPS = 2.0  # of the site's time: half a second lies between two frames, so that no two look alike
PLAYED_FPS = 10  # of the event time of a topic that is filled beforehand

Record = tuple[bytes, bytes, list[tuple[str, bytes]]]


@dataclass(frozen=True)
class Frames:
    """JPEGs by camera, as many of each, which come again once all were there.

    The frames of all cameras have one order: number `index` is frame `index // CAMERAS` of camera `index % CAMERAS`.
    """

    jpegs: Sequence[Sequence[bytes]]

    def __len__(self) -> int:
        return sum(map(len, self.jpegs))

    def jpeg(self, index: int) -> bytes:
        """The picture of frame number `index`."""
        frame, camera = divmod(index, CAMERAS)
        own = self.jpegs[camera]
        return own[frame % len(own)]

    def record(self, index: int, event_time_ms: int) -> Record:
        """Key, value and headers of frame number `index`, as `headrace produce video` writes them."""
        frame, camera = divmod(index, CAMERAS)
        headers = [("frame", b"%d" % frame), ("event-time", b"%d" % event_time_ms)]
        return camera_id(camera), self.jpeg(index), headers

    def records(self, count: int, start_ms: int) -> Iterator[Record]:
        """The first `count` frames, as if each camera took `PLAYED_FPS` a second."""
        for index in range(count):
            yield self.record(index, start_ms + index // CAMERAS * 1000 // PLAYED_FPS)

    def save(self, path: Path) -> None:
        """Write them to a file, for the processes of a run."""
        path.write_bytes(msgspec.msgpack.encode(self.jpegs))

    @classmethod
    def load(cls, path: Path) -> Frames:
        """Read what `save` has written."""
        return cls(msgspec.msgpack.decode(path.read_bytes(), type=list[list[bytes]]))


def camera_id(camera: int) -> bytes:
    """The key of a camera's records."""
    return b"camera-%d" % (camera + 1)


def camera_of(key: bytes) -> int:
    """The number of the camera with this key."""
    return int(key.removeprefix(b"camera-")) - 1


def simulated(each: int) -> Frames:
    """Draw and encode `each` frames of every camera, in as many processes as there are cores; always the same ones."""
    context = multiprocessing.get_context("spawn")  # a forked process inherits locks that other threads hold
    with ProcessPoolExecutor(min(CAMERAS, os.cpu_count() or 1), context) as pool:
        return Frames(list(pool.map(_seen, range(CAMERAS), [each] * CAMERAS)))


def _seen(camera: int, count: int) -> list[bytes]:
    import cv2
    import simplejpeg

    cv2.setNumThreads(1)  # the processes share the cores
    site = Site(SEED, CAMERAS, WIDTH, HEIGHT, DRAWN_FPS)
    frames = islice(site.camera(camera), count)
    return [simplejpeg.encode_jpeg(frame.picture, QUALITY, "BGR", "420") for frame in frames]


if __name__ == "__main__":
    _path, _each = sys.argv[1:]
    simulated(int(_each)).save(Path(_path))

"""The simulated cameras as a process: their frames as JPEG, each when it is due, on standard output.

For each frame: its camera's place among the site's, its number and the length of the JPEG, each as uint32,
little-endian, then the JPEG.
"""

from __future__ import annotations

import os
import struct
import sys
import time
from collections.abc import Iterator
from typing import BinaryIO

from connectors.jpeg import encode_jpeg
from connectors.simulators.camera import Site
from streams.demo.site import site

HEAD = struct.Struct("<III")
QUALITY = 80
NICENESS = 10  # a frame may be late; what is measured should not be


def film(place: Site, out: BinaryIO) -> None:
    """Write frames for ever, the cameras in turn. What is held up delays the rest, but for one round.

    Raises:
        BrokenPipeError: nobody reads any more.
    """
    interval_s = 1 / (place.fps * place.cameras)
    due = time.monotonic()
    for camera, number, jpeg in _frames(place):
        time.sleep(max(0.0, due - time.monotonic()))
        out.write(HEAD.pack(camera, number, len(jpeg)) + jpeg)
        out.flush()
        due = max(due, time.monotonic() - place.cameras * interval_s) + interval_s


def _frames(place: Site) -> Iterator[tuple[int, int, bytes]]:
    running = [iter(place.camera(number)) for number in range(place.cameras)]
    while True:
        for camera, frames in enumerate(running):
            frame = next(frames)
            yield camera, frame.frame, encode_jpeg(frame.picture, QUALITY)


def main() -> None:
    """Film until nobody looks."""
    os.nice(NICENESS)
    try:
        film(site(), sys.stdout.buffer)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more at exit


if __name__ == "__main__":
    main()

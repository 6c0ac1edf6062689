"""The cameras' own process: what it writes, and that it ends with its reader."""

from __future__ import annotations

import asyncio
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from connectors.simulators.camera import Site
from models.vision.pictures import decode
from streams.demo.filming import HEAD, film
from streams.demo.footage import LOG, Footage
from streams.demo.processes import python
from streams.errors import HeadraceError

TIMEOUT_S = 60


class _Reader(io.BytesIO):
    """Goes away after so many frames."""

    def __init__(self, frames: int) -> None:
        super().__init__()
        self._left = frames

    def write(self, content: Any) -> int:
        if not self._left:
            raise BrokenPipeError
        self._left -= 1
        return super().write(content)


def test_cameras_take_turns_and_their_pictures_are_the_simulators() -> None:
    place, out = Site(seed=3, cameras=2, width=160, height=120, fps=1000), _Reader(6)
    with pytest.raises(BrokenPipeError):
        film(place, out)
    content, order = out.getvalue(), []
    expected = [iter(place.camera(number)) for number in range(2)]
    while content:
        camera, number, length = HEAD.unpack_from(content)
        jpeg, content = content[HEAD.size : HEAD.size + length], content[HEAD.size + length :]
        order.append((camera, number))
        off = np.abs(decode(jpeg).pixels.astype(int) - next(expected[camera]).picture)
        assert off.mean() < 8  # what JPEG takes
    assert order == [(0, 0), (1, 0), (0, 1), (1, 1), (0, 2), (1, 2)]


def test_the_process_ends_without_a_word_when_nobody_reads() -> None:
    command = [sys.executable, "-P", "-m", "streams.demo.filming"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert HEAD.unpack(process.stdout.read(HEAD.size))[:2] == (0, 0)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(TIMEOUT_S) == 0


def test_cameras_that_end_are_an_error_with_their_last_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    LOG.parent.mkdir(parents=True)
    half = f"import sys; sys.stdout.buffer.write({HEAD.pack(2, 7, 3)!r} + b'abc' + b'rest'); sys.exit('no light')"

    async def run() -> None:
        async with python("-c", half, log=LOG, piped=True) as process:
            assert process.stdout is not None
            frames = Footage(process, process.stdout)
            assert await frames.next() == (2, 7, b"abc")
            with pytest.raises(
                HeadraceError, match=r"cameras ended with exit code 1: no light \(its log: .*cameras\.log"
            ):
                await frames.next()

    asyncio.run(asyncio.wait_for(run(), TIMEOUT_S))

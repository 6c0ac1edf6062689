"""What the simulated cameras film, as it comes from their process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from streams.demo.filming import HEAD
from streams.demo.home import HOME
from streams.demo.processes import last_words, python
from streams.errors import HeadraceError

LOG = HOME / "cameras.log"


class Taken(NamedTuple):
    """A frame.

    Args:
        camera: its place among the site's.
        number: from 0 for each camera.
    """

    camera: int
    number: int
    jpeg: bytes


class Footage:
    """Frames of the running cameras, which take turns; from `cameras`."""

    def __init__(self, process: asyncio.subprocess.Process, frames: asyncio.StreamReader) -> None:
        self._process, self._frames = process, frames

    async def next(self) -> Taken:
        """The next frame, once it is there.

        Raises:
            HeadraceError: the cameras have ended.
        """
        try:
            camera, number, length = HEAD.unpack(await self._frames.readexactly(HEAD.size))
            return Taken(camera, number, await self._frames.readexactly(length))
        except EOFError:
            code = await self._process.wait()
            raise HeadraceError(f"the simulated cameras ended with exit code {code}: {last_words(LOG)}") from None


@asynccontextmanager
async def cameras() -> AsyncIterator[Footage]:
    """The cameras of the demo's site. They begin at once, and wait for whoever takes their frames."""
    async with python("-m", "streams.demo.filming", log=LOG, piped=True) as process:
        if process.stdout is None:
            raise HeadraceError("the simulated cameras have nowhere to write to")
        yield Footage(process, process.stdout)

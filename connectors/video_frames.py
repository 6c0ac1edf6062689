"""What every source of frames has in common: a frame, how it is wanted, what is counted, and what goes wrong."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from connectors.contract import ConnectorError

JPEG = "image/jpeg"


class VideoError(ConnectorError):
    """A source or a sink of frames failed; addresses in the message have no credentials.

    Args:
        final: trying again will not help.
    """

    def __init__(self, message: str, *, final: bool = True) -> None:
        super().__init__(message)
        self.final = final


@dataclass(frozen=True, slots=True)
class VideoFrame:
    """One picture of a camera.

    Args:
        value: encoded; `content_type` says how.
        frame: its number in the source, from 0; gaps are frames that were left out.
        event_time_ms: when it was taken, since the epoch.
        file: the name of the picture's own file, where it has one.
    """

    value: bytes
    content_type: str
    frame: int
    event_time_ms: int
    file: str | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which pictures are wanted, and how.

    Args:
        fps: at most so many a second of the source's time; 0: all. For still pictures, how far apart they are.
        width: wider ones are made so wide, the height in proportion; 0: as they are.
        quality: of the JPEGs that are encoded here, 1 to 100.
    """

    fps: float = 0.0
    width: int = 0
    quality: int = 85

    def size(self, width: int, height: int) -> tuple[int, int]:
        """What becomes of a picture of that size."""
        if not self.width or width <= self.width:
            return width, height
        return self.width, max(1, round(height * self.width / width))


class CutOff(NamedTuple):
    """A film ended at `at_s`, and its container says that it lasts until `of_s`."""

    at_s: float
    of_s: float


@dataclass(slots=True)
class Counters:
    """What a source has done so far, for metrics.

    Args:
        frames: given out.
        frames_bytes: their encoded size.
        thinned: left out, because fewer are wanted.
        shed: left out, because whoever takes them was too slow; live sources alone.
        connects: how often a live source was connected.
        failures: how often connecting failed or a connection was lost.
        damaged: left out, because they could not be decoded; there may be more than FFmpeg tells of.
        cut_off: where a film ended too soon; never of a live source.
        foreign: files of a folder that were left out, because their names are not those of pictures.
    """

    frames: int = 0
    frames_bytes: int = 0
    thinned: int = 0
    shed: int = 0
    connects: int = 0
    failures: int = 0
    damaged: int = 0
    cut_off: CutOff | None = None
    foreign: int = 0


@dataclass(frozen=True, slots=True)
class Shot:
    """A picture within its source, before it has a time of day; `time_s` counts from the source's start."""

    value: bytes
    content_type: str
    frame: int
    time_s: float
    file: str | None = None


class Footage(Protocol):
    """An open source of shots; `total_s` is how long it lasts, where that is known. After the last shot `cut_off` says
    whether that came too soon."""

    cut_off: CutOff | None

    @property
    def total_s(self) -> float | None: ...
    def shots(self, choose: Callable[[float], bool]) -> Iterator[Shot]:
        """Those whose time `choose` accepts, in order; asked once for each picture."""

    def close(self) -> None: ...


class Thinning:
    """Chooses at most `fps` pictures a second, evenly: one in each slot of 1/fps seconds. A source that starts again
    is followed."""

    def __init__(self, fps: float, counters: Counters) -> None:
        self._fps, self._counters = fps, counters
        self._slot = -math.inf

    def __call__(self, time_s: float) -> bool:
        if not self._fps:
            return True
        slot = math.floor(time_s * self._fps + 1e-6)
        if slot == self._slot:
            self._counters.thinned += 1
            return False
        self._slot = slot
        return True


_USER = re.compile(r"(?<=://)[^/\s]*@")
_QUERY = re.compile(r"(?<=[?&])([^=&\s]+)=[^&\s]*")


def masked(address: str) -> str:
    """An address for people and logs: user, password and the query's values are starred out.

    Example:
        >>> masked("rtsp://admin:secret@10.0.0.5/stream?token=abc")
        'rtsp://***@10.0.0.5/stream?token=***'
    """
    return _QUERY.sub(r"\1=***", _USER.sub("***@", address))

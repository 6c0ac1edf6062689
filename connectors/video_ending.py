"""Whether a film ends before its container says that it does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import av

from connectors.video_frames import CutOff

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

SPARE_S = 1.0  # not every muxer counts how long the last picture is shown
UNKNOWN_FRAMES = 1 << 30  # what FFmpeg writes into an AVI that it cannot come back to


class Ending:
    """Compares what a container says of its length with the packets that come out of it.

    Judged are MP4 and MOV by the length of the track, AVI by its number of frames, Matroska and WebM by the end of
    whichever stream is the longest. What others say is an estimate more often than not: they are never cut off.

    Args:
        container: open, and at its start.
        stream: the one that is read.
    """

    def __init__(self, container: InputContainer, stream: VideoStream) -> None:
        self._stream = stream
        self._matroska = "matroska" in container.format.name
        self._of_s = _length_s(container, stream)
        self._start_s = float((stream.start_time or 0) * (stream.time_base or 0))
        self._end_s = self._last_s = self._longest_step_s = 0.0
        self.streams: Sequence[Any] = list(container.streams) if self._matroska and self._of_s else [stream]
        """Those whose packets it has to see."""

    def see(self, packet: Packet[Any]) -> None:
        """One more packet of one of `streams`."""
        ticks = packet.dts if packet.pts is None else packet.pts
        if ticks is None or packet.time_base is None or not packet.size:
            return
        at_s = float(ticks * packet.time_base)
        self._end_s = max(self._end_s, at_s + float((packet.duration or 0) * packet.time_base))
        if packet.stream is self._stream:
            self._longest_step_s = max(self._longest_step_s, at_s - self._last_s)
            self._last_s = max(self._last_s, at_s)

    def cut_off(self) -> CutOff | None:
        """Where it ended, once there are no more packets; None where that is its end, or nobody knows."""
        # Matroska counts from 0 or from its first picture, as the muxer likes.
        at_s = self._end_s - (0.0 if self._matroska else self._start_s)
        if self._of_s is None or self._of_s - at_s <= max(SPARE_S, self._longest_step_s):
            return None
        return CutOff(max(0.0, at_s), self._of_s)


def _length_s(container: InputContainer, stream: VideoStream) -> float | None:
    """How long it should be; None where the container does not say."""
    name, tick_s = container.format.name, float(stream.time_base or 0)
    if "mp4" in name and stream.duration:
        return stream.duration * tick_s
    # Of an AVI that is cut off, FFmpeg shortens the duration, but not the number of frames.
    if name == "avi" and 0 < stream.frames < UNKNOWN_FRAMES and stream.average_rate:
        return stream.frames / float(stream.average_rate)
    # In Matroska a stream's own duration is there only where FFmpeg has guessed both from the bit rate.
    if "matroska" in name and container.duration and stream.duration is None:
        return container.duration / av.time_base
    return None

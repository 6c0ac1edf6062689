"""Video files, streams and cameras, read by FFmpeg (PyAV): shots of them as JPEG.

FFmpeg's calls release the GIL. What already is JPEG goes through byte for byte, undecoded.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import av
import numpy as np
from av.error import FFmpegError

from connectors.jpeg import encode_jpeg
from connectors.video_ending import Ending
from connectors.video_failures import failure
from connectors.video_frames import JPEG, Counters, CutOff, Shot, VideoError, Wanted

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame as DecodedFrame
    from av.video.stream import VideoStream

MAX_PIXELS = 40_000_000  # a frame that promises more is not decoded
ASSUMED_FPS = 25.0  # where a file says nothing


@dataclass(frozen=True)
class Opening:
    """How FFmpeg opens a source.

    Args:
        address: what it takes.
        name: for people.
        live: it has no end, and what counts is now.
        format: the container, where FFmpeg is not to guess.
        options: its own.
        timeout_s: without a byte for so long, the source has failed; 0: no limit.
    """

    address: str = field(repr=False)  # it may hold a password
    name: str
    live: bool = False
    format: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    timeout_s: float = 0.0


class ContainerFootage:
    """An open container's first video stream; iterate over its shots once.

    What of it cannot be decoded is left out and counted, as far as FFmpeg tells.

    Raises:
        VideoError: it cannot be opened, has no video, or none that can be decoded here. While iterating: it is
            damaged further on, or a connection is lost.
    """

    def __init__(self, opening: Opening, wanted: Wanted, counters: Counters) -> None:
        self._opening, self._wanted, self._counters = opening, wanted, counters
        self.cut_off: CutOff | None = None
        try:
            self._container = _open(opening)
        except FFmpegError as error:
            raise failure("opening", opening, error) from None
        try:
            self._stream = self._prepared()
        except BaseException:
            self._container.close()
            raise

    @property
    def total_s(self) -> float | None:
        """How long it lasts, where the container says so."""
        if self._container.duration is None or self._container.duration <= 0:
            return None
        return self._container.duration / av.time_base

    def close(self) -> None:
        """Close it."""
        self._container.close()

    def shots(self, choose: Callable[[float], bool]) -> Iterator[Shot]:
        """Those whose time `choose` accepts, JPEGs all."""
        try:
            packets = self._packets()
            if self._copies():
                first = next(packets)
                packets = itertools.chain([first], packets)
                if not self._turned(first):
                    yield from self._copied(packets, choose)
                    return
            yield from self._encoded(packets, choose)
        except FFmpegError as error:
            raise failure("reading", self._opening, error) from None

    def _prepared(self) -> VideoStream:
        name = self._opening.name
        streams = self._container.streams.video
        if not streams:
            kinds = sorted({str(stream.type) for stream in self._container.streams})
            raise VideoError(f"opening {name}: expected a video, got {' and '.join(kinds) or 'nothing'} alone")
        stream = streams[0]
        if stream.codec_context is None:
            raise VideoError(f"opening {name}: its codec is not one that FFmpeg decodes here")
        width, height = stream.codec_context.width, stream.codec_context.height
        if width * height > MAX_PIXELS:
            raise VideoError(
                f"opening {name}: expected frames of at most {MAX_PIXELS:,} pixels, got {width} x {height}"
            )
        # Decoding frames side by side is faster and holds a frame a thread back, which a live view cannot have, nor the
        # look at a JPEG's rotation.
        stream.thread_type = "SLICE" if self._opening.live or stream.codec_context.name == "mjpeg" else "AUTO"
        return stream

    def _packets(self) -> Iterator[Packet[VideoStream]]:
        """All of the stream's, and an empty one at the end; then it is known whether the film is cut off."""
        ending = Ending(self._container, self._stream)
        for packet in self._container.demux(*ending.streams):
            ending.see(packet)
            if packet.stream is self._stream:
                yield packet
        self.cut_off = ending.cut_off()

    def _copies(self) -> bool:
        """Whether the pictures are JPEGs of the wanted size already."""
        context = self._stream.codec_context
        width, height = context.width, context.height
        return context.name == "mjpeg" and width > 0 and self._wanted.size(width, height) == (width, height)

    def _turned(self, first: Packet[VideoStream]) -> bool:
        """Whether the pictures are to be shown turned, as the container says; FFmpeg tells it with a picture alone."""
        try:
            return any(_quarter_turns(picture) for picture in self._stream.decode(first))
        except av.error.InvalidDataError:
            return False

    def _copied(self, packets: Iterable[Packet[VideoStream]], choose: Callable[[float], bool]) -> Iterator[Shot]:
        clock = _Clock(self._stream)
        for frame, packet in enumerate(each for each in packets if each.size):
            time_s = clock.time(packet.pts, frame)
            if choose(time_s):
                yield Shot(bytes(packet), JPEG, frame, time_s)

    def _encoded(self, packets: Iterable[Packet[VideoStream]], choose: Callable[[float], bool]) -> Iterator[Shot]:
        clock = _Clock(self._stream)
        for frame, picture in enumerate(self._decoded(packets)):
            time_s = clock.time(picture.pts, frame)
            if choose(time_s):
                yield Shot(self._jpeg(picture), JPEG, frame, time_s)

    def _decoded(self, packets: Iterable[Packet[VideoStream]]) -> Iterator[DecodedFrame]:
        """All frames that can be decoded; a damaged one within a stream costs itself alone."""
        damaged: FFmpegError | None = None
        any_decoded = any_torn = False
        expected = whole = lost = 0
        for packet in packets:
            any_torn = any_torn or packet.is_corrupt
            expected += bool(packet.size) and not packet.is_discard
            try:
                pictures = self._stream.decode(packet)
            except av.error.InvalidDataError as error:
                damaged = error
                lost += 1
                self._counters.damaged += 1
                continue
            any_decoded = any_decoded or bool(pictures)
            good = [picture for picture in pictures if not picture.is_corrupt]
            whole += len(good)
            lost += len(pictures) - len(good)
            self._counters.damaged += len(pictures) - len(good)
            yield from good
        # An error may cost more than its own frame. That some packets give no picture is no sign of one: VP8 has such
        # by design, and others at times.
        if (lost or any_torn) and self._stream.codec_context.name != "vp8":
            self._counters.damaged += max(0, expected - whole - lost)
        if damaged is not None and not any_decoded:
            raise damaged

    def _jpeg(self, picture: DecodedFrame) -> bytes:
        turns = _quarter_turns(picture)
        lying = (picture.width, picture.height)
        # Its width is that of the picture as it is shown. It is made smaller first: then there is less to turn.
        width, height = self._wanted.size(*lying) if turns % 2 == 0 else self._wanted.size(*lying[::-1])[::-1]
        small = (width, height) != lying
        scaling: dict[str, Any] = {"width": width, "height": height, "interpolation": "AREA"} if small else {}
        pixels = np.asarray(picture.to_ndarray(format="bgr24", **scaling), np.uint8)
        if turns:
            pixels = np.rot90(pixels, turns)
        return encode_jpeg(pixels, self._wanted.quality)


def _quarter_turns(picture: DecodedFrame) -> int:
    """To the left, 0 to 3, before it is shown: how a telephone was held is in the container."""
    return round(picture.rotation / 90) % 4


class _Clock:
    """Times of a stream from its first picture on; of one without time stamps by its frame rate."""

    def __init__(self, stream: VideoStream) -> None:
        self._tick_s = float(stream.time_base or 0)
        self._fps = float(stream.average_rate or stream.guessed_rate or ASSUMED_FPS)
        self._first: int | None = None

    def time(self, pts: int | None, frame: int) -> float:
        if pts is None or not self._tick_s:
            return frame / self._fps
        if self._first is None:
            self._first = pts
        return (pts - self._first) * self._tick_s


def _open(opening: Opening) -> InputContainer:
    timeout = opening.timeout_s or None
    return av.open(
        opening.address,
        format=opening.format,
        options={"max_pixels": str(MAX_PIXELS), **opening.options},
        timeout=(timeout, timeout),
    )

"""Pictures into a film that a browser plays: H.264 in MP4, at the times the pictures were taken."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, cast

import av
import numpy as np
from av.error import FFmpegError

from connectors.video_frames import VideoError

if TYPE_CHECKING:
    from av.video.stream import VideoStream
    from numpy.typing import NDArray

CODECS = ("libx264", "libopenh264", "mpeg4")  # the last one plays everywhere but in a browser
TICKS_A_SECOND = 1000
GAP_MS, STEP_MS = 5000, 40  # a longer or a backward step between two pictures becomes this one


class FilmWriter:
    """Writes one film; close it, or use it in a `with`, or else it cannot be played.

    Pictures that do not have the first one's size are scaled to it. An odd width or height loses its last pixel.

    Raises (writing and closing):
        VideoError: the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        if not path.parent.is_dir():
            raise VideoError(f"writing {path}: there is no folder {path.parent}")
        self.path = path
        self.frames = 0
        self._codec = next((name for name in CODECS if name in av.codecs_available), CODECS[-1])
        self._pts = 0
        self._time_ms = 0
        self._size = (0, 0)
        try:
            self._container = av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"})
        except (FFmpegError, OSError) as error:
            raise self._failure(error) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def write(self, pixels: NDArray[np.uint8], time_ms: int) -> None:
        """Add a picture, uint8 [h, w, 3] BGR of at least 2 x 2, that was taken then."""
        try:
            if not self.frames:
                self._start(pixels)
            else:
                passed = time_ms - self._time_ms
                self._pts += passed if 0 < passed <= GAP_MS else STEP_MS
            width, height = self._size
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="bgr24")
            if (frame.width, frame.height) != self._size:
                frame = frame.reformat(width=width, height=height)
            frame.pts = self._pts
            self._container.mux(self._stream.encode(frame))
        except FFmpegError as error:
            raise self._failure(error) from None
        self._time_ms = time_ms
        self.frames += 1

    def close(self) -> None:
        """Finish the film. One without pictures is removed."""
        try:
            if self.frames:
                self._container.mux(self._stream.encode())
            self._container.close()
        except FFmpegError as error:
            raise self._failure(error) from None
        if not self.frames:
            self.path.unlink(missing_ok=True)

    def _start(self, pixels: NDArray[np.uint8]) -> None:
        height, width = pixels.shape[:2]
        self._size = (width - width % 2, height - height % 2)
        stream = cast("VideoStream", self._container.add_stream(self._codec, rate=25))
        stream.width, stream.height = self._size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, TICKS_A_SECOND)
        stream.time_base = Fraction(1, TICKS_A_SECOND)
        if self._codec == "libx264":
            stream.options = {"preset": "veryfast", "crf": "23"}
        else:
            stream.bit_rate = self._size[0] * self._size[1] * 8
        self._stream = stream

    def _failure(self, error: FFmpegError | OSError) -> VideoError:
        return VideoError(f"writing {self.path}: {error.strerror or error}")

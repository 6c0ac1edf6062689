"""Frames of a camera, from a video file, a folder of pictures, an RTSP or HTTP stream, or a camera of this machine."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from connectors.video_folder import FolderFootage, is_picture
from connectors.video_frames import Counters, Footage, Thinning, VideoError, VideoFrame, Wanted, masked
from connectors.video_live import Backoff, LiveFrames

if TYPE_CHECKING:
    from connectors.video_container import Opening

__all__ = ["Backoff", "Counters", "VideoError", "VideoFrame", "VideoSource", "Wanted", "masked", "open_video"]

TIMEOUT_S = 10.0  # a camera that sends nothing for so long has gone
SCHEMES = ("rtsp://", "rtsps://", "http://", "https://")

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_CAMERA = re.compile(r"camera:(\d{1,3})")
_NETWORK = {"rtsp_transport": "tcp", "protocol_whitelist": "rtsp,rtsps,rtp,http,https,httpproxy,tcp,udp,tls,crypto"}
# A file may be a playlist that names other places: only files are followed.
_FILES = {"protocol_whitelist": "file,crypto,data"}


class VideoSource:
    """An open source of frames, from `open_video`: iterate over it once, and close it or use it in a `with`.

    Args:
        name: for people, without credentials.
        live: it has no end, and its frames carry the moment they came.
        total_s: how long it lasts, where that is known.
        counters: what it has done so far.
    """

    def __init__(
        self,
        name: str,
        frames: Iterator[VideoFrame],
        counters: Counters,
        close: Callable[[], None],
        total_s: float | None,
    ) -> None:
        self.name, self.counters, self.total_s = name, counters, total_s
        self.live = isinstance(frames, LiveFrames)
        self._frames, self._close = frames, close

    def __iter__(self) -> Iterator[VideoFrame]:
        return self._frames

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End it, from any thread: who waits for a frame gets no more."""
        self._close()


def open_video(
    source: str,
    now_ms: Callable[[], int],
    wanted: Wanted = Wanted(),  # noqa: B008 - frozen
    *,
    speed: float = 1.0,
    start_ms: int | None = None,
    backoff: Backoff = Backoff(),  # noqa: B008 - frozen
) -> VideoSource:
    """Open a source of frames.

    JPEG goes through byte for byte where neither its width nor its turn has to change: pictures of a folder, Motion
    JPEG in a file, from an HTTP camera or from a webcam. All else is decoded and encoded as JPEG.

    Args:
        source: a file, a folder, `rtsp://…`, `http://…` (a file of known length is played as one) or `camera:0`.
        now_ms: the clock, since the epoch.
        wanted: which frames, and how.
        speed: of files and folders; 1: as they were filmed, 0: as fast as they are taken.
        start_ms: when a file or folder was filmed. By default now, or so long ago that no frame lies
            ahead of the clock.
        backoff: how a live source is tried again.

    Raises:
        VideoError: it cannot be opened. While iterating: it is damaged further on. Live sources that have been
            connected once are connected again instead.
    """
    counters = Counters()

    def live(name: str, connect: Callable[[], Footage]) -> VideoSource:
        frames = LiveFrames(connect, wanted.fps, now_ms, counters, backoff)
        return VideoSource(name, frames, counters, frames.close, None)

    if (camera := _CAMERA.fullmatch(source)) is not None:
        device = _device(int(camera[1]))
        return live(source, lambda: _camera(device, source, wanted, counters))
    if _ADDRESS.match(source):
        if not source.lower().startswith(SCHEMES):
            raise VideoError(f"opening {masked(source)}: expected one of {', '.join(SCHEMES)}")
        opening = _opening(source, masked(source), True, options=_NETWORK, timeout_s=TIMEOUT_S)
        connect = _Connect(opening, wanted, counters)
        if connect.first is None or connect.first.total_s is None:
            return live(opening.name, connect)
        return _recorded(connect.first, opening.name, wanted.fps, now_ms, counters, speed, start_ms)
    footage = _file(Path(source).expanduser(), wanted, counters)
    # Pictures of a folder are as far apart as `fps` says: there is nothing to thin out.
    fps = 0.0 if isinstance(footage, FolderFootage) else wanted.fps
    return _recorded(footage, source, fps, now_ms, counters, speed, start_ms)


def _opening(address: str, name: str, live: bool = False, **how: Any) -> Opening:
    try:
        from connectors.video_container import Opening
    except ImportError as error:
        raise VideoError(
            f"opening {name}: importing {error.name} failed; films, streams and cameras need PyAV: pip install "
            "'headrace[video]' (pictures do not)"
        ) from error
    return Opening(address, name, live, **how)


def _footage(opening: Opening, wanted: Wanted, counters: Counters) -> Footage:
    from connectors.video_container import ContainerFootage

    return ContainerFootage(opening, wanted, counters)


def _file(path: Path, wanted: Wanted, counters: Counters) -> Footage:
    if not path.exists():
        if str(path).startswith("camera:"):
            raise VideoError(f"opening a camera: expected camera:NUMBER, got {str(path)!r}")
        raise VideoError(f"opening {path}: there is no such file or folder")
    if path.is_dir() or is_picture(path):
        return FolderFootage(path, wanted, counters)
    if not path.is_file():
        raise VideoError(f"opening {path}: expected a file or a folder, got a device or pipe")
    if path.stat().st_size == 0:
        raise VideoError(f"opening {path}: expected a video, got an empty file")
    return _footage(_opening(f"file:{path}", str(path), options=_FILES), wanted, counters)


def _device(number: int) -> Path:
    device = Path(f"/dev/video{number}")
    if not device.exists():
        others = sorted(path.name.removeprefix("video") for path in Path("/dev").glob("video[0-9]*"))
        there = f"there are {', '.join('camera:' + each for each in others)}" if others else "this machine has none"
        raise VideoError(f"opening camera:{number}: there is no {device}; {there}")
    return device


def _camera(device: Path, name: str, wanted: Wanted, counters: Counters) -> Footage:
    """A webcam: most send Motion JPEG at their full rate, and raw pixels at a fraction of it."""
    raw = _opening(str(device), name, True, format="v4l2", timeout_s=TIMEOUT_S)
    try:
        return _footage(replace(raw, options={"input_format": "mjpeg"}), wanted, counters)
    except VideoError:
        return _footage(raw, wanted, counters)


class _Connect:
    """Connects to an address. Over HTTP it does so once at the start, to see whether there is an end; that connection
    is then the first one given out."""

    def __init__(self, opening: Opening, wanted: Wanted, counters: Counters) -> None:
        self._opening, self._wanted, self._counters = opening, wanted, counters
        self.first: Footage | None = None
        if opening.address.lower().startswith("http"):
            try:
                self.first = self()
            except VideoError as error:
                if error.final:
                    raise

    def __call__(self) -> Footage:
        if self.first is not None:
            footage, self.first = self.first, None
            return footage
        return _footage(self._opening, self._wanted, self._counters)


def _recorded(
    footage: Footage,
    name: str,
    fps: float,
    now_ms: Callable[[], int],
    counters: Counters,
    speed: float,
    start_ms: int | None,
) -> VideoSource:
    closing = threading.Event()

    def frames() -> Iterator[VideoFrame]:
        first_ms = _start_ms(footage, now_ms(), speed) if start_ms is None else start_ms
        started = time.monotonic()
        try:
            for shot in footage.shots(Thinning(fps, counters)):
                if speed:
                    closing.wait(max(0.0, started + shot.time_s / speed - time.monotonic()))
                if closing.is_set():
                    return
                counters.frames += 1
                counters.frames_bytes += len(shot.value)
                taken_ms = first_ms + round(shot.time_s * 1000)
                yield VideoFrame(shot.value, shot.content_type, shot.frame, taken_ms, shot.file)
            counters.cut_off = footage.cut_off
        finally:
            footage.close()

    return VideoSource(name, frames(), counters, closing.set, footage.total_s)


def _start_ms(footage: Footage, now_ms: int, speed: float) -> int:
    """Now, or as much earlier as a film that is played faster than it was filmed would run ahead of the clock."""
    ahead = 1.0 - 1.0 / speed if speed > 1 else float(speed == 0)
    return now_ms - round((footage.total_s or 0.0) * ahead * 1000)

"""What FFmpeg's errors mean: what was expected, what is known, and whether trying again can help."""

from __future__ import annotations

import errno
import socket
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import av
from av.error import FFmpegError

from connectors.video_folder import CONTENT_TYPES
from connectors.video_frames import VideoError, masked

if TYPE_CHECKING:
    from connectors.video_container import Opening

# What will be the same the next time.
_FINAL = (
    av.error.HTTPClientError, av.error.InvalidDataError, av.error.ProtocolNotFoundError, av.error.DecoderNotFoundError,
    av.error.DemuxerNotFoundError, av.error.PatchWelcomeError, av.error.PermissionError, av.error.FileNotFoundError,
)  # fmt: skip
_NO_FILM = (av.error.InvalidDataError, av.error.EOFError)  # a live source that ends at once may come back
_FILE = "file:"
_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"moof", b"sidx", b"styp", b"uuid")


def failure(doing: str, opening: Opening, error: FFmpegError) -> VideoError:
    """What to say of FFmpeg's error while `doing` ("opening" or "reading"); credentials are left out."""
    reason, final = error.strerror or str(error), isinstance(error, _FINAL)
    if isinstance(error, av.error.ExitError):
        reason = "no answer in time"
    elif doing == "opening" and isinstance(error, _NO_FILM[: 1 if opening.live else 2]):
        reason = _no_film(opening, reason)
    elif error.errno == errno.EIO and opening.live:
        final = doing == "opening"
        reason = _no_answer(opening) if final else "the connection was lost"
    return VideoError(f"{doing} {opening.name}: {masked(reason)}", final=final)


def _no_film(opening: Opening, reason: str) -> str:
    if opening.live:
        return f"the host answered, but what it sends is no video ({reason})"
    if opening.address.startswith(_FILE) and _index_missing(Path(opening.address.removeprefix(_FILE))):
        return (
            "it is an MP4 without its index, which most have at their end: it is cut off, or still being written; copy "
            f"it again once it is whole ({reason})"
        )
    *names, last = CONTENT_TYPES
    return f"expected a film, or a picture named {', '.join(names)} or {last}; FFmpeg finds no film in it ({reason})"


def _no_answer(opening: Opening) -> str:
    """FFmpeg says the same of a host that is not there and of one that sends something else."""
    host = urlsplit(opening.address).hostname
    if host is None:
        return "it gives no pictures"
    try:
        socket.getaddrinfo(host, None)
    except OSError:
        return "there is no such host"
    return "the host answered, but what it sends is no video"


def _index_missing(path: Path) -> bool:
    """Whether a file consists of MP4's boxes, and that which tells where the frames are is not whole among them."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            at, any_boxes = 0, False
            while at + 8 <= size:
                file.seek(at)
                head = file.read(16)
                length, kind = int.from_bytes(head[:4]), head[4:8]
                length = int.from_bytes(head[8:]) if length == 1 else length or size - at
                if kind not in _BOXES or length < 8:
                    return any_boxes
                if kind == b"moov" and at + length <= size:
                    return False
                at, any_boxes = at + length, True
            return any_boxes
    except OSError:
        return False

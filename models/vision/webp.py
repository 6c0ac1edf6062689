"""A WebP file's chunks, read before anything is decoded: its size, its orientation, and whether it is whole."""

from __future__ import annotations

from collections.abc import Iterator

from models.vision import exif
from models.vision.picture_header import Header, PictureError, check_pixels

RIFF, WEBP = b"RIFF", b"WEBP"
MAX_CHUNKS = 1000

_ANIMATED = 0x02  # a flag of VP8X
_EXIF = b"Exif\0\0"


def is_webp(data: bytes) -> bool:
    """Whether the bytes start as a WebP file does."""
    return data[:4] == RIFF and data[8:12] == WEBP


def read_header(data: bytes, max_pixels: int) -> Header:
    """Size and orientation, and that no chunk is cut off.

    Raises:
        PictureError: PictureTooLarge, PictureTruncated, PictureCorrupt, PictureEmpty, PictureAnimated or
            PictureUnsupported.

    References: RFC 9649 (WebP), RFC 6386 (VP8), section 9.1.
    """
    size: tuple[int, int] | None = None
    canvas: tuple[int, int] | None = None
    turned = 1
    for kind, content in _chunks(data):
        if kind in (b"ANIM", b"ANMF") or (kind == b"VP8X" and content[:1] and content[0] & _ANIMATED):
            raise PictureError("PictureAnimated", "decoding a WebP: it is animated; send its pictures one by one")
        if kind == b"VP8X" and len(content) >= 10:
            canvas = int.from_bytes(content[4:7], "little") + 1, int.from_bytes(content[7:10], "little") + 1
        elif kind in (b"VP8 ", b"VP8L"):
            size = size or (_lossy(content) if kind == b"VP8 " else _lossless(content))
        elif kind == b"EXIF":
            turned = exif.orientation(content.removeprefix(_EXIF))
    if size is None or (canvas or size) != size:
        raise PictureError(
            "PictureCorrupt", f"decoding a WebP: expected a picture of {canvas or 'any size'}, got {size}"
        )
    check_pixels("WebP", *size, max_pixels)
    return Header("webp", *size, turned)


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content (at most 64 KiB of it) of each chunk."""
    stated = 8 + int.from_bytes(data[4:8], "little")
    if len(data) < stated:
        raise PictureError("PictureTruncated", f"decoding a WebP: expected {stated:,} bytes, got {len(data):,}")
    place = 12
    for _ in range(MAX_CHUNKS):
        if place + 8 > stated:
            return
        length = int.from_bytes(data[place + 4 : place + 8], "little")
        if place + 8 + length > stated:
            raise PictureError("PictureTruncated", f"decoding a WebP: its chunk at byte {place} is cut off")
        yield data[place : place + 4], data[place + 8 : place + 8 + min(length, 65_536)]
        place += 8 + length + length % 2
    raise PictureError("PictureUnsupported", f"decoding a WebP: expected at most {MAX_CHUNKS} chunks")


def _lossy(content: bytes) -> tuple[int, int]:
    if len(content) < 10 or content[0] & 1 or content[3:6] != b"\x9d\x01\x2a":
        raise PictureError("PictureCorrupt", "decoding a WebP: its lossy data does not start with a key frame")
    return int.from_bytes(content[6:8], "little") & 0x3FFF, int.from_bytes(content[8:10], "little") & 0x3FFF


def _lossless(content: bytes) -> tuple[int, int]:
    if len(content) < 5 or content[0] != 0x2F:
        raise PictureError("PictureCorrupt", "decoding a WebP: its lossless data does not start with its signature")
    bits = int.from_bytes(content[1:5], "little")
    return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1

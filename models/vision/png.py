"""A PNG file's chunks, read before anything is decoded: its size, its orientation, its checksums, and whether it is
whole."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from models.vision import exif
from models.vision.picture_header import Header, PictureError, check_pixels

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_CHUNKS = 65_536  # encoders write 8 to 64 KiB a chunk; each costs a microsecond here
DEFLATE_RATIO = 1032  # the most that zlib's format can expand

_KEPT = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


def read(data: bytes, max_pixels: int) -> tuple[Header, bytes]:
    """What the header says, and the file without what pixels do not need.

    Of the chunks that are left out some are compressed and expand without limit, some announce an animation.

    Raises:
        PictureError: PictureTooLarge, PictureTruncated, PictureCorrupt, PictureEmpty, PictureAnimated or
            PictureUnsupported.

    References: W3C, Portable Network Graphics (PNG) Specification, third edition, sections 5 and 11.
    """
    kept, compressed, turned, head = [SIGNATURE], 0, 1, b""
    for kind, start, end in _chunks(data):
        content = data[start + 8 : end - 4] if kind in (b"IHDR", b"eXIf") else b""
        if not head:
            if kind != b"IHDR" or len(content) != 13:
                raise PictureError("PictureCorrupt", f"decoding a PNG: expected IHDR first, got {kind!r}")
            head = content
            width, height = struct.unpack_from(">II", head)
            check_pixels("PNG", width, height, max_pixels)
        elif kind == b"acTL":
            raise PictureError("PictureAnimated", "decoding a PNG: it is animated; send its pictures one by one")
        elif kind == b"eXIf":
            turned = exif.orientation(content)
        if kind == b"IDAT":
            compressed += end - start - 12
        if kind in _KEPT:
            kept.append(data[start:end])
    width, height = _size(head, compressed)
    return Header("png", width, height, turned), b"".join(kept)


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and end of each chunk up to IEND, the checksums of those that are kept being right."""
    place = len(SIGNATURE)
    for _ in range(MAX_CHUNKS):
        if len(data) < place + 12:
            break
        length, kind = struct.unpack_from(">I4s", data, place)
        end = place + 12 + length
        if len(data) < end:
            break
        if kind in _KEPT:
            found, stated = (
                zlib.crc32(memoryview(data)[place + 4 : end - 4]),
                int.from_bytes(data[end - 4 : end], "big"),
            )
            if found != stated:
                raise PictureError(
                    "PictureCorrupt",
                    f"decoding a PNG: the checksum of {kind.decode()} at byte {place} is {found:08x}, not {stated:08x}",
                )
        yield kind, place, end
        if kind == b"IEND":
            return
        place = end
    else:
        raise PictureError("PictureUnsupported", f"decoding a PNG: expected at most {MAX_CHUNKS:,} chunks")
    raise PictureError("PictureTruncated", f"decoding a PNG: its {len(data):,} bytes end before its chunk IEND")


def _size(head: bytes, compressed_bytes: int) -> tuple[int, int]:
    width, height, depth, colour, *_ = struct.unpack(">IIBBBBB", head)
    if depth not in _DEPTHS.get(colour, ()):
        raise PictureError("PictureCorrupt", f"decoding a PNG: no colour type {colour} has {depth} bits a sample")
    needed = (width * _CHANNELS[colour] * depth + 7) // 8 * height
    if compressed_bytes * DEFLATE_RATIO < needed:
        raise PictureError(
            "PictureTruncated",
            f"decoding a PNG of {width} x {height}: {compressed_bytes:,} compressed bytes cannot hold its {needed:,}",
        )
    return width, height

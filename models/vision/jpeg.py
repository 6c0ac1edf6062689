"""A JPEG file's segments, read before anything is decoded: its size, its orientation, and whether it is whole."""

from __future__ import annotations

from models.vision import exif
from models.vision.picture_header import Header, PictureError, check_pixels

SIGNATURE = b"\xff\xd8\xff"
MAX_SEGMENTS = 1000  # an ICC profile takes up to 255; each costs a microsecond here
MAX_SCANS = 100  # progressive encoders write about 10; each is a pass over the whole picture

_SOF, _PROGRESSIVE = (0xC0, 0xC1, 0xC2), 0xC2  # baseline, extended, progressive; Huffman-coded all three
_OTHER_SOF = {
    0xC3: "lossless", 0xC5: "hierarchical", 0xC6: "hierarchical", 0xC7: "hierarchical", 0xC9: "arithmetic-coded",
    0xCA: "arithmetic-coded", 0xCB: "arithmetic-coded", 0xCD: "arithmetic-coded", 0xCE: "arithmetic-coded",
    0xCF: "arithmetic-coded",
}  # fmt: skip
_SOI, _EOI, _SOS, _APP1, _TEM = 0xD8, 0xD9, 0xDA, 0xE1, 0x01
_EXIF = b"Exif\0\0"


def read_header(data: bytes, max_pixels: int) -> Header:
    """Size and orientation, and that the file ends as a JPEG does.

    Raises:
        PictureError: PictureTooLarge, PictureTruncated, PictureCorrupt, PictureEmpty or PictureUnsupported.

    References: ITU-T T.81, annex B.
    """
    place, frame, turned = len(SIGNATURE) - 1, b"", 1
    frame_marker = 0
    for _ in range(MAX_SEGMENTS):
        marker, place = _marker(data, place)
        if marker == _TEM or 0xD0 <= marker <= 0xD7:
            continue
        if marker in (_SOI, _EOI):
            raise PictureError("PictureCorrupt", f"decoding a JPEG: expected a segment, got marker 0xff{marker:02x}")
        segment = _segment(data, place)
        if marker in _OTHER_SOF:
            raise PictureError("PictureUnsupported", f"decoding a JPEG: a {_OTHER_SOF[marker]} one is not decoded here")
        if marker in _SOF:
            if frame:
                raise PictureError("PictureCorrupt", "decoding a JPEG: expected one frame header, got two")
            frame, frame_marker = segment, marker
            height, width, _ = _frame(frame)
            check_pixels("JPEG", width, height, max_pixels)
        elif marker == _APP1 and turned == 1 and segment.startswith(_EXIF):
            turned = exif.orientation(segment[len(_EXIF) :])
        elif marker == _SOS:
            return _whole(data, place, frame, frame_marker, turned)
        place += 2 + len(segment)
    raise PictureError("PictureUnsupported", f"decoding a JPEG: expected at most {MAX_SEGMENTS} segments")


def _marker(data: bytes, place: int) -> tuple[int, int]:
    """The marker at a place, and where it ends; any number of fill bytes may stand before it."""
    if data[place : place + 1] not in (b"\xff", b""):
        raise PictureError(
            "PictureCorrupt", f"decoding a JPEG: expected a marker at byte {place}, got 0x{data[place]:02x}"
        )
    if data[place + 1 : place + 2] == b"\xff":
        place = len(data) - len(data[place:].lstrip(b"\xff")) - 1
    if place + 1 >= len(data):
        raise PictureError("PictureTruncated", f"decoding a JPEG: its {len(data):,} bytes end within its header")
    return data[place + 1], place + 2


def _segment(data: bytes, place: int) -> bytes:
    length = int.from_bytes(data[place : place + 2], "big")
    if len(data) < place + max(length, 2):
        raise PictureError("PictureTruncated", f"decoding a JPEG: its {len(data):,} bytes end within its header")
    if length < 2:
        raise PictureError(
            "PictureCorrupt", f"decoding a JPEG: a segment at byte {place} says it is {length} bytes long"
        )
    return data[place + 2 : place + length]


def _whole(data: bytes, scan: int, frame: bytes, marker: int, orientation: int) -> Header:
    """The header, once the scans hold what it promises; `scan` is where the first one starts."""
    if not frame:
        raise PictureError("PictureCorrupt", "decoding a JPEG: expected a frame header before the first scan")
    height, width, components = _frame(frame)
    # libjpeg fills what is missing with grey and calls it a warning; an end marker in a scan can be nothing else,
    # because a 0xff of the data is followed by 0x00 there.
    if data.rfind(b"\xff\xd9", scan) < 0:
        raise PictureError(
            "PictureTruncated",
            f"decoding a JPEG of {width} x {height}: its {len(data):,} bytes end before its end marker",
        )
    least = _least_bytes(width, height, components)
    if len(data) - scan < least:
        raise PictureError(
            "PictureTruncated",
            f"decoding a JPEG of {width} x {height}: its scans take {least:,} bytes or more, got {len(data) - scan:,}",
        )
    if marker == _PROGRESSIVE and (scans := data.count(b"\xff\xda", scan - 2)) > MAX_SCANS:
        raise PictureError("PictureUnsupported", f"decoding a JPEG: expected at most {MAX_SCANS} scans, got {scans:,}")
    return Header("jpeg", width, height, orientation)


def _frame(frame: bytes) -> tuple[int, int, list[tuple[int, int]]]:
    """Height, width, and each component's sampling factors, horizontal and vertical."""
    if len(frame) < 6 or len(frame) != 6 + 3 * frame[5]:
        raise PictureError("PictureCorrupt", f"decoding a JPEG: its frame header has {len(frame)} bytes")
    precision, height, width = frame[0], int.from_bytes(frame[1:3], "big"), int.from_bytes(frame[3:5], "big")
    if precision != 8:
        raise PictureError("PictureUnsupported", f"decoding a JPEG: expected 8 bits a sample, got {precision}")
    if frame[5] not in (1, 3, 4):
        raise PictureError("PictureUnsupported", f"decoding a JPEG: expected 1, 3 or 4 components, got {frame[5]}")
    components = [(each >> 4, each & 15) for each in frame[7::3]]
    if not all(1 <= h <= 4 and 1 <= v <= 4 for h, v in components):
        raise PictureError("PictureCorrupt", f"decoding a JPEG: its sampling factors are {components}")
    return height, width, components


def _least_bytes(width: int, height: int, components: list[tuple[int, int]]) -> int:
    """What the scans must hold: a Huffman code of one bit for each block's DC coefficient. Stops tiny files that
    promise much before their pixels are allocated."""
    widest, tallest = max(h for h, _ in components), max(v for _, v in components)
    bits = sum((width * h // widest // 8) * (height * v // tallest // 8) for h, v in components)
    return bits // 8

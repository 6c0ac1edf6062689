"""Pictures in: JPEG, PNG and WebP bytes become pixels, and no bytes can cost more than the limits allow.

JPEG goes through libjpeg-turbo (simplejpeg), which measures level with OpenCV's own and, unlike it, says when data is
missing; PNG and WebP go through OpenCV. Both, and the turning, release the GIL, so threads scale; the header is read in
Python and takes 10 to 20 µs.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from models.vision import jpeg, png, webp
from models.vision.picture_header import Header, Kind, PictureError

__all__ = ["LIMITS", "Limits", "Picture", "PictureError", "decode"]

FACTORS = (8, 4, 2)  # what libjpeg-turbo halves quickly; 5/8 and its kin take longer than the whole picture

_COLOUR = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
# Webcams pad before the end marker; phones write scan parameters that only a progressive file may have.
_HARMLESS = re.compile(r"Corrupt JPEG data: \d{1,2} extraneous bytes before marker 0xd9|Invalid SOS parameters")
_PREMATURE = re.compile("premature end", re.IGNORECASE)
_SIDEWAYS = (5, 6, 7, 8)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a picture may cost; decoding takes at most about 16 bytes a pixel beside the input."""

    max_pixels: int = 40_000_000
    max_bytes: int = 32 * 1024 * 1024


LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded picture, the right way up.

    Args:
        pixels: uint8 [h, w, 3], BGR, C-contiguous, its own memory.
        width: of the source in pixels, the right way up; `factor` times that of `pixels`.
        height: likewise.
        factor: 1, 2, 4 or 8; a source pixel's place is its place in `pixels` times this.
    """

    pixels: NDArray[np.uint8]
    width: int
    height: int
    factor: int


def decode(data: bytes, limits: Limits = LIMITS, at_least: tuple[int, int] | None = None) -> Picture:
    """Decode one still picture; thread-safe.

    Grey becomes three equal channels, alpha is left out, 16 bits become the upper 8, CMYK is taken as Adobe writes it
    (inverted). EXIF orientation is applied. Bytes behind the picture's end are ignored. Animations are refused.

    Args:
        data: JPEG, PNG or WebP; nothing else is accepted.
        limits: checked against the header before anything is decoded.
        at_least: width and height, the right way up. A JPEG may be decoded at 1/2, 1/4 or 1/8 as long as both axes
            keep this many pixels and divide evenly.

    Raises:
        PictureError: it cannot or may not be decoded; `kind` says why.
    """
    header, data = _checked(data, limits)
    sideways = header.orientation in _SIDEWAYS
    width, height = (header.height, header.width) if sideways else (header.width, header.height)
    factor = 1
    if header.format == "jpeg":
        if at_least is not None:
            factor = _factor(width, height, at_least)
        pixels = _jpeg(data, header, factor)
    else:
        pixels = _by_opencv(data, header)
    return Picture(_upright(pixels, header.orientation), width, height, factor)


def _checked(data: bytes, limits: Limits) -> tuple[Header, bytes]:
    """The header and what is to be decoded, if they are within the limits."""
    if not data:
        raise PictureError("PictureEmpty", "decoding a picture: expected JPEG, PNG or WebP, got no bytes")
    if len(data) > limits.max_bytes:
        raise PictureError(
            "PictureTooLarge", f"decoding a picture: expected at most {limits.max_bytes:,} bytes, got {len(data):,}"
        )
    if data.startswith(jpeg.SIGNATURE):
        header = jpeg.read_header(data, limits.max_pixels)
    elif data.startswith(png.SIGNATURE):
        header, data = png.read(data, limits.max_pixels)
    elif webp.is_webp(data):
        header = webp.read_header(data, limits.max_pixels)
    else:
        raise _foreign(data)
    return header, data


def _foreign(data: bytes) -> PictureError:
    starts = (jpeg.SIGNATURE, png.SIGNATURE, webp.RIFF)
    if any(start.startswith(data) for start in starts) or (data.startswith(webp.RIFF) and len(data) < 12):
        return PictureError("PictureTruncated", f"decoding a picture: its {len(data)} bytes end within its header")
    start = data[:8].hex(" ")
    return PictureError(
        "PictureForeign", f"decoding a picture: expected JPEG, PNG or WebP, got bytes that start {start}"
    )


def _factor(width: int, height: int, at_least: tuple[int, int]) -> int:
    """How much smaller a JPEG may be decoded."""
    for factor in FACTORS:
        whole = width % factor == 0 and height % factor == 0
        if whole and width // factor >= at_least[0] and height // factor >= at_least[1]:
            return factor
    return 1


def _jpeg(data: bytes, header: Header, factor: int) -> NDArray[np.uint8]:
    height, width = header.height // factor, header.width // factor
    smallest = {"min_height": height, "min_width": width, "min_factor": factor} if factor > 1 else {}
    try:
        try:
            pixels = simplejpeg.decode_jpeg(data, "BGR", **smallest)
        except ValueError as error:
            if not _HARMLESS.match(str(error)):
                raise
            pixels = simplejpeg.decode_jpeg(data, "BGR", strict=False, **smallest)
    except ValueError as error:
        kind: Kind = "PictureTruncated" if _PREMATURE.search(str(error)) else "PictureCorrupt"
        raise PictureError(
            kind,
            f"decoding a JPEG of {header.width} x {header.height}: {error}",
        ) from None
    return _of_size(pixels, height, width, header)


def _by_opencv(data: bytes, header: Header) -> NDArray[np.uint8]:
    name = {"png": "PNG", "webp": "WebP"}[header.format]
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), _COLOUR)
    except cv2.error as error:
        raise PictureError("PictureCorrupt", f"decoding a {name}: {error.err}") from None
    if pixels is None:
        raise PictureError(
            "PictureCorrupt",
            f"decoding a {name} of {header.width} x {header.height}: its data is damaged or incomplete",
        )
    return _of_size(pixels, header.height, header.width, header)


def _of_size(pixels: object, height: int, width: int, header: Header) -> NDArray[np.uint8]:
    """The decoder must have found what the header said, or else boxes would lie elsewhere."""
    if not isinstance(pixels, np.ndarray) or pixels.shape != (height, width, 3) or pixels.dtype != np.uint8:
        raise PictureError(
            "PictureCorrupt",
            f"decoding a picture: its header says {header.width} x {header.height}, its data otherwise",
        )
    return pixels


_TURNS: dict[int, Callable[[NDArray[np.uint8]], object]] = {
    2: lambda pixels: cv2.flip(pixels, 1),
    3: lambda pixels: cv2.rotate(pixels, cv2.ROTATE_180),
    4: lambda pixels: cv2.flip(pixels, 0),
    5: cv2.transpose,
    6: lambda pixels: cv2.rotate(pixels, cv2.ROTATE_90_CLOCKWISE),
    7: lambda pixels: cv2.rotate(cv2.transpose(pixels), cv2.ROTATE_180),
    8: lambda pixels: cv2.rotate(pixels, cv2.ROTATE_90_COUNTERCLOCKWISE),
}


def _upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    turn = _TURNS.get(orientation)
    return pixels if turn is None else np.ascontiguousarray(turn(pixels), np.uint8)

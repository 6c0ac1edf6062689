"""What the header parsers of JPEG, PNG and WebP have in common: the one error, and what a header says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "PictureEmpty",  # no bytes, or a width or height of 0
    "PictureForeign",  # neither JPEG nor PNG nor WebP
    "PictureTooLarge",  # more bytes or more pixels than the limit
    "PictureTruncated",  # the bytes end before the picture does
    "PictureCorrupt",  # the bytes contradict the format, a checksum or each other
    "PictureAnimated",  # several pictures in one
    "PictureUnsupported",  # a legal form that is not decoded here
]


class PictureError(Exception):
    """The bytes are no picture that may be decoded; says so to a person, and by `kind` to a program.

    Args:
        kind: a stable word for dead letters and metrics.
        message: a sentence.
    """

    def __init__(self, kind: Kind, message: str) -> None:
        super().__init__(message)
        self.kind: Kind = kind
        self.message = message


@dataclass(frozen=True, slots=True)
class Header:
    """What a picture's header promises.

    Args:
        format: how it is encoded.
        width: pixels as stored, before the orientation is applied.
        height: likewise.
        orientation: 1 to 8 as EXIF counts, 1 where nothing is said.
    """

    format: Literal["jpeg", "png", "webp"]
    width: int
    height: int
    orientation: int


def check_pixels(name: str, width: int, height: int, max_pixels: int) -> None:
    """Refuse a size before anything is allocated for it.

    Raises:
        PictureError: PictureEmpty or PictureTooLarge.
    """
    if not width or not height:
        raise PictureError("PictureEmpty", f"decoding a {name}: its header says {width} x {height} pixels")
    if width * height > max_pixels:
        raise PictureError(
            "PictureTooLarge",
            f"decoding a {name}: its header promises {width} x {height} pixels, expected at most {max_pixels:,}",
        )

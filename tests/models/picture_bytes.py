"""Encoded pictures for tests, what Pillow makes of them, and how they are refused."""

from __future__ import annotations

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from models.vision.picture_header import PictureError
from models.vision.pictures import Limits, Picture, decode

NEAR = 2  # grey levels between two versions of libjpeg-turbo


def scene(width: int, height: int, seed: int = 0) -> Image.Image:
    """Smooth colours with a bright corner, so that every turn of it looks different."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)
    pixels = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    pixels[: height // 4, : width // 3] = 250
    return Image.fromarray(pixels)


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def by_pillow(data: bytes) -> NDArray[np.uint8]:
    """BGR, upright."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    return np.asarray(image.convert("RGB"))[..., ::-1]


def assert_same(picture: Picture, expected: NDArray[np.uint8], near: int) -> None:
    assert picture.pixels.shape == expected.shape
    assert picture.pixels.dtype == np.uint8
    assert picture.pixels.flags.c_contiguous
    assert picture.pixels.flags.writeable
    assert (picture.height, picture.width) == expected.shape[:2]
    assert np.abs(picture.pixels.astype(int) - expected).max() <= near


def refused(data: bytes, limits: Limits | None = None) -> PictureError:
    with pytest.raises(PictureError) as caught:
        decode(data, *([limits] if limits else []))
    assert str(caught.value).startswith("decoding a ")
    return caught.value


def with_exif(form: str, orientation: int) -> bytes:
    image = scene(61, 40)
    exif = image.getexif()
    exif[0x0112] = orientation
    return encoded(image, form, exif=exif, **({"lossless": True} if form == "WEBP" else {}))


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, rows: bytes, *, depth: int = 8, colour: int = 2, extra: bytes = b"") -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


JPEG = encoded(scene(160, 120), "JPEG", quality=90)
PROGRESSIVE = encoded(scene(160, 120), "JPEG", quality=90, progressive=True)
PNG = encoded(scene(160, 120), "PNG")
WEBP = encoded(scene(160, 120), "WEBP")

"""Pictures in: what Pillow decodes the same way, and bytes that are refused in words before they can cost anything."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from models.vision.pictures import Limits, decode
from tests.models.picture_bytes import (
    JPEG,
    NEAR,
    PNG,
    PROGRESSIVE,
    WEBP,
    assert_same,
    by_pillow,
    chunk,
    encoded,
    png,
    refused,
    scene,
    with_exif,
)  # fmt: skip

ROOT = Path(__file__).parents[2]
DOG = ROOT.parent / "shared/data/detection/images/dog.jpg"


# What is decoded


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("size", [(1, 1), (7, 3), (16, 16), (161, 83)])
def test_a_jpeg_is_what_pillow_and_opencv_make_of_it(
    size: tuple[int, int], subsampling: int, progressive: bool
) -> None:
    data = encoded(scene(*size), "JPEG", subsampling=subsampling, progressive=progressive)
    assert_same(decode(data), by_pillow(data), NEAR)
    assert np.array_equal(decode(data).pixels, cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_a_png_of_any_mode_is_what_pillow_makes_of_it(mode: str) -> None:
    image = scene(61, 40)
    if mode in ("LA", "RGBA"):
        alpha = image.getchannel(0)
        image = image.convert(mode[:-1])
        image.putalpha(alpha)
    data = encoded(image.convert(mode), "PNG")
    assert_same(decode(data), by_pillow(data), 0)


def test_a_transparent_colour_of_a_png_stays_that_colour() -> None:
    data = encoded(scene(61, 40), "PNG", transparency=(250, 250, 250))
    assert_same(decode(data), by_pillow(data), 0)


@pytest.mark.parametrize("lossless", [False, True])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_a_webp_is_what_pillow_makes_of_it(mode: str, lossless: bool) -> None:
    image = scene(61, 40)
    if mode == "RGBA":
        image.putalpha(image.getchannel(0))
    data = encoded(image, "WEBP", lossless=lossless, exact=True)
    assert_same(decode(data), by_pillow(data), 0 if lossless else NEAR)


def test_sixteen_bits_become_the_upper_eight() -> None:
    values = np.random.default_rng(1).integers(0, 65536, (5, 7, 3), dtype=np.uint16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    expected = (values >> 8).astype(np.uint8)[..., ::-1]
    assert_same(decode(png(7, 5, rows, depth=16)), expected, 0)
    grey = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values[..., 0])
    assert_same(decode(png(7, 5, grey, depth=16, colour=0)), np.repeat(expected[..., 2:], 3, axis=2), 0)


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_grey_and_cmyk_jpegs_become_three_colours(mode: str) -> None:
    data = encoded(scene(160, 120).convert(mode), "JPEG", quality=95)
    assert_same(decode(data), by_pillow(data), NEAR)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_every_exif_orientation_is_turned_upright(form: str, orientation: int) -> None:
    data = with_exif(form, orientation)
    assert_same(decode(data), by_pillow(data), NEAR)
    assert (decode(data).width > decode(data).height) is (orientation < 5)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_out_of_range_is_none(orientation: int) -> None:
    assert (decode(with_exif("JPEG", orientation)).width, decode(with_exif("JPEG", 1)).width) == (61, 61)


def test_a_damaged_exif_block_turns_nothing() -> None:
    data = with_exif("JPEG", 6)
    start = data.index(b"Exif\0\0") + 6
    for place in range(start, start + 26):
        for byte in (0, 0x7F, 0xFF):
            broken = data[:place] + bytes([byte]) + data[place + 1 :]
            assert decode(broken).pixels.shape in ((40, 61, 3), (61, 40, 3))


@pytest.mark.parametrize("data", [JPEG, PROGRESSIVE, PNG, WEBP])
def test_bytes_behind_the_end_do_not_matter(data: bytes) -> None:
    for tail in (b"\0" * 1000, b"\xff" * 100, JPEG[:300], b"trailing"):
        assert np.array_equal(decode(data + tail).pixels, decode(data).pixels)


def test_a_webcams_padding_before_the_end_marker_is_harmless() -> None:
    padded = JPEG[:-2] + b"\0" * 20 + JPEG[-2:]
    assert np.array_equal(decode(padded).pixels, decode(JPEG).pixels)


def test_a_frame_of_motion_jpeg_without_huffman_tables_is_decoded() -> None:
    data = encoded(scene(160, 120), "JPEG", quality=90, optimize=False)
    bare, place = data[:2], 2
    while data[place + 1] != 0xDA:
        end = place + 2 + int.from_bytes(data[place + 2 : place + 4], "big")
        bare += b"" if data[place + 1] == 0xC4 else data[place:end]
        place = end
    assert len(bare + data[place:]) < len(data)
    assert np.array_equal(decode(bare + data[place:]).pixels, decode(data).pixels)


# Smaller than it is


@pytest.mark.parametrize(
    ("at_least", "factor"),
    [((640, 480), 1), ((321, 10), 1), ((320, 240), 2), ((10, 200), 2), ((160, 120), 4), ((80, 60), 8), ((1, 1), 8)],
)
def test_a_jpeg_is_decoded_no_smaller_than_asked(at_least: tuple[int, int], factor: int) -> None:
    data = encoded(scene(640, 480), "JPEG", quality=95)
    picture = decode(data, at_least=at_least)
    assert (picture.width, picture.height, picture.factor) == (640, 480, factor)
    assert picture.pixels.shape == (480 // factor, 640 // factor, 3)
    means = by_pillow(data).reshape(480 // factor, factor, 640 // factor, factor, 3).mean(axis=(1, 3))
    assert np.abs(picture.pixels - means).mean() < 2


def test_a_turned_jpeg_is_measured_upright() -> None:
    image = scene(640, 320)
    exif = image.getexif()
    exif[0x0112] = 6
    picture = decode(encoded(image, "JPEG", exif=exif), at_least=(160, 300))
    assert (picture.width, picture.height, picture.factor) == (320, 640, 2)
    assert picture.pixels.shape == (320, 160, 3)


def test_a_size_that_does_not_divide_and_a_png_stay_whole() -> None:
    assert decode(encoded(scene(637, 479), "JPEG"), at_least=(10, 10)).factor == 1
    assert decode(PNG, at_least=(10, 10)).pixels.shape == (120, 160, 3)


# What is refused


@pytest.mark.parametrize("data", [JPEG, PROGRESSIVE, PNG, WEBP])
def test_a_picture_that_ends_early_is_never_half_a_picture(data: bytes) -> None:
    for length in [*range(3, 700), *range(700, len(data) - 1, 37), len(data) - 1]:
        assert refused(data[:length]).kind == "PictureTruncated", length


@pytest.mark.parametrize("data", [JPEG, PROGRESSIVE])
def test_a_jpeg_cut_off_and_closed_by_whoever_sent_it_is_noticed(data: bytes) -> None:
    scan = data.index(b"\xff\xda")
    for length in (scan + 200, len(data) // 2, len(data) - 60):
        assert refused(data[:length] + b"\xff\xd9").kind == "PictureTruncated"
    assert refused(data[: len(data) // 2] + data).kind in ("PictureTruncated", "PictureCorrupt")


def test_a_png_whose_compressed_data_ends_early_is_refused() -> None:
    rows = b"".join(b"\0" + bytes(21) for _ in range(5))
    assert decode(png(7, 5, rows)).pixels.shape == (5, 7, 3)
    assert refused(png(7, 5, rows[:-30])).kind == "PictureCorrupt"


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", "PictureEmpty"),
        (b"\xff", "PictureTruncated"),
        (b"GIF89a" + bytes(50), "PictureForeign"),
        (b"BM" + bytes(50), "PictureForeign"),
        (b'{"not": "a picture"}', "PictureForeign"),
        (b"RIFF\x04\0\0\0WAVE", "PictureForeign"),
        (bytes(100), "PictureForeign"),
        (b"\xff\xd8\xff\xd9", "PictureCorrupt"),
        (b"\xff\xd8\xff\xe0\0\1", "PictureCorrupt"),
        (b"\xff\xd8" + b"\xff" * 5000, "PictureTruncated"),
        (b"\xff\xd8" + b"\xff\xd0" * 5000, "PictureUnsupported"),
        (b"\x89PNG\r\n\x1a\n" + chunk(b"IDAT", b"x"), "PictureCorrupt"),
        (png(0, 5, b""), "PictureEmpty"),
        (png(5, 0, b""), "PictureEmpty"),
        (png(5, 5, b"", depth=7), "PictureCorrupt"),
        (JPEG.replace(b"\xff\xc0\0\x11\x08", b"\xff\xc0\0\x11\x0c"), "PictureUnsupported"),
        (JPEG.replace(b"\xff\xc0\0\x11\x08\0\x78", b"\xff\xc0\0\x11\x08\0\0"), "PictureEmpty"),
        (JPEG.replace(b"\xff\xc0\0\x11", b"\xff\xc3\0\x11"), "PictureUnsupported"),
        (JPEG.replace(b"\xff\xc0\0\x11", b"\xff\xc9\0\x11"), "PictureUnsupported"),
        (encoded(scene(9, 9), "PNG", save_all=True, append_images=[scene(9, 9, 1)]), "PictureAnimated"),
        (encoded(scene(9, 9), "WEBP", save_all=True, append_images=[scene(9, 9, 1)]), "PictureAnimated"),
        (encoded(scene(9, 9), "GIF"), "PictureForeign"),
        (encoded(scene(9, 9), "TIFF"), "PictureForeign"),
    ],
)
def test_what_is_no_picture_to_us_is_refused_by_its_kind(data: bytes, kind: str) -> None:
    assert refused(data).kind == kind


def test_a_promise_beyond_the_limit_is_refused_before_decoding() -> None:
    jpeg = JPEG.replace(b"\xff\xc0\0\x11\x08\0\x78\0\xa0", b"\xff\xc0\0\x11\x08\xff\xdc\xff\xdc")
    size = struct.pack("<HH", 16383, 16383)
    place = WEBP.index(b"\x9d\x01\x2a") + 3
    for data in (jpeg, png(2**31 - 1, 2**31 - 1, b""), WEBP[:place] + size + WEBP[place + 4 :]):
        error = refused(data)
        assert error.kind == "PictureTooLarge"
        assert "40,000,000" in error.message


def test_the_limits_are_inclusive() -> None:
    for data in (JPEG, PNG, WEBP):
        assert decode(data, Limits(160 * 120, len(data))).width == 160
        assert refused(data, Limits(160 * 120 - 1)).kind == "PictureTooLarge"
        assert refused(data, Limits(max_bytes=len(data) - 1)).kind == "PictureTooLarge"


def test_a_small_file_with_a_large_promise_within_the_limit_is_refused_by_arithmetic() -> None:
    jpeg = JPEG.replace(b"\xff\xc0\0\x11\x08\0\x78\0\xa0", b"\xff\xc0\0\x11\x08\x17\x70\x17\x70")
    for data in (jpeg, png(6000, 6000, bytes(100))):
        error = refused(data)
        assert error.kind == "PictureTruncated"
        assert "6000 x 6000" in error.message


def test_a_progressive_jpeg_of_very_many_scans_is_refused() -> None:
    first = PROGRESSIVE.index(b"\xff\xda")
    second = PROGRESSIVE.index(b"\xff\xda", first + 2)
    repeated = PROGRESSIVE[:second] + PROGRESSIVE[first:second] * 200 + PROGRESSIVE[second:]
    assert refused(repeated).kind == "PictureUnsupported"


def test_a_wrong_checksum_in_a_png_is_named() -> None:
    place = PNG.index(b"IDAT") + 100
    error = refused(PNG[:place] + bytes([PNG[place] ^ 1]) + PNG[place + 1 :])
    assert (error.kind, "IDAT" in error.message) == ("PictureCorrupt", True)


def test_what_a_png_carries_beside_its_pixels_is_not_unpacked() -> None:
    rows = b"".join(b"\0" + bytes(21) for _ in range(5))
    bomb = zlib.compress(bytes(100_000_000), 9)
    extra = chunk(b"iCCP", b"x\0\0" + bomb) + chunk(b"zTXt", b"x\0\0" + bomb)
    assert np.array_equal(decode(png(7, 5, rows, extra=extra)).pixels, decode(png(7, 5, rows)).pixels)
    assert decode(png(7, 5, rows + bytes(50_000_000))).pixels.shape == (5, 7, 3)


def test_a_webp_whose_canvas_is_not_its_picture_is_refused() -> None:
    data = with_exif("WEBP", 1)
    canvas = data.index(b"VP8X") + 12
    assert refused(data[:canvas] + struct.pack("<I", 99)[:3] + data[canvas + 3 :]).kind == "PictureCorrupt"


@pytest.mark.skipif(not DOG.exists(), reason="needs the pictures in ../shared/data")
def test_a_photograph_is_decoded_as_pillow_does_it() -> None:
    data = DOG.read_bytes()
    assert_same(decode(data), by_pillow(data), NEAR)

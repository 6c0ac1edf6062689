"""Frames off the wire: what a picture becomes, and every way in which a record can be none."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from models.manifest import Manifest, TensorEntry
from models.vision.preprocess import Preprocess
from models.vision.specs import Head, Picture
from streams.clock import ManualClock
from streams.pipeline import Decoded
from streams.pipelines.vision.frames import FrameDecoder, Frames
from streams.records import Headers
from streams.settings import Vision
from tests.streams.inmemory import batch

NOW_S = 1_767_225_600.0  # 2026-01-01
NOW_MS = int(NOW_S * 1000)
WIDTH, HEIGHT = 64, 48
MANIFEST = Manifest(
    name="eye",
    version=1,
    description="",
    licence="",
    sha256="0" * 64,
    inputs=(TensorEntry("images", "float32", (-1, 3, HEIGHT, WIDTH)),),
    outputs=(TensorEntry("out", "float32", (-1, 6, 10)),),
    task="detect",
    labels=("thing", "other"),
    picture=Picture(width=WIDTH, height=HEIGHT, align="top-left"),
    head=Head(family="yolov8"),
)


def picture(width: int = WIDTH, height: int = HEIGHT, seed: int = 0) -> NDArray[np.uint8]:
    """Smooth, so that JPEG keeps it nearly as it is."""
    ramp = np.linspace(0, 200, width, dtype=np.float32)[None, :, None] + np.linspace(0, 50, height)[:, None, None]
    return np.clip(ramp + np.array([0, 3, 5 + seed]), 0, 255).astype(np.uint8)


def encoded(pixels: NDArray[np.uint8], suffix: str = ".jpg") -> bytes:
    return bytes(cv2.imencode(suffix, pixels)[1])


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


def _decode(
    threads: ThreadPoolExecutor,
    values: list[bytes | None],
    headers: list[Headers] | None = None,
    keys: list[bytes | None] | None = None,
    **settings: int,
) -> Decoded[Frames]:
    decoder = FrameDecoder(Vision(**settings), lambda: Preprocess(MANIFEST), threads, ManualClock(NOW_S))
    records = batch(values, keys=keys or [b"gate"] * len(values), headers=headers, start=40)
    records.timestamps_ms = [NOW_MS - 1000] * len(values)
    return decoder(records)


def test_a_frame_becomes_the_networks_input_and_knows_where_it_lies_in_it(threads: ThreadPoolExecutor) -> None:
    pixels = picture()
    headers: Headers = [("content-type", b"image/png"), ("frame", b"7"), ("event-time", b"2025-12-31T23:59:59.500Z")]
    decoded = _decode(threads, [encoded(pixels, ".png")], [headers])
    frames = decoded.columns
    assert (frames.cameras, frames.frame.tolist(), frames.event_time_ms.tolist()) == (["gate"], [7], [NOW_MS - 500])
    assert (frames.offset.tolist(), frames.sizes.tolist()) == ([40], [[WIDTH, HEIGHT]])
    assert frames.placements.tolist() == [[1, 1, 0, 0]]
    np.testing.assert_array_equal(frames.tensor[0], pixels[:, :, ::-1].transpose(2, 0, 1))


def test_without_headers_the_offset_counts_and_the_records_own_time_stands(threads: ThreadPoolExecutor) -> None:
    frames = _decode(threads, [encoded(picture())] * 2).columns
    assert frames.frame.tolist() == [40, 41]
    assert frames.event_time_ms.tolist() == [NOW_MS - 1000] * 2


@pytest.mark.parametrize("text", [b"1767225599000", b"2026-01-01T00:59:59+01:00", b"2025-12-31T23:59:59Z"])
def test_event_times_are_rfc_3339_or_milliseconds(threads: ThreadPoolExecutor, text: bytes) -> None:
    frames = _decode(threads, [encoded(picture())], [[("event-time", text)]]).columns
    assert frames.event_time_ms.tolist() == [NOW_MS - 1000]


@pytest.mark.parametrize("size", [(640, 480), (1920, 1080), (3000, 200), (31, 517)])
def test_a_large_jpeg_may_be_read_at_less_but_its_place_is_that_of_the_whole(
    threads: ThreadPoolExecutor, size: tuple[int, int]
) -> None:
    frames = _decode(threads, [encoded(picture(*size))]).columns
    assert frames.sizes.tolist() == [list(size)]
    ratio = min(WIDTH / size[0], HEIGHT / size[1])
    inner = np.array([max(1, round(size[0] * ratio)), max(1, round(size[1] * ratio))])
    np.testing.assert_allclose(frames.placements[0], [*(inner / size), 0, 0], rtol=1e-6)


GOOD = encoded(picture())
BAD: dict[str, tuple[bytes | None, Headers, bytes | None, str]] = {
    "tombstone": (None, [], b"gate", "PictureEmpty"),
    "no bytes": (b"", [], b"gate", "PictureEmpty"),
    "foreign": (b'{"event": "json"}', [], b"gate", "PictureForeign"),
    "truncated": (GOOD[: len(GOOD) // 2], [], b"gate", "PictureTruncated"),
    "no key": (GOOD, [], None, "WrongKey"),
    "empty key": (GOOD, [], b"", "WrongKey"),
    "long key": (GOOD, [], b"g" * 300, "WrongKey"),
    "key that is no text": (GOOD, [], b"\xff\xfe", "WrongKey"),
    "frame that is no number": (GOOD, [("frame", b"seven")], b"gate", "InvalidHeader"),
    "negative frame": (GOOD, [("frame", b"-1")], b"gate", "InvalidHeader"),
    "huge frame": (GOOD, [("frame", b"9" * 40)], b"gate", "InvalidHeader"),
    "time that is none": (GOOD, [("event-time", b"yesterday")], b"gate", "InvalidHeader"),
    "time without an offset": (GOOD, [("event-time", b"2026-01-01T00:00:00")], b"gate", "InvalidHeader"),
    "time in seconds": (GOOD, [("event-time", b"1767225599")], b"gate", "EventTimeAbsurd"),
    "time far ahead": (GOOD, [("event-time", b"2036-01-01T00:00:00Z")], b"gate", "EventTimeAbsurd"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_frame_is_poison_with_its_kind_and_costs_no_other(threads: ThreadPoolExecutor, what: str) -> None:
    value, headers, key, kind = BAD[what]
    decoded = _decode(threads, [GOOD, value, GOOD], [[], headers, []], [b"gate", key, b"yard"])
    assert {row: error.kind for row, error in decoded.poison.items()} == {1: kind}
    assert decoded.poison[1].stage == "decode"
    assert (decoded.rows.tolist(), decoded.columns.cameras) == ([0, 2], ["gate", "yard"])
    assert len(decoded.columns.tensor) == 2
    np.testing.assert_array_equal(decoded.columns.tensor[0], decoded.columns.tensor[1])


def test_more_pixels_or_bytes_than_allowed_are_refused(threads: ThreadPoolExecutor) -> None:
    decoded = _decode(threads, [encoded(picture(200, 100), ".png"), GOOD], max_pixels=10_000)
    assert [error.kind for error in decoded.poison.values()] == ["PictureTooLarge"]
    decoded = _decode(threads, [GOOD], max_value_bytes=100)
    assert [error.kind for error in decoded.poison.values()] == ["PictureTooLarge"]


def test_nothing_but_poison_leaves_empty_columns(threads: ThreadPoolExecutor) -> None:
    decoded = _decode(threads, [b"x", b"y"])
    assert len(decoded.columns) == len(decoded.rows) == len(decoded.columns.tensor) == 0
    assert len(decoded.poison) == 2


def test_columns_can_be_thinned_out(threads: ThreadPoolExecutor) -> None:
    frames = _decode(threads, [encoded(picture(seed=seed), ".png") for seed in range(4)]).columns
    taken = frames.take(np.array([3, 1]))
    assert taken.frame.tolist() == [43, 41]
    np.testing.assert_array_equal(taken.tensor, frames.tensor[[3, 1]])
    assert len(taken.seen) == 2

"""Pictures as rows of the input, beside the steps written one by one."""

from __future__ import annotations

import threading

import cv2
import numpy as np
import pytest

from models.engine import ModelIncompatible
from models.manifest import Manifest, TensorEntry
from models.vision.preprocess import Preprocess, row_shape
from models.vision.specs import Head, Picture


def manifest(picture: Picture, dtype: str = "float32") -> Manifest:
    shape = (-1, *row_shape(picture))
    return Manifest(
        "m", 1, "", "", "0" * 64, (TensorEntry("images", dtype, shape),), (TensorEntry("out", "float32", (-1,)),),
        picture=picture, task="detect", head=Head("yolox"), labels=("a",),
    )  # fmt: skip


def picture_of(width: int, height: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def plain(source: np.ndarray, picture: Picture) -> np.ndarray:
    """The same in the textbook's order: resize, place, order the channels, scale, transpose."""
    height, width = source.shape[:2]
    if picture.resize == "stretch":
        canvas = cv2.resize(source, (picture.width, picture.height))
    else:
        ratio = min(picture.width / width, picture.height / height)
        inner = cv2.resize(source, (round(width * ratio), round(height * ratio)))
        canvas = np.full((picture.height, picture.width, 3), picture.fill, np.uint8)
        top = (picture.height - len(inner)) // 2 if picture.align == "centre" else 0
        left = (picture.width - inner.shape[1]) // 2 if picture.align == "centre" else 0
        canvas[top : top + len(inner), left : left + inner.shape[1]] = inner
    if picture.colour == "grey":
        canvas = cv2.cvtColor(canvas, cv2.COLOR_BGR2GRAY)[..., None]
    elif picture.colour == "rgb":
        canvas = cv2.cvtColor(canvas, cv2.COLOR_BGR2RGB)
    mean, std = picture.mean or (0.0,), picture.std or (1.0,)
    values = (canvas.astype(np.float64) * picture.scale - mean) / std
    return values if picture.layout == "nhwc" else values.transpose(2, 0, 1)


IMAGENET = {"scale": 1 / 255, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


@pytest.mark.parametrize(
    "picture",
    [
        Picture(64, 48),
        Picture(64, 48, align="top-left", colour="bgr", fill=0),
        Picture(48, 64, resize="stretch", scale=1 / 255),
        Picture(40, 40, **IMAGENET),
        Picture(40, 40, layout="nhwc", **IMAGENET),
        Picture(40, 40, layout="nhwc", colour="bgr"),
        Picture(32, 32, colour="grey", scale=1 / 255),
        Picture(32, 32, colour="grey", layout="nhwc", mean=(127.0,), std=(128.0,)),
    ],
)
@pytest.mark.parametrize("size", [(100, 37), (31, 200), (64, 48), (1, 1), (500, 500)])
def test_a_row_is_what_the_steps_one_by_one_give(picture: Picture, size: tuple[int, int]) -> None:
    source = picture_of(*size)
    preprocess = Preprocess(manifest(picture))
    row = preprocess.batch(1)[0]
    preprocess.one(source, row)
    np.testing.assert_allclose(row, plain(source, picture), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_bytes_stay_bytes_and_halves_halves(layout: str) -> None:
    source, picture = picture_of(50, 20), Picture(32, 32, layout=layout)
    for dtype in ("uint8", "float16"):
        preprocess = Preprocess(manifest(picture, dtype))
        row = preprocess.batch(2)[1]
        preprocess.one(source, row)
        assert row.dtype == dtype
        assert np.array_equal(row, plain(source, picture))


@pytest.mark.parametrize(
    "picture",
    [
        Picture(64, 64),
        Picture(64, 64, align="top-left"),
        Picture(64, 48, resize="stretch"),
        Picture(64, 64, resize="crop"),
    ],
)
@pytest.mark.parametrize("size", [(200, 100), (90, 300)])
def test_the_placement_leads_back_to_the_source(picture: Picture, size: tuple[int, int]) -> None:
    """A white square in the source is found in the input, and its edges, taken back, are where they were."""
    width, height = size
    source = np.zeros((height, width, 3), np.uint8)
    x1, y1, x2, y2 = width * 2 // 5, height * 2 // 5, width * 3 // 5, height * 3 // 5
    source[y1:y2, x1:x2] = 255
    preprocess = Preprocess(manifest(picture))
    row = preprocess.batch(1)[0]
    scale_x, scale_y, offset_x, offset_y = preprocess.one(source, row)
    ys, xs = np.nonzero(row[0] > 180)
    found = [(xs.min() - offset_x) / scale_x, (ys.min() - offset_y) / scale_y]
    found += [(xs.max() + 1 - offset_x) / scale_x, (ys.max() + 1 - offset_y) / scale_y]
    pixel = 1.01 / min(scale_x, scale_y)
    assert np.abs(np.array(found) - [x1, y1, x2, y2]).max() <= pixel


def test_a_crop_shows_the_middle_unstretched() -> None:
    source = np.zeros((100, 300, 3), np.uint8)
    source[:, 100:200] = 200
    row = (preprocess := Preprocess(manifest(Picture(50, 50, resize="crop")))).batch(1)[0]
    assert preprocess.one(source, row).tolist() == [0.5, 0.5, -50, 0]
    assert (row == 200).all()


def test_many_threads_fill_rows_of_one_batch() -> None:
    preprocess = Preprocess(manifest(Picture(96, 96, **IMAGENET)))
    sources = [picture_of(80 + each, 160 - each, each) for each in range(16)]
    alone, together = preprocess.batch(16), preprocess.batch(16)
    for source, row in zip(sources, alone, strict=True):
        preprocess.one(source, row)

    def fill(first: int) -> None:
        for _ in range(20):
            for each in range(first, 16, 4):
                preprocess.one(sources[each], together[each])

    threads = [threading.Thread(target=fill, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert np.array_equal(alone, together)


def test_what_takes_no_pictures_is_a_sentence() -> None:
    fits = manifest(Picture(32, 32))
    none = Manifest("m", 1, "", "", "0" * 64, fits.inputs, fits.outputs)
    with pytest.raises(ModelIncompatible, match="add it with --task detect"):
        Preprocess(none)
    for entries in (
        (TensorEntry("x", "float32", (-1, 3, 32, 33)),),
        (TensorEntry("x", "float32", (-1, 12)),),
        (TensorEntry("x", "int64", (-1, 3, 32, 32)),),
        (*fits.inputs, *fits.inputs),
    ):
        wrong = Manifest("m", 1, "", "", "0" * 64, entries, fits.outputs, picture=Picture(32, 32))
        with pytest.raises(
            ModelIncompatible, match=r"expected one input of float32, float16 or uint8 \[n, 3, 32, 32\]"
        ):
            Preprocess(wrong)

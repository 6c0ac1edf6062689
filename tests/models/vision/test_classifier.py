"""Scores of labels, and pictures cut into tiles."""

from __future__ import annotations

import numpy as np
import pytest

from models.engine import ModelIncompatible
from models.manifest import Manifest, TensorEntry
from models.vision.classifier import MAX_TILES, Classifier, filled, tiles
from models.vision.specs import Head, Picture
from tests.models.vision import plain
from tests.models.vision.manifests import detector


def classifier(head: Head, labels: int = 4, top: int = 5) -> Classifier:
    return Classifier(manifest(head, labels), top)


def manifest(head: Head, labels: int = 4) -> Manifest:
    return Manifest(
        "m", 1, "", "", "0" * 64, (TensorEntry("x", "float32", (-1, 3, 8, 8)),),
        (TensorEntry("out", "float32", (-1, labels)),), labels=tuple(map(str, range(labels))), task="classify",
        picture=Picture(8, 8), head=head,
    )  # fmt: skip


def test_probabilities_of_each_label() -> None:
    logits = np.random.default_rng(0).normal(0, 3, (6, 4)).astype(np.float32)
    soft = classifier(Head("classify", ("out",), activation="softmax")).scores({"out": logits})
    np.testing.assert_allclose(soft, [plain.softmax(row) for row in logits.tolist()], rtol=1e-5)
    each = classifier(Head("classify", ("out",), activation="sigmoid")).scores({"out": logits[:, :, None, None]})
    np.testing.assert_allclose(each, [[plain.sigmoid(x) for x in row] for row in logits.tolist()], rtol=1e-5)
    assert np.array_equal(classifier(Head("classify", ("out",))).scores({"out": logits}), logits)
    one_more = classifier(Head("classify", ("out",), (1, 2, 3), "softmax"), 3).scores({"out": logits})
    np.testing.assert_allclose(one_more, soft[:, 1:], rtol=1e-6)


def test_the_best_labels_come_first() -> None:
    reader = classifier(Head("classify"), top=3)
    labels, scores = reader.best(np.array([[0.1, 0.4, 0.3, 0.2], [0.25, 0.25, 0.25, 0.25]], np.float32))
    assert labels.tolist() == [[1, 2, 3], [0, 1, 2]]
    assert scores[0].tolist() == pytest.approx([0.4, 0.3, 0.2])
    assert classifier(Head("classify"), labels=2, top=9).top == 2


def test_nan_stays_with_its_picture() -> None:
    logits = np.ones((3, 4), np.float32)
    logits[1, 2] = np.nan
    scores = classifier(Head("classify", ("out",), activation="softmax")).scores({"out": logits})
    assert np.isnan(scores).all(axis=1).tolist() == [False, True, False]


def test_what_does_not_fit_is_a_sentence() -> None:
    reader = classifier(Head("classify", ("out",)))
    for outputs in ({"out": np.ones((2, 3), np.float32)}, {"other": np.ones((2, 4), np.float32)}):
        with pytest.raises(ModelIncompatible, match=r"reading classes of m/1: expected `out` \[n, 4\], got"):
            reader.scores(outputs)
    with pytest.raises(ModelIncompatible, match="expected the task 'classify' in its manifest, got 'detect'"):
        Classifier(detector(Head("yolox")))


def test_tiles_become_a_picture_again() -> None:
    scores = np.array([[0.1, 0.9], [0.5, 0.2], [0.3, 0.3], [0.8, 0.0]], np.float32)
    largest = classifier(Head("classify"), 2).combine(scores, [0, 1])
    np.testing.assert_allclose(largest, [[0.1, 0.9], [0.8, 0.3]])
    mean = classifier(Head("classify", combine="mean"), 2).combine(scores, [0, 1])
    np.testing.assert_allclose(mean, [[0.1, 0.9], [1.6 / 3, 0.5 / 3]], rtol=1e-6)
    assert classifier(Head("classify"), 2).combine(scores[:0], []).shape == (0, 2)


@pytest.mark.parametrize("size", [(224, 224), (100, 50), (225, 224), (1000, 700), (3000, 100), (99, 5000)])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.9])
def test_tiles_cover_every_pixel_and_overlap(size: tuple[int, int], overlap: float) -> None:
    width, height = size
    picture = np.zeros((height, width, 3), np.uint8)
    cut = tiles(Picture(224, 224, tile=True, overlap=overlap), picture)
    seen = np.zeros((height, width), bool)
    for tile in cut:
        assert tile.shape[:2] == (min(height, 224), min(width, 224)) or len(cut) > 1
        assert np.may_share_memory(tile, picture)  # where it begins is where it lies
        y, x = divmod((tile.ctypes.data - picture.ctypes.data) // 3, width)
        seen[y : y + tile.shape[0], x : x + tile.shape[1]] = True
    assert seen.all()
    assert len(cut) <= MAX_TILES


@pytest.mark.parametrize("size", [(224, 100), (1, 224), (300, 7), (448, 448)])
def test_a_tile_that_is_too_narrow_is_filled_up_to_the_networks_proportions(size: tuple[int, int]) -> None:
    width, height = size
    tile = np.random.default_rng(0).integers(1, 99, (height, width, 3), dtype=np.uint8)
    whole = filled(Picture(224, 224, resize="crop", fill=7), tile)
    assert whole.shape[0] == whole.shape[1] == max(size)
    y, x = (whole.shape[0] - height) // 2, (whole.shape[1] - width) // 2
    assert np.array_equal(whole[y : y + height, x : x + width], tile)
    assert (whole == 7).all(axis=2).sum() >= max(size) ** 2 - width * height


def test_a_vast_picture_has_larger_tiles_not_more() -> None:
    picture = np.zeros((20_000, 20_000, 3), np.uint8)
    cut = tiles(Picture(64, 64, tile=True), picture)
    assert MAX_TILES / 4 < len(cut) <= MAX_TILES
    assert cut[0].shape[0] > 64


def test_without_tiling_a_picture_is_one() -> None:
    picture = np.zeros((500, 500, 3), np.uint8)
    assert tiles(Picture(64, 64), picture)[0] is picture

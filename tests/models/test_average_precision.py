from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
from numpy.typing import NDArray

from models.vision.average_precision import Found, Truth, average_precision
from models.vision.suppression import separate

CLASSES = 3


def pictures(seed: int, count: int) -> tuple[list[Found], list[Truth]]:
    """Objects, and what a mediocre detector makes of them: shifted, doubled, invented, of another class."""
    rng = np.random.default_rng(seed)
    found, truth = [], []
    for _ in range(count):
        real = int(rng.integers(0, 8))
        corner = rng.uniform(0, 80, (real, 2))
        boxes = np.concatenate([corner, corner + rng.uniform(8, 40, (real, 2))], axis=1)
        labels = rng.integers(0, CLASSES, real)
        chosen = rng.integers(0, max(real, 1), int(rng.integers(0, 14))) if real else np.zeros(0, np.int64)
        guesses = boxes[chosen] + rng.normal(0, 2.5, (len(chosen), 4)).clip(-3.5, 3.5)  # no side turns negative
        kinds = np.where(rng.random(len(chosen)) < 0.15, rng.integers(0, CLASSES, len(chosen)), labels[chosen])
        scores = rng.permutation(1_000)[: len(chosen)] / 1_000
        found.append((guesses.astype(np.float32), scores.astype(np.float32), kinds.astype(np.int64)))
        truth.append((boxes.astype(np.float32), labels.astype(np.int64)))
    return found, truth


def by_pycocotools(found: list[Found], truth: list[Truth]) -> NDArray[np.float64]:
    """float64[classes, overlaps]: the mean precision over recalls, all areas, a hundred objects a picture."""
    coco_file = pytest.importorskip("pycocotools.coco")
    evaluation = pytest.importorskip("pycocotools.cocoeval")

    def listed(image: int, boxes: NDArray[np.float32], labels: NDArray[np.int64]) -> list[dict[str, object]]:
        widths = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1).astype(float)
        return [
            {"image_id": image, "category_id": int(label), "bbox": box.tolist(), "area": box[2] * box[3], "iscrowd": 0}
            for box, label in zip(widths, labels, strict=True)
        ]

    annotations = [each for image, (boxes, labels) in enumerate(truth) for each in listed(image, boxes, labels)]
    annotations = [each | {"id": number} for number, each in enumerate(annotations, 1)]
    guesses = []
    for image, (boxes, scores, labels) in enumerate(found):
        guesses += [each | {"score": float(s)} for each, s in zip(listed(image, boxes, labels), scores, strict=True)]
    with contextlib.redirect_stdout(io.StringIO()):
        ground = coco_file.COCO()
        ground.dataset = {
            "info": {},
            "images": [{"id": image} for image in range(len(truth))],
            "annotations": annotations,
            "categories": [{"id": label} for label in range(CLASSES)],
        }
        ground.createIndex()
        judged = evaluation.COCOeval(ground, ground.loadRes(guesses), "bbox")
        judged.evaluate()
        judged.accumulate()
    return judged.eval["precision"][:, :, :, 0, 2].mean(axis=1).T


@pytest.mark.parametrize("seed", range(4))
def test_average_precision_is_that_of_pycocotools(seed: int) -> None:
    found, truth = pictures(seed, 40)
    got = average_precision(found, truth, CLASSES)
    np.testing.assert_allclose(got, by_pycocotools(found, truth), atol=1e-6)
    assert 0.1 < got.mean() < 0.9


def test_perfect_boxes_have_a_precision_of_one_and_none_of_zero() -> None:
    box, label = np.array([[1, 2, 30, 40]], np.float32), np.array([1])
    nothing = (np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))
    perfect = average_precision([(box, np.ones(1, np.float32), label)], [(box, label)], 2)
    assert np.isnan(perfect[0]).all()  # no picture has this class
    assert (perfect[1] == 1).all()
    assert (average_precision([nothing], [(box, label)], 2)[1] == 0).all()


def test_an_object_is_found_once() -> None:
    box, label = np.array([[10, 10, 50, 50]], np.float32), np.array([0])
    twice = (np.repeat(box, 2, axis=0), np.array([0.9, 0.8], np.float32), np.zeros(2, np.int64))
    other = (np.array([[0, 0, 5, 5]], np.float32), np.array([0.7], np.float32), np.zeros(1, np.int64))
    found = average_precision([twice, other], [(box, label), (box, label)], 1)
    assert found[0, 0] == pytest.approx(51 / 101)  # half of the objects, each recall up to .5 at precision 1


def test_separate_keeps_the_best_of_each_class() -> None:
    """Two near boxes of one class, the same place in another class, one apart, one too weak."""
    output = np.zeros((4 + 2, 5), np.float32)
    output[:4] = np.array([[50, 50, 20, 20], [52, 50, 20, 20], [50, 50, 20, 20], [90, 90, 10, 10], [20, 20, 9, 9]]).T
    output[4, :2], output[5, 2], output[4, 3], output[4, 4] = (0.8, 0.9), 0.5, 0.4, 0.001
    boxes, scores, labels = separate(output)
    np.testing.assert_allclose(scores, [0.9, 0.5, 0.4])
    assert labels.tolist() == [0, 1, 0]
    np.testing.assert_allclose(boxes[0], [42, 40, 62, 60])


def test_separate_finds_nothing_where_nothing_is() -> None:
    boxes, scores, labels = separate(np.zeros((9, 100), np.float32))
    assert (boxes.shape, scores.shape, labels.shape) == ((0, 4), (0,), (0,))

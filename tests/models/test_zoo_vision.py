"""What the bundled detector finds on sites that neither its training nor its stated figures saw."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
from numpy.typing import NDArray

from connectors.simulators.camera import Site
from models import repository
from models.repository import Repository
from models.vision.scenes import SceneSet, collect
from models.vision.suppression import separate
from streams.cli.scenes import FIRST_UNSEEN, simulated_scenes

FRAMES = 72
ELSEWHERE = FIRST_UNSEEN + 500_000


@pytest.fixture(scope="module")
def scenes() -> SceneSet:
    _, _, height, width = Repository().load("vision").manifest.inputs[0].shape
    return collect(simulated_scenes(FRAMES, ELSEWHERE), FRAMES, width, height)


@pytest.fixture(scope="module")
def found(scenes: SceneSet) -> list[tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]]:
    engine = repository.open_engine(Repository().load("vision"), "onnx-cpu")
    pictures = np.ascontiguousarray(scenes.pictures.transpose(0, 3, 1, 2), dtype=np.float32)
    outputs = [engine.infer({"images": pictures[first : first + 8]})["output"] for first in range(0, FRAMES, 8)]
    engine.close()
    return [separate(row) for output in outputs for row in output]


def test_it_reaches_its_bar_as_an_independent_evaluator_counts(
    scenes: SceneSet, found: list[tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]]
) -> None:
    judged = _judged(scenes, found)
    precision = judged.eval["precision"][0, :, :, 0, 2].mean(axis=0)  # at an overlap of .5, per class
    stated = Repository().load("vision").manifest.quality
    assert precision.mean() >= 0.9
    assert precision.mean() == pytest.approx(stated["ap50"], abs=0.04)
    assert judged.stats[0] == pytest.approx(stated["ap"], abs=0.06)
    assert precision.min() > 0.8


def test_most_of_what_it_says_above_its_threshold_is_there(
    scenes: SceneSet, found: list[tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]]
) -> None:
    threshold = Repository().load("vision").manifest.thresholds["score"]
    said = sum(int((scores >= threshold).sum()) for _, scores, _ in found)
    there = sum(len(labels) for labels in scenes.labels)
    assert 0.8 < said / there < 1.15


def test_its_labels_are_the_cameras() -> None:
    assert Repository().load("vision").manifest.labels == Site.labels


def _judged(
    scenes: SceneSet, found: list[tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]]
) -> object:
    coco_file = pytest.importorskip("pycocotools.coco")
    evaluation = pytest.importorskip("pycocotools.cocoeval")
    annotations, guesses = [], []
    for image, (boxes, labels) in enumerate(zip(scenes.boxes, scenes.labels, strict=True)):
        for (x1, y1, x2, y2), label in zip(boxes.tolist(), labels.tolist(), strict=True):
            box = {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1), "iscrowd": 0}
            annotations.append({"id": len(annotations) + 1, "image_id": image, "category_id": label} | box)
    for image, each in enumerate(found):
        for (x1, y1, x2, y2), score, label in zip(*(column.tolist() for column in each), strict=True):
            box = [x1, y1, x2 - x1, y2 - y1]
            guesses.append({"image_id": image, "category_id": label, "bbox": box, "score": score})
    with contextlib.redirect_stdout(io.StringIO()):
        ground = coco_file.COCO()
        ground.dataset = {
            "info": {},
            "images": [{"id": image} for image in range(len(scenes))],
            "annotations": annotations,
            "categories": [{"id": number} for number in range(len(Site.labels))],
        }
        ground.createIndex()
        judged = evaluation.COCOeval(ground, ground.loadRes(guesses), "bbox")
        judged.evaluate()
        judged.accumulate()
        judged.summarize()
    return judged

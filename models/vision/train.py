"""Train the bundled detector: scenes in, an ONNX file with its quality out. Needs the extra `train`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import faster_coco_eval  # noqa: F401 - judging needs it, and its absence should not cost a training
import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from models.engine import Engine, TrainingFailed
from models.engines.onnx import OnnxEngine
from models.golden import GoldenBatch
from models.manifest import Manifest, TensorEntry, Tolerance
from models.vision.evaluate import Judged, Marked, find
from models.vision.evaluate import judge as compare
from models.vision.export import INPUT, OUTPUT, to_onnx
from models.vision.fitting import FitSettings, Progress, fit
from models.vision.network import DetectorNetwork
from models.vision.scenes import SceneSet
from models.vision.specs import Head, Picture

GOLDEN_ROWS = 2
RTOL, ATOL = 1e-3, 1e-2  # pixels and probabilities; boxes are exponentials, which magnify the order of sums
THRESHOLDS = {"score": 0.4, "iou": 0.6}


@dataclass(frozen=True, eq=False)
class TrainedDetector:
    """What a training gives: the ONNX file, a golden batch of unseen scenes, and what the manifest says of the network
    itself, with the figures of all unseen scenes."""

    onnx: bytes
    golden: GoldenBatch
    manifest: Manifest


def train(
    scenes: SceneSet,
    unseen: SceneSet,
    labels: tuple[str, ...],
    settings: FitSettings | None = None,
    on_step: Callable[[Progress], None] = lambda _: None,
    on_judged: Callable[[int], None] = lambda _: None,
) -> TrainedDetector:
    """Fit a detector to scenes, export it, and judge the export on unseen ones.

    Args:
        scenes: to learn from.
        unseen: to judge by, on which nothing is chosen.
        labels: the classes' names, in the order of their numbers.
        settings: how to fit.
        on_step: called after each step of the fit.
        on_judged: called with the number of unseen scenes that are judged.

    Raises:
        TrainingFailed: The scenes do not fit the network, or ONNX Runtime's output differs from torch's.
    """
    settings = settings or FitSettings()
    for each in (scenes, unseen):
        _check(each, labels, settings)
    network = fit(scenes, settings, on_step)
    onnx = to_onnx(network)
    manifest, engine = describe(network, labels), OnnxEngine()
    engine.load_bytes(onnx, "the trained detector")
    try:
        golden = _golden(network, engine, unseen)
        judged = judge(manifest, engine, unseen, on_judged)
    finally:
        engine.close()
    return TrainedDetector(onnx, golden, msgspec.structs.replace(manifest, quality=quality(judged, labels)))


def describe(network: DetectorNetwork, labels: tuple[str, ...]) -> Manifest:
    """How the exported network is fed and read; who made it, and of what, is for the caller to add."""
    shape = network.shape
    return Manifest(
        name="vision",
        version=0,
        description="",
        licence="",
        sha256="",
        inputs=(TensorEntry(INPUT, "float32", (-1, 3, shape.height, shape.width)),),
        outputs=(TensorEntry(OUTPUT, "float32", (-1, 4 + shape.classes, network.points.shape[1])),),
        labels=labels,
        task="detect",
        picture=Picture(shape.width, shape.height, align="top-left"),
        head=Head("yolov8"),
        thresholds=THRESHOLDS,
        golden=Tolerance(RTOL, ATOL),
    )


def judge(
    manifest: Manifest, engine: Engine, scenes: SceneSet, on_judged: Callable[[int], None] = lambda _: None
) -> Judged:
    """How well a detector finds what is in scenes."""
    marked = [_marked(scenes, row) for row in range(len(scenes))]
    pictures = (
        (f"scene {row}", np.ascontiguousarray(picture[:, :, ::-1])) for row, picture in enumerate(scenes.pictures)
    )
    return compare(marked, *find(manifest, engine, pictures, on_judged))


def quality(judged: Judged, labels: tuple[str, ...]) -> dict[str, float]:
    """The manifest's figures: `ap` over all overlaps, `ap50` at .5, and each class's; one never seen is left out."""
    figures = {"ap": judged.ap, "ap50": judged.ap50}
    figures |= {f"ap50_{labels[number]}": figure for number, figure in judged.ap50_of.items()}
    return {name: round(figure, 4) for name, figure in figures.items()}


def _marked(scenes: SceneSet, row: int) -> Marked:
    boxes, (height, width) = scenes.boxes[row].astype(np.float64), scenes.pictures.shape[1:3]
    centres, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    shares = np.concatenate([centres, sides], axis=1) / [width, height, width, height]
    return Marked(Path(f"scene {row}"), scenes.labels[row], shares)


def tensor(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """uint8[n, h, w, 3] to float32[n, 3, h, w]."""
    return np.ascontiguousarray(pictures.transpose(0, 3, 1, 2), dtype=np.float32)


def _check(scenes: SceneSet, labels: tuple[str, ...], settings: FitSettings) -> None:
    shape = settings.shape
    expected, got = (shape.height, shape.width, 3), scenes.pictures.shape[1:]
    if got != expected or shape.classes != len(labels):
        raise TrainingFailed(
            f"training a detector: expected pictures {list(expected)} and {shape.classes} labels, got {list(got)} and "
            f"{len(labels)}"
        )
    numbers = np.concatenate(scenes.labels)
    if not len(numbers) or numbers.min() < 0 or numbers.max() >= len(labels):
        raise TrainingFailed(
            f"training a detector: expected objects labelled from 0 to {len(labels) - 1}, got "
            f"{f'{numbers.min()} to {numbers.max()}' if len(numbers) else 'no object at all'}"
        )


def _golden(network: DetectorNetwork, engine: Engine, unseen: SceneSet) -> GoldenBatch:
    """Some unseen scenes and torch's output for them, which ONNX Runtime must reproduce."""
    pictures = tensor(unseen.pictures[:GOLDEN_ROWS])
    with torch.no_grad():
        expected = network(torch.from_numpy(pictures)).numpy()
    got = engine.infer({INPUT: pictures})[OUTPUT]
    if not np.allclose(got, expected, rtol=RTOL, atol=ATOL):
        raise TrainingFailed(
            f"exporting a detector: expected ONNX Runtime within rtol {RTOL:g} and atol {ATOL:g} of torch, got "
            f"{np.abs(got - expected).max():.3g} off"
        )
    return GoldenBatch({INPUT: pictures}, {OUTPUT: expected})

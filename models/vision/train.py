"""Train the bundled detector: scenes in, an ONNX file with its quality out. Needs the extra `train`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from models.engine import Engine, TrainingFailed
from models.engines.onnx import OnnxEngine
from models.golden import GoldenBatch
from models.vision.average_precision import average_precision
from models.vision.export import INPUT, OUTPUT, to_onnx
from models.vision.fitting import FitSettings, Progress, fit
from models.vision.network import DetectorNetwork
from models.vision.scenes import SceneSet
from models.vision.suppression import separate

GOLDEN_ROWS = 2
RTOL, ATOL = 1e-3, 1e-2  # pixels and probabilities; boxes are exponentials, which magnify the order of sums
JUDGED_AT_ONCE = 8


@dataclass(frozen=True, eq=False)
class TrainedDetector:
    """What a training gives: the ONNX file, a golden batch of unseen scenes, and their figures."""

    onnx: bytes
    golden: GoldenBatch
    quality: dict[str, float]


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
    engine = OnnxEngine()
    engine.load_bytes(onnx, "the trained detector")
    try:
        golden = _golden(network, engine, unseen)
        found = judge(engine, unseen, len(labels), on_judged)
    finally:
        engine.close()
    return TrainedDetector(onnx, golden, quality(found, labels))


def judge(
    engine: Engine, scenes: SceneSet, classes: int, on_judged: Callable[[int], None] = lambda _: None
) -> NDArray[np.float64]:
    """Each class's average precision at each overlap, float64[classes, 10], on scenes at the network's input size."""
    found = []
    for first in range(0, len(scenes), JUDGED_AT_ONCE):
        output = engine.infer({INPUT: tensor(scenes.pictures[first : first + JUDGED_AT_ONCE])})[OUTPUT]
        found += [separate(row) for row in output]
        on_judged(len(found))
    return average_precision(found, list(zip(scenes.boxes, scenes.labels, strict=True)), classes)


def quality(precision: NDArray[np.float64], labels: tuple[str, ...]) -> dict[str, float]:
    """The manifest's figures: `ap` over all overlaps, `ap50` at .5, and each class's; one never seen is left out."""
    seen = ~np.isnan(precision[:, 0])
    figures = {"ap": float(precision[seen].mean()), "ap50": float(precision[seen, 0].mean())}
    figures |= {
        f"ap50_{label}": float(row[0]) for label, row, here in zip(labels, precision, seen, strict=True) if here
    }
    return {name: round(figure, 4) for name, figure in figures.items()}


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

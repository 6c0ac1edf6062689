"""The golden outputs of a network of vision, read once: what cannot be read is refused before it serves."""

from __future__ import annotations

import numpy as np

from models.engine import ModelIncompatible
from models.golden import GoldenBatch
from models.manifest import Manifest
from models.vision.classifier import Classifier
from models.vision.detector import Detector
from models.vision.preprocess import Preprocess
from models.vision.specs import Picture


def check(manifest: Manifest, golden: GoldenBatch) -> None:
    """Raise ModelIncompatible unless pictures become the network's input, and its outputs objects or classes."""
    if manifest.picture is None:
        return
    try:
        Preprocess(manifest)
        if manifest.task == "detect":
            most_objects(Detector(manifest), golden, manifest.picture)
        elif manifest.task == "classify":
            Classifier(manifest).scores(golden.outputs)
    except ModelIncompatible as error:
        raise ModelIncompatible(f"{error}; {manifest.name}/{manifest.version} is not served") from error


def most_objects(detector: Detector, golden: GoldenBatch, picture: Picture) -> int:
    """Of the golden batch's pictures, which are as large as the input, how many objects are in that with the most.

    Raises: ModelIncompatible where the outputs cannot be read.
    """
    rows = len(next(iter(golden.outputs.values())))
    placements = np.tile(np.array([1, 1, 0, 0], np.float32), (rows, 1))
    found = detector.decode(golden.outputs, placements, np.tile([picture.width, picture.height], (rows, 1)))
    return int((found[:, :, 5] >= 0).sum(axis=1).max(initial=0))

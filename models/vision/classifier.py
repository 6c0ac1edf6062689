"""A classifier's outputs become scores of labels; pictures larger than the network are seen tile by tile."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.engine import ModelIncompatible
from models.manifest import Manifest
from models.vision.heads.candidates import Spec, sigmoid, softmax
from models.vision.specs import Picture

MAX_TILES = 1024
"""The most tiles of one picture: of a larger one they are larger too, and are reduced."""


class Classifier:
    """Reads a classifier's outputs for a whole batch. Any number of threads may share one.

    Args:
        manifest: that of a model with the task `classify`.
        top: how many labels of each picture.

    Raises: ModelIncompatible where the manifest is none of a classifier's.
    """

    def __init__(self, manifest: Manifest, top: int = 5) -> None:
        self._reference = f"{manifest.name}/{manifest.version}"
        if manifest.task != "classify" or manifest.picture is None or manifest.head is None:
            raise ModelIncompatible(
                f"reading classes of {self._reference}: expected the task 'classify' in its manifest, "
                f"got {manifest.task!r}; add it with --task classify"
            )
        self.labels = manifest.labels
        self.top = min(top, len(manifest.labels))
        self._head = manifest.head
        self._tensor = (manifest.head.tensors or (manifest.outputs[0].name,))[0]
        self._spec = Spec(manifest.picture, manifest.head, len(manifest.labels))

    def scores(self, outputs: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """The probability of each label: float32 [n, labels]. NaN where the network gave NaN.

        Raises: ModelIncompatible where the output is not there, or has too few columns.
        """
        output = outputs.get(self._tensor)
        fewest = self._spec.fewest_columns
        if output is None or output.reshape(len(output), -1).shape[1] < fewest:
            got = sorted(outputs) if output is None else list(output.shape)
            raise ModelIncompatible(
                f"reading classes of {self._reference}: expected `{self._tensor}` [n, {fewest}], got {got}"
            )
        raw = output.reshape(len(output), -1).astype(np.float32)
        with np.errstate(all="ignore"):  # NaN goes through, unwarned
            if self._head.activation == "softmax":
                raw = softmax(raw)
            elif self._head.activation == "sigmoid":
                raw = sigmoid(raw)
        chosen: NDArray[np.float32] = self._spec.scores(raw)
        return chosen

    def combine(self, scores: NDArray[np.float32], starts: Sequence[int]) -> NDArray[np.float32]:
        """The scores of pictures from those of their tiles: the largest, or the mean, as the manifest says.

        Args:
            scores: float32 [tiles, labels].
            starts: where each picture's tiles begin; each has one at least.
        """
        if not len(starts):
            return scores[:0]
        if self._head.combine == "max":
            largest: NDArray[np.float32] = np.maximum.reduceat(scores, starts)
            return largest
        counts = np.diff([*starts, len(scores)])[:, None]
        mean: NDArray[np.float32] = (np.add.reduceat(scores, starts) / counts).astype(np.float32)
        return mean

    def best(self, scores: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The `top` labels of each picture, most probable first: int64 [n, top] and float32 [n, top]."""
        order = np.argsort(-scores, axis=1, kind="stable")[:, : self.top]
        return order, np.take_along_axis(scores, order, axis=1)


def tiles(spec: Picture, picture: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """Views of a picture, uint8 [h, w, 3], that cover it, of the network's size; the picture itself where it is none.

    Neighbours share `overlap` of a tile at least. What is smaller than the network in one direction is cut in the
    other alone, and its tiles are of other proportions: `filled`, where the network's pictures are cropped.
    """
    height, width = picture.shape[:2]
    if not spec.tile or (width <= spec.width and height <= spec.height):
        return [picture]
    larger = 1.0
    while True:
        side_w, side_h = round(spec.width * larger), round(spec.height * larger)
        columns, rows = _starts(width, side_w, spec.overlap), _starts(height, side_h, spec.overlap)
        if len(columns) * len(rows) <= MAX_TILES:
            break
        larger *= math.sqrt(len(columns) * len(rows) / MAX_TILES) * 1.01
    return [picture[y : y + side_h, x : x + side_w] for y in rows for x in columns]


def filled(spec: Picture, tile: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A tile in the network's proportions, so that nothing of it is cut off: around what is too narrow is `fill`."""
    height, width = tile.shape[:2]
    ratio = max(width / spec.width, height / spec.height)
    wide, high = max(width, round(spec.width * ratio)), max(height, round(spec.height * ratio))
    if (wide, high) == (width, height):
        return tile
    whole = np.full((high, wide, 3), spec.fill, np.uint8)
    x, y = (wide - width) // 2, (high - height) // 2
    whole[y : y + height, x : x + width] = tile
    return whole


def _starts(length: int, side: int, overlap: float) -> list[int]:
    """Where tiles of one side begin, evenly, the last at the far end."""
    if length <= side:
        return [0]
    step = max(1, math.floor(side * (1 - overlap)))
    count = math.ceil((length - side) / step) + 1
    return [round(place * (length - side) / (count - 1)) for place in range(count)]

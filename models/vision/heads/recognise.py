"""Which family a detector is of, from the shapes of its outputs and what they hold for a picture, not from names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.vision.heads.candidates import grid
from models.vision.specs import Activation, Boxes, Head, Picture

STRIDES = (
    (8, 16, 32),
    (8, 16, 32, 64),
    (16, 32),
    (8, 16),
    (8, 16, 32, 64, 128),
    (4, 8, 16, 32),
    (8,),
    (16,),
    (32,),
    (4,),
)
MOST_QUERIES = 1000
FEWEST_BINS = 4
COCO91 = (*range(1, 12), *range(13, 26), 27, 28, *range(31, 45), *range(46, 66), 67, 70, *range(72, 83), *range(84, 91))
"""What COCO's annotations call its 80 classes, in order."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """One output for a batch of pictures; `shape` is that of one of them."""

    name: str
    array: NDArray[Any]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.array.shape[1:])

    def within(self, low: float, high: float) -> bool:
        """Whether all numbers are."""
        return bool(self.array.size and self.array.min() >= low and self.array.max() <= high)


@dataclass(frozen=True, slots=True)
class Outputs:
    """What a detector gave for some pictures.

    Args:
        labels: how many there are.
        coco: whether they are COCO's 80.
    """

    tensors: tuple[Tensor, ...]
    picture: Picture
    labels: int
    coco: bool

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]], picture: Picture, labels: Sequence[str]) -> Outputs:
        tensors = tuple(Tensor(name, array) for name, array in arrays.items())
        coco = len(labels) == 80 and (labels[0].lower(), labels[16].lower()) == ("person", "dog")
        return cls(tensors, picture, len(labels), coco)

    def rank(self, rank: int) -> list[Tensor]:
        """Floats of so many axes, that of the batch not counted."""
        return [each for each in self.tensors if len(each.shape) == rank and each.array.dtype.kind == "f"]

    def strides(self, cells: int, each: int = 1) -> tuple[int, ...]:
        """Of the grids that together have so many cells; none where no usual ones do."""
        for strides in STRIDES:
            if len(grid(self.picture, strides, 0)[0]) * each == cells:
                return strides
        return ()


def recognise(outputs: Outputs) -> list[Head]:
    """Every family that the outputs may be of."""
    found: dict[str, Head] = {}
    for family in (_objectness, _grids, _anchorless, _listed_rows, _lists, _queries, _distances):
        for head in family(outputs):
            found.setdefault(head.family, head)
    return list(found.values())


def _objectness(outputs: Outputs) -> Iterator[Head]:
    for tensor in outputs.rank(2):
        if tensor.shape[1] != 5 + outputs.labels or not _share(tensor.array[:, :, 4:]):
            continue
        strides = outputs.strides(tensor.shape[0])
        if _is_list(tensor) and len(strides) < 2 and len(outputs.strides(tensor.shape[0], 3)) < 2:
            continue
        if not strides:
            yield Head("yolov5", (tensor.name,), normalised=_normalised(tensor.array[:, :, :4]))
            continue
        points, _ = grid(outputs.picture, strides, 0.5)
        decoded = bool(np.abs(tensor.array[:, :, 0] - points[:, 0]).mean() < outputs.picture.width / 8)
        family = "yolov6" if decoded and (tensor.array[:, :, 4] == 1).all() else "yolox"
        yield Head(family, (tensor.name,), decoded=decoded, strides=strides)


def _grids(outputs: Outputs) -> Iterator[Head]:
    """Grids [5 + classes, rows, columns]: one of FastestDet, or YOLOX's one for each stride."""
    maps = [each for each in outputs.rank(3) if each.shape[0] == 5 + outputs.labels]
    if len(maps) == 1 and maps[0].array[:, 5:].size:
        sums = maps[0].array[:, 5:].sum(axis=1)
        if np.abs(sums - 1).max() < 0.01:
            yield Head("fastestdet", (maps[0].name,), normalised=True)
            return
    ordered = sorted(maps, key=lambda each: -each.shape[1])
    strides = tuple(round(outputs.picture.height / each.shape[1]) for each in ordered if each.shape[1])
    cells = sum(each.shape[1] * each.shape[2] for each in ordered)
    fits = strides in STRIDES and len(grid(outputs.picture, strides, 0)[0]) == cells
    if fits and all(_share(each.array[:, 4:]) for each in ordered):
        yield Head("yolox", tuple(each.name for each in ordered), decoded=False, strides=strides)


def _anchorless(outputs: Outputs) -> Iterator[Head]:
    for tensor in outputs.rank(2):
        for axis in (0, 1):
            if tensor.shape[axis] != 4 + outputs.labels:
                continue
            rows = tensor.array if axis else tensor.array.swapaxes(1, 2)
            if not _share(rows[:, :, 4:]):
                continue
            normalised = _normalised(rows[:, :, :4])
            queries = axis == 1 and normalised and len(rows[0]) <= MOST_QUERIES
            if queries and len(outputs.strides(len(rows[0]))) < 2:
                yield Head("rtdetr", (tensor.name,), normalised=True)
            elif axis == 0 or not _is_list(tensor):
                yield Head("yolov8", (tensor.name,), transposed=axis == 1, normalised=normalised)


def _listed_rows(outputs: Outputs) -> Iterator[Head]:
    for tensor in outputs.rank(2):
        if _is_list(tensor):
            normalised = bool(tensor.array.size) and _normalised(tensor.array[:, :, -6:-2])
            yield Head("end2end", (tensor.name,), boxes="xyxy", normalised=normalised)


def _lists(outputs: Outputs) -> Iterator[Head]:
    """Boxes [k, 4], classes [k], scores [k] and perhaps their number; or boxes [k, 5] and classes [k]."""
    lists = [each for each in outputs.tensors if len(each.shape) == 1]
    for boxes in outputs.rank(2):
        columns = [each for each in lists if each.shape == boxes.shape[:1]]
        if boxes.shape[1] not in (4, 5) or not columns:
            continue
        scores = [each for each in columns if each.array.dtype.kind == "f" and _share(each.array)]
        classes = [each for each in columns if _whole(each.array)]
        if boxes.shape[1] == 5 and len(classes) == 1:
            yield Head("nms", (boxes.name, classes[0].name), boxes="xyxy")
            continue
        pairs = [(one, other) for one in classes for other in scores if one is not other]
        if boxes.shape[1] != 4 or not pairs:
            continue
        named, scored = max(pairs, key=lambda pair: (pair[0].array.dtype.kind != "f", _top(pair[0].array)))
        yield from _counted(outputs, (boxes, named, scored))


def _counted(outputs: Outputs, lists: tuple[Tensor, Tensor, Tensor]) -> Iterator[Head]:
    """Lists whose classes begin at 0 or at 1: what is seen may say so."""
    boxes, classes, scores = lists
    count = [
        each for each in outputs.tensors
        if each.shape in ((), (1,)) and each not in lists and _whole(each.array)
    ]  # fmt: skip
    normalised = _normalised(boxes.array)
    order: Boxes = "yxyx" if normalised and count else "xyxy"
    names = tuple(each.name for each in (boxes, classes, scores, *count[:1]))
    seen = classes.array[scores.array > 0]
    if not (seen == 0).any():
        ids = COCO91 if outputs.coco else tuple(range(1, outputs.labels + 1))
        yield Head("ssd", names, ids=ids, boxes=order, normalised=normalised)
    if not seen.size or seen.max() < outputs.labels:
        yield Head("nms", names, boxes=order, normalised=normalised)


def _queries(outputs: Outputs) -> Iterator[Head]:
    """Class scores [k, classes] and boxes [k, 4]."""
    tensors = outputs.rank(2)
    for boxes in (each for each in tensors if each.shape[1] == 4):
        for scores in tensors:
            if scores is boxes or scores.shape[0] != boxes.shape[0]:
                continue
            extra = scores.shape[1] - outputs.labels
            coco = outputs.coco and scores.shape[1] in (91, 92)
            if extra in (0, 1) or coco:
                yield from _scored(outputs, scores, boxes, coco)


def _scored(outputs: Outputs, scores: Tensor, boxes: Tensor, coco: bool) -> Iterator[Head]:
    probabilities = scores.within(0, 1)
    normalised = _normalised(boxes.array)
    names, columns = (scores.name, boxes.name), scores.shape[1]
    ids = COCO91 if coco else ()
    if scores.shape[0] <= MOST_QUERIES and normalised and not _corners(boxes.array):
        if columns in (outputs.labels + 1, 92):
            softmax: Activation = "none" if probabilities else "softmax"
            yield Head("detr", names, ids, softmax, normalised=True)
        else:
            sigmoid: Activation = "none" if probabilities else "sigmoid"
            yield Head("rtdetr", names, ids, sigmoid, normalised=True)
        return
    background = columns > outputs.labels
    if background and not coco:
        ids = tuple(range(1, outputs.labels + 1))
    activation: Activation = "none" if probabilities else "softmax" if background else "sigmoid"
    form: Boxes = "xyxy" if _corners(boxes.array) else "cxcywh"
    if form == "xyxy" or (boxes.array[:, :, 2:] >= 0).mean() > 0.99:
        yield Head("dense", names, ids, activation, form, normalised)


def _distances(outputs: Outputs) -> Iterator[Head]:
    for tensor in outputs.rank(2):
        strides = outputs.strides(tensor.shape[0])
        bins = (tensor.shape[1] - outputs.labels) / 4
        if strides and bins >= FEWEST_BINS and bins.is_integer():
            yield _gfl((tensor.name,), strides, tensor.array[:, :, : outputs.labels])
    levels: dict[int, list[tuple[int, Tensor]]] = {}
    for tensor in (*outputs.rank(2), *outputs.rank(3)):
        stride, width = _level(outputs, tensor)
        if stride:
            levels.setdefault(stride, []).append((width, tensor))
    strides = tuple(sorted(levels))
    if strides not in STRIDES:
        return
    names: list[str] = []
    scores: list[NDArray[Any]] = []
    for stride in strides:
        classes = [each for width, each in levels[stride] if width == outputs.labels]
        sides = [
            each for width, each in levels[stride]
            if width % 4 == 0 and width >= 4 * FEWEST_BINS and each not in classes[:1]
        ]  # fmt: skip
        both = [each for width, each in levels[stride] if (width - outputs.labels) / 4 >= FEWEST_BINS]
        if classes and sides:
            names += [classes[0].name, sides[0].name]
            scores.append(classes[0].array)
        elif len(strides) > 1 and both and (both[0].shape[-1] - outputs.labels) % 4 == 0:
            names.append(both[0].name)
            scores.append(both[0].array[..., : outputs.labels])
        else:
            return
    yield _gfl(tuple(names), strides, *scores)


def _gfl(names: tuple[str, ...], strides: tuple[int, ...], *scores: NDArray[Any]) -> Head:
    """NanoDet-Plus, alone with a stride of 64 and both in one tensor, measures from a cell's corner, others from its
    centre."""
    corner = strides[-1] == 64 and len(names) <= len(strides)
    activation: Activation = "none" if all(_share(each) for each in scores) else "sigmoid"
    return Head("gfl", names, (), activation, "xyxy", strides=strides, offset=0.0 if corner else 0.5)


def _level(outputs: Outputs, tensor: Tensor) -> tuple[int, int]:
    """The stride whose grid a tensor [cells, k], [k, cells] or [k, rows, columns] is of, and k; 0 where none is."""
    for stride in sorted({stride for strides in STRIDES for stride in strides}):
        rows, columns = -(-outputs.picture.height // stride), -(-outputs.picture.width // stride)
        if len(tensor.shape) == 3 and tensor.shape[1:] == (rows, columns):
            return stride, tensor.shape[0]
        if len(tensor.shape) == 2 and rows * columns in tensor.shape:
            return stride, tensor.shape[1 if tensor.shape[0] == rows * columns else 0]
    return 0, 0


def _share(array: NDArray[Any]) -> bool:
    """Whether all numbers are probabilities."""
    return bool(not array.size or (array.min() >= -1e-3 and array.max() <= 1 + 1e-3))


def _whole(array: NDArray[Any]) -> bool:
    return bool(array.dtype.kind in "iu" or (array == np.floor(array)).all())


def _top(array: NDArray[Any]) -> float:
    return float(array.max()) if array.size else 0.0


def _normalised(boxes: NDArray[Any]) -> bool:
    """Whether boxes are in shares of the input: of those in pixels most numbers are larger than 2."""
    numbers = np.abs(boxes[boxes != 0])
    return bool(numbers.size and np.quantile(numbers, 0.9) <= 2)


def _corners(boxes: NDArray[Any]) -> bool:
    """Whether boxes are two corners: the second is further right and down."""
    return bool(((boxes[:, :, 2] >= boxes[:, :, 0]) & (boxes[:, :, 3] >= boxes[:, :, 1])).mean() > 0.99)


def _is_list(tensor: Tensor) -> bool:
    """Whether rows of 6 or 7 are objects: whole classes, scores that are probabilities."""
    array = tensor.array
    if len(tensor.shape) != 2 or tensor.shape[1] not in (6, 7):
        return False
    classes, scores = (array[:, :, 5], array[:, :, 4]) if tensor.shape[1] == 6 else (array[:, :, 5], array[:, :, 6])
    return _whole(classes) and _share(scores) and (tensor.shape[1] == 6 or _whole(array[:, :, 0]))

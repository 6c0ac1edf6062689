"""Which family a detector is of, from the shapes of its outputs and what they hold for a picture.

Names count only where what is in the outputs does not tell.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.vision.heads.candidates import grid
from models.vision.heads.lists import COCO91, is_list, listed_rows, lists
from models.vision.heads.order import Pair, settled
from models.vision.heads.outputs import (
    ANCHORS,
    FEW,
    FEWEST_BINS,
    STRIDES,
    Outputs,
    Tensor,
    are_anchors,
    are_corners,
    are_of_each_stride,
    are_shares,
)
from models.vision.specs import Activation, Boxes, Head

MOST_QUERIES = 1000
LISTS, OBJECTNESS = ("ssd", "nms"), ("yolox", "yolov6", "yolov5")
BINS = (8, 11, 16, 17, 33)  # of a distance, in the networks that there are
CENTRES_NAME = re.compile("pred_boxes")  # of DETR and all that came of it
RF_DETR = ("dets", "labels")  # what its exporter calls boxes and scores
SURE = 0.3  # scores of what is surely there


def recognise(outputs: Outputs) -> list[Head]:
    """Every family that the outputs may be of, several times where several outputs fit it."""
    found: dict[tuple[str, tuple[str, ...]], Head] = {}
    for family in (_objectness, _fastestdet, _anchorless, listed_rows, lists, _queries, _distances):
        for head in family(outputs):
            if outputs.family in ("", head.family):
                found.setdefault((head.family, head.tensors), head)
    heads = list(found.values())
    if any(head.family in LISTS and len(head.tensors) > 3 for head in heads):
        # A number of objects ends with suppression: scores and boxes beside its lists are what went into it.
        heads = [head for head in heads if head.family in LISTS]
    return _as_ordered(outputs, heads)


def _as_ordered(outputs: Outputs, heads: list[Head]) -> list[Head]:
    """Heads that read all outputs, in their order where some do."""
    if not outputs.ordered:
        return heads
    whole = [head for head in heads if sorted(head.tensors) == sorted(outputs.order)]
    return [head for head in whole if head.tensors == outputs.order] or whole


def _objectness(outputs: Outputs) -> Iterator[Head]:
    told = outputs.family in OBJECTNESS
    for tensor in outputs.rows():
        if tensor.layout == "columns" or (is_list(tensor) and not _on_grids(outputs, tensor)):
            continue
        for rows, turned in _ways(tensor, 5 + outputs.labels):
            shares = are_shares(rows[:, :, 4:])
            if not (shares or told or outputs.activation == "sigmoid"):
                continue
            activation: Activation = "none" if shares else "sigmoid"
            count = rows.shape[1]
            strides, anchored = outputs.strides(count), len(outputs.strides(count, ANCHORS)) > 1
            if strides and (told or not turned):
                points, _ = grid(outputs.picture, strides, 0.5)
                decoded = bool(np.abs(rows[:, :, 0] - points[:, 0]).mean() < outputs.picture.width / 8)
                family = "yolov6" if decoded and (rows[:, :, 4] == 1).all() else "yolox"
                form = _form(rows) if decoded else "cxcywh"
                yield Head(
                    family, tensor.names, (), activation, form, decoded=decoded, transposed=turned, strides=strides
                )  # fmt: skip
            elif told or anchored:
                normalised = outputs.in_shares(rows[:, :, :4])
                yield Head("yolov5", tensor.names, (), activation, _form(rows), normalised, transposed=turned)


def _form(rows: NDArray[Any]) -> Boxes:
    """What the first four columns are: corners, where the second is further right and down in all cells."""
    return "xyxy" if are_corners(rows[:, :, :4]) else "cxcywh"


def _ways(tensor: Tensor, width: int) -> Iterator[tuple[NDArray[Any], bool]]:
    """A tensor as [n, boxes, width], and whether its boxes are columns."""
    if tensor.shape[1] == width:
        yield tensor.array, False
    if len(tensor.names) == 1 and tensor.shape[0] == width:
        yield tensor.array.swapaxes(1, 2), True


def _on_grids(outputs: Outputs, tensor: Tensor) -> bool:
    """Whether there are as many boxes as several usual grids have, or several times as many."""
    return any(len(outputs.strides(tensor.shape[0], boxes)) > 1 for boxes in (1, ANCHORS))


def _fastestdet(outputs: Outputs) -> Iterator[Head]:
    maps = [each for each in outputs.rank(3) if each.shape[0] == 5 + outputs.labels]
    if len(maps) == 1 and maps[0].array[:, 5:].size:
        sums = maps[0].array[:, 5:].sum(axis=1)
        if np.abs(sums - 1).max() < 0.01:
            yield Head("fastestdet", maps[0].names, normalised=True)


def _anchorless(outputs: Outputs) -> Iterator[Head]:
    told = outputs.family == "yolov8"
    for tensor in outputs.rows():
        for rows, turned in _ways(tensor, 4 + outputs.labels):
            shares = are_shares(rows[:, :, 4:])
            if not (shares or told or outputs.activation == "sigmoid"):
                continue
            if not told and _has_objectness(outputs, rows):
                continue
            normalised = outputs.in_shares(rows[:, :, :4])
            queries = not turned and normalised and len(rows[0]) <= MOST_QUERIES
            if queries and len(outputs.strides(len(rows[0]))) < 2:
                if shares:
                    yield Head("rtdetr", tensor.names, normalised=True)
            elif turned or not is_list(tensor) or _on_grids(outputs, tensor):
                transposed = not turned and tensor.layout == "rows"
                activation: Activation = "none" if shares else "sigmoid"
                yield Head("yolov8", tensor.names, (), activation, _form(rows), normalised, transposed=transposed)


def _has_objectness(outputs: Outputs, rows: NDArray[Any]) -> bool:
    """Whether rows are YOLOv5's or YOLOX's after all, and there is a label too many.

    YOLOv5 has three boxes in a cell. Where YOLOX leaves its grid to its reader, sides are logarithms. And the few boxes
    that either is sure of have two high scores: their own, and that of their class.
    """
    count = rows.shape[1]
    if len(outputs.strides(count, ANCHORS)) > 1 and not outputs.strides(count):
        return True
    if outputs.strides(count) and (rows[:, :, 2:4] < 0).mean() > FEW:
        return True
    own, best = rows[:, :, 4], rows[:, :, 5:].max(axis=2, initial=0)
    sure = np.maximum(own, best) > SURE
    return bool(0 < sure.mean() < FEW and (np.minimum(own, best) > SURE)[sure].mean() > 0.5)


def _queries(outputs: Outputs) -> Iterator[Head]:
    """Class scores [k, classes], or [classes, k], and boxes [k, 4]; or scores [k] of one class."""
    boxes = [each for each in outputs.rank(2) if each.shape[1] == 4]
    boxes = [each for each in boxes if not are_anchors(each, boxes)]
    if are_of_each_stride(outputs, boxes):
        return
    pairs = [(scores, each) for each in boxes for scores in _class_scores(outputs, each)]
    for scores, each in settled(pairs, "boxes", outputs.order):
        yield from _scored(outputs, scores, each, _coco(outputs, scores))


def _class_scores(outputs: Outputs, boxes: Tensor) -> Iterator[Tensor]:
    """What may be the scores of boxes [k, 4]: [k, classes], whatever their own layout."""
    count, labels = boxes.shape[0], outputs.labels
    for tensor in outputs.rank(2):
        if tensor is boxes:
            continue
        if tensor.shape[0] == count and (tensor.shape[1] - labels in (0, 1) or _coco(outputs, tensor)):
            yield tensor
        elif tensor.shape[1] == count and tensor.shape[0] - labels in (0, 1):
            yield Tensor(tensor.names, tensor.array.swapaxes(1, 2), "columns")
    beside = [each for each in outputs.rank(1) if each.shape == (count,)]
    if labels == 1 and len(beside) == 1 and are_shares(beside[0].array):
        yield Tensor(beside[0].names, beside[0].array[:, :, None])


def _coco(outputs: Outputs, scores: Tensor) -> bool:
    """Whether there is a column for each of COCO's 91 numbers."""
    return outputs.coco and scores.shape[1] in (91, 92)


def _scored(outputs: Outputs, scores: Tensor, boxes: Tensor, coco: bool) -> Iterator[Head]:
    probabilities = scores.within(0, 1)
    normalised = outputs.in_shares(boxes.array)
    names, columns, turned = (scores.name, boxes.name), scores.shape[1], scores.layout == "columns"
    ids = COCO91 if coco else ()
    # Where each query has about the whole picture, centres and sides may be corners too.
    centred = bool(CENTRES_NAME.search(boxes.name)) or not are_corners(boxes.array)
    if scores.shape[0] <= MOST_QUERIES and normalised and centred:
        more = columns in (outputs.labels + 1, 92)
        softmax: Activation = "none" if probabilities else "softmax"
        sigmoid: Activation = "none" if probabilities else "sigmoid"
        rf_detr = (boxes.name, scores.name) == RF_DETR
        if more and (not rf_detr or outputs.family == "detr"):
            yield Head("detr", names, ids, softmax, normalised=True, transposed=turned)
        if not more or rf_detr or outputs.family == "rtdetr" or not (coco or _says_nothing(scores, probabilities)):
            own = tuple(range(outputs.labels)) if more and not coco else ids  # the column more is no label's
            yield Head("rtdetr", names, own, sigmoid, normalised=True, transposed=turned)
        return
    background = columns > outputs.labels
    if background and not coco:
        ids = tuple(range(1, outputs.labels + 1))
    activation: Activation = "none" if probabilities else "softmax" if background else "sigmoid"
    form: Boxes = "cxcywh" if centred else "yxyx" if outputs.y_first else "xyxy"
    if form != "cxcywh" or (boxes.array.size and (boxes.array[:, :, 2:] >= 0).mean() > 0.99):
        yield Head("dense", names, ids, activation, form, normalised, transposed=turned)


def _says_nothing(scores: Tensor, probabilities: bool) -> bool:
    """Whether the last column is DETR's for no object: that of most queries, of a softmax over all columns.

    A fine-tuned RF-DETR has a column more than labels as well, for nothing at all, and a sigmoid for each.
    """
    array = scores.array
    if probabilities:
        return bool(np.abs(array.sum(axis=-1) - 1).max() < 0.01)
    return bool((array.argmax(axis=-1) == array.shape[-1] - 1).mean() > 0.5)


def _distances(outputs: Outputs) -> Iterator[Head]:
    for tensor in outputs.rows():
        strides = outputs.strides(tensor.shape[0])
        bins = (tensor.shape[1] - outputs.labels) / 4
        if not strides or bins < FEWEST_BINS or not bins.is_integer():
            continue
        if outputs.family == "gfl" or (bins in BINS and _scores_first(outputs, tensor, strides)):
            scores = Tensor(tensor.names, tensor.array[:, :, : outputs.labels])
            yield _gfl(tensor.names, strides, scores)
    yield from _distances_behind_another(outputs)
    levels: dict[int, list[tuple[int, Tensor]]] = {}
    for tensor in (*outputs.rank(2), *outputs.rank(3)):
        stride, width, _ = outputs.level(tensor)
        if stride:
            levels.setdefault(stride, []).append((width, tensor))
    strides = tuple(sorted(levels))
    if strides not in STRIDES:
        return
    pairs = [_apart(outputs, levels[stride]) for stride in strides]
    for place in range(max(map(len, pairs)) if all(pairs) else 0):
        chosen = [each[min(place, len(each) - 1)] for each in pairs]
        names = tuple(tensor.name for pair in chosen for tensor in pair)
        yield _gfl(names, strides, *(scores for scores, _ in chosen))


def _distances_behind_another(outputs: Outputs) -> Iterator[Head]:
    """Scores [cells, classes] and distances [cells, 4 * bins] of all strides."""
    tensors = [each for each in outputs.rank(2) if len(outputs.strides(each.shape[0])) > 1]
    pairs = [
        (scores, sides) for scores in tensors for sides in tensors
        if scores is not sides and scores.shape[0] == sides.shape[0]
        and scores.shape[1] == outputs.labels and sides.shape[1] / 4 in BINS
    ]  # fmt: skip
    for scores, sides in settled(pairs, "distances", outputs.order):
        head = _gfl((scores.name, sides.name), outputs.strides(scores.shape[0]), scores)
        yield msgspec.structs.replace(head, offset=0.5)


def _apart(outputs: Outputs, level: list[tuple[int, Tensor]]) -> list[Pair]:
    """What may be the scores and the distances of one stride."""
    classes = [each for width, each in level if width == outputs.labels]
    sides = [each for width, each in level if width % 4 == 0 and width >= 4 * FEWEST_BINS]
    pairs = [(one, other) for one in classes for other in sides if one is not other]
    return settled(pairs, "distances", outputs.order)


def _scores_first(outputs: Outputs, tensor: Tensor, strides: tuple[int, ...]) -> bool:
    """Whether rows are scores and then distances, and not a box and more scores than there are labels.

    A box stands where its cell is, and what comes after it are probabilities; distances are none. Scores are, or nearly
    all of them say no, which distances do not.
    """
    rows, labels = tensor.array, outputs.labels
    points, _ = grid(outputs.picture, strides, 0.5)
    sides = np.array([outputs.picture.width, outputs.picture.height])
    for unit in (np.ones(2), sides):
        if (np.abs(rows[:, :, :2] * unit - points).mean(axis=(0, 1)) < sides / 8).all():
            return False
    if are_shares(rows[:, :, max(labels, 4) :]):
        return False
    scores, rest = rows[:, :, :labels], rows[:, :, labels:]
    return are_shares(scores) or bool((scores > 0).mean() < FEW <= (rest > 0).mean())


def _gfl(names: tuple[str, ...], strides: tuple[int, ...], *scores: Tensor) -> Head:
    """NanoDet-Plus, alone with a stride of 64 and both in one tensor, measures from a cell's corner, others from its
    centre."""
    corner = strides[-1] == 64 and len(names) <= len(strides)
    activation: Activation = "none" if all(are_shares(each.array) for each in scores) else "sigmoid"
    return Head("gfl", names, (), activation, "xyxy", strides=strides, offset=0.0 if corner else 0.5)

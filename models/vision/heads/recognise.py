"""Which family a detector is of, from the shapes of its outputs and what they hold for a picture.

Names count only where nothing else tells scores from boxes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from models.vision.heads.candidates import grid
from models.vision.heads.order import Pair, settled
from models.vision.heads.outputs import (
    ANCHORS,
    FEW,
    FEWEST_BINS,
    STRIDES,
    Outputs,
    Tensor,
    are_corners,
    are_shares,
    are_whole,
    is_list,
)
from models.vision.specs import Activation, Boxes, Head

MOST_QUERIES = 1000
COCO91 = (*range(1, 12), *range(13, 26), 27, 28, *range(31, 45), *range(46, 66), 67, 70, *range(72, 83), *range(84, 91))
"""What COCO's annotations call its 80 classes, in order."""
CLASSES_NAME = re.compile("class|label")
SHARES_NAME = re.compile("score|conf|prob")
LISTS = ("ssd", "nms")


def recognise(outputs: Outputs) -> list[Head]:
    """Every family that the outputs may be of, several times where several outputs fit it."""
    found: dict[tuple[str, tuple[str, ...]], Head] = {}
    for family in (_objectness, _fastestdet, _anchorless, _listed_rows, _lists, _queries, _distances):
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
    for tensor in outputs.rows():
        if tensor.layout == "columns" or tensor.shape[1] != 5 + outputs.labels:
            continue
        if not are_shares(tensor.array[:, :, 4:]):
            continue
        strides = outputs.strides(tensor.shape[0])
        if is_list(tensor) and not _on_grids(outputs, tensor):
            continue
        if not strides:
            yield Head("yolov5", tensor.names, normalised=outputs.in_shares(tensor.array[:, :, :4]))
            continue
        points, _ = grid(outputs.picture, strides, 0.5)
        decoded = bool(np.abs(tensor.array[:, :, 0] - points[:, 0]).mean() < outputs.picture.width / 8)
        family = "yolov6" if decoded and (tensor.array[:, :, 4] == 1).all() else "yolox"
        yield Head(family, tensor.names, decoded=decoded, strides=strides)


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
    told = outputs.family == "yolov8" or outputs.activation == "sigmoid"
    for tensor in outputs.rows():
        for axis in (0, 1) if len(tensor.names) == 1 else (1,):
            if tensor.shape[axis] != 4 + outputs.labels:
                continue
            rows = tensor.array if axis else tensor.array.swapaxes(1, 2)
            shares = are_shares(rows[:, :, 4:])
            if not shares and not told:
                continue
            normalised = outputs.in_shares(rows[:, :, :4])
            queries = axis == 1 and normalised and len(rows[0]) <= MOST_QUERIES
            if queries and len(outputs.strides(len(rows[0]))) < 2:
                if shares:
                    yield Head("rtdetr", tensor.names, normalised=True)
            elif axis == 0 or not is_list(tensor) or _on_grids(outputs, tensor):
                transposed = axis == 1 and tensor.layout == "rows"
                activation: Activation = "none" if shares else "sigmoid"
                yield Head("yolov8", tensor.names, (), activation, transposed=transposed, normalised=normalised)


def _listed_rows(outputs: Outputs) -> Iterator[Head]:
    for tensor in outputs.rank(2):
        if is_list(tensor):
            normalised = outputs.in_shares(tensor.array[:, :, -6:-2])
            yield Head("end2end", (tensor.name,), boxes="xyxy", normalised=normalised)


def _lists(outputs: Outputs) -> Iterator[Head]:
    """Boxes [k, 4], classes [k], scores [k] and perhaps their number; or boxes [k, 5] and classes [k]."""
    lists = [each for each in outputs.tensors if len(each.shape) == 1]
    for boxes in outputs.rank(2):
        columns = [each for each in lists if each.shape == boxes.shape[:1]]
        if boxes.shape[1] not in (4, 5) or not columns:
            continue
        classes = [each for each in columns if are_whole(each.array)]
        if boxes.shape[1] == 5 and len(classes) == 1:
            yield Head("nms", (boxes.name, classes[0].name), boxes="xyxy")
        elif boxes.shape[1] == 4:
            for numbers, scores in _numbers_and_scores(outputs, columns):
                yield from _counted(outputs, (boxes, numbers, scores))


def _numbers_and_scores(outputs: Outputs, columns: list[Tensor]) -> list[Pair]:
    """Which of the columns may be the classes' numbers, and which their scores: several pairs where nothing tells.

    Numbers that no label has are others, such as TensorFlow's of anchors.
    """
    most = COCO91[-1] if outputs.labels == len(COCO91) else outputs.labels
    scores = [each for each in columns if each.array.dtype.kind == "f" and are_shares(each.array)]
    classes = [each for each in columns if are_whole(each.array)]
    pairs = [
        (one, other) for one in classes for other in scores
        if one is not other and one.array[other.array > 0].max(initial=0) <= most
    ]  # fmt: skip
    if outputs.ordered:
        return pairs
    pairs = [pair for pair in pairs if CLASSES_NAME.search(pair[0].name.lower())] or pairs
    pairs = [pair for pair in pairs if SHARES_NAME.search(pair[1].name.lower())] or pairs
    return [pair for pair in pairs if pair[0].array.dtype.kind != "f"] or pairs


def _counted(outputs: Outputs, lists: tuple[Tensor, Tensor, Tensor]) -> Iterator[Head]:
    """Lists whose classes begin at 0 or at 1: what is seen may say so."""
    boxes, classes, scores = lists
    count = [
        each for each in outputs.tensors
        if each.shape in ((), (1,)) and each not in lists and are_whole(each.array)
    ]  # fmt: skip
    normalised = outputs.in_shares(boxes.array)
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
    pairs: list[Pair] = []
    for boxes in (each for each in tensors if each.shape[1] == 4):
        for scores in tensors:
            extra = scores.shape[1] - outputs.labels
            if (
                scores is not boxes
                and scores.shape[0] == boxes.shape[0]
                and (extra in (0, 1) or _coco(outputs, scores))
            ):
                pairs.append((scores, boxes))
    for scores, boxes in settled(pairs, "boxes", outputs.order):
        yield from _scored(outputs, scores, boxes, _coco(outputs, scores))


def _coco(outputs: Outputs, scores: Tensor) -> bool:
    """Whether there is a column for each of COCO's 91 numbers."""
    return outputs.coco and scores.shape[1] in (91, 92)


def _scored(outputs: Outputs, scores: Tensor, boxes: Tensor, coco: bool) -> Iterator[Head]:
    probabilities = scores.within(0, 1)
    normalised = outputs.in_shares(boxes.array)
    names, columns = (scores.name, boxes.name), scores.shape[1]
    ids = COCO91 if coco else ()
    if scores.shape[0] <= MOST_QUERIES and normalised and not are_corners(boxes.array):
        more = columns in (outputs.labels + 1, 92)
        softmax: Activation = "none" if probabilities else "softmax"
        sigmoid: Activation = "none" if probabilities else "sigmoid"
        if more:
            yield Head("detr", names, ids, softmax, normalised=True)
        if not more or outputs.family == "rtdetr" or not (coco or _says_nothing(scores, probabilities)):
            own = tuple(range(outputs.labels)) if more and not coco else ids  # the column more is no label's
            yield Head("rtdetr", names, own, sigmoid, normalised=True)
        return
    background = columns > outputs.labels
    if background and not coco:
        ids = tuple(range(1, outputs.labels + 1))
    activation: Activation = "none" if probabilities else "softmax" if background else "sigmoid"
    form: Boxes = "xyxy" if are_corners(boxes.array) else "cxcywh"
    if form == "xyxy" or (boxes.array[:, :, 2:] >= 0).mean() > 0.99:
        yield Head("dense", names, ids, activation, form, normalised)


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
        if outputs.family == "gfl" or _scores_first(outputs, tensor, strides):
            scores = Tensor(tensor.names, tensor.array[:, :, : outputs.labels])
            yield _gfl(tensor.names, strides, scores)
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

"""Which outputs are lists of objects, and which of their columns or tensors are boxes, classes and scores."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.vision.heads.candidates import Spec, corners, grid, without_ones
from models.vision.heads.listed import ORDERS, parted, usual
from models.vision.heads.order import Pair
from models.vision.heads.outputs import Outputs, Tensor, are_corners, are_shares, are_whole
from models.vision.specs import Boxes, Columns, Head

COCO91 = (*range(1, 12), *range(13, 26), 27, 28, *range(31, 45), *range(46, 66), 67, 70, *range(72, 83), *range(84, 91))
"""What COCO's annotations call its 80 classes, in order."""
_GAPS = tuple(sorted(set(range(COCO91[-1])) - set(COCO91)))
CLASSES_NAME = re.compile("class|label")
CLASS_FIRST_NAME = re.compile("class_?id_score")  # of PINTO's model zoo
FLAT_NAME = re.compile("flat_predictions")  # of YOLO-NAS
SHARES_NAME = re.compile("score|conf|prob")
OBJECT_DETECTION_NAME = re.compile("^detection_classes")  # of TensorFlow's
NEAR = 16  # of a picture's side, how far boxes at most stand from their cells
MOST = 0.5  # of the rows that are seen
LEAST = 0.05  # the score of a row whose class counts: others may be filling


def is_list(tensor: Tensor) -> bool:
    """Whether rows of 6 or 7 are objects: whole classes, scores that are probabilities."""
    return bool(orders(tensor))


def orders(tensor: Tensor, said: Columns = "", tensorflow: bool = False) -> list[Columns]:
    """What the columns of a tensor may be, the likeliest first; none where its rows are no objects.

    Args:
        said: the only order to look for, if any.
        tensorflow: whether the network is one of TensorFlow's, whose rows of 7 are EfficientDet's.
    """
    array = tensor.array
    if len(tensor.shape) != 2 or tensor.shape[1] not in (6, 7):
        return []
    if tensor.shape[1] == 7 and not are_whole(array[:, :, 0]):
        return []
    score_first = tensor.shape[1] == 7 and (tensorflow or FLAT_NAME.search(tensor.name))
    most_usual: Columns = "box-score-class" if score_first else usual(tensor.shape[1])
    most_usual = "class-score-box" if CLASS_FIRST_NAME.search(tensor.name.lower()) else most_usual
    asked = [said] if said else sorted(ORDERS, key=lambda each: each != most_usual)
    possible = [each for each in asked if _may_be(array, each)]
    return sorted(possible, key=lambda each: not _has_corners(array, each))


def _may_be(rows: NDArray[np.floating], columns: Columns) -> bool:
    _, classes, scores = parted(rows, columns)
    return are_whole(classes) and are_shares(np.where(classes < 0, 0, scores))  # rows that are none are often all -1


def _has_corners(rows: NDArray[np.floating], columns: Columns) -> bool:
    boxes, _, scores = parted(rows, columns)
    return not (scores > 0).any() or are_corners(boxes[scores > 0][None])


def _has_centres(rows: NDArray[np.floating], columns: Columns) -> bool:
    """Whether boxes are a centre and sides: as corners, most would have the second further left or up."""
    boxes, _, scores = parted(rows, columns)
    seen = boxes[scores > 0]
    return bool(len(seen) and (seen[:, 2:] >= seen[:, :2]).all(axis=1).mean() < MOST)


def listed_rows(outputs: Outputs) -> Iterator[Head]:
    """Rows [k, 6] or [k, 7]."""
    for tensor in outputs.rank(2):
        for columns in orders(tensor, outputs.columns, outputs.tensorflow)[:1]:
            boxes, classes, scores = parted(tensor.array, columns)
            told: Columns = "" if columns == usual(tensor.shape[1]) else columns
            efficientdet = outputs.tensorflow and told == "box-score-class"
            normalised = outputs.in_shares(boxes)
            # Class 0 of Caffe's DetectionOutput is the background, and never listed; its boxes are shares.
            caffe = tensor.shape[1] == 7 and told == "class-score-box" and normalised
            ids = _ids(outputs, classes[scores > LEAST], from_one=efficientdet or caffe)
            if ids is None:
                continue
            order: Boxes = "yxyx" if outputs.y_first or efficientdet else "xyxy"
            order = "cxcywh" if _has_centres(tensor.array, columns) else order
            yield Head("end2end", (tensor.name,), ids, boxes=order, columns=told, normalised=normalised)


def _ids(outputs: Outputs, seen: NDArray[np.floating], *, from_one: bool = False) -> tuple[int, ...] | None:
    """What the labels' numbers are, given those of some objects: from 0 if they can be; None where they are more.

    Args:
        from_one: whether they are from 1 if they can be.
    """
    labels, last = outputs.labels, int(seen.max(initial=0))
    if (seen == 0).any():
        return () if last < labels else None
    coco = labels == len(COCO91) and _may_be_coco(seen)
    if last < labels and not from_one:
        return ()
    if last > labels or (from_one and coco):
        return COCO91 if coco else None
    return tuple(range(1, labels + 1))


def _may_be_coco(seen: NDArray[Any]) -> bool:
    """Whether none of the numbers is one that COCO's annotations leave out."""
    return bool(seen.max(initial=0) <= COCO91[-1] and not np.isin(seen, _GAPS).any())


def numbers_seen(head: Head, arrays: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    """The numbers of the classes of which a network that lists objects gave some."""
    first = arrays[head.tensors[0]]
    if head.family == "end2end":
        _, classes, scores = parted(without_ones(first), head.columns)
    else:
        classes = arrays[head.tensors[1]]
        scores = arrays[head.tensors[2]] if len(head.tensors) > 2 else first[..., 4]
    return classes[scores > LEAST]


def most_listed(outputs: Outputs) -> int:
    """The highest number of a class in a list, where it is more than there are labels; else 0."""
    numbers = [
        parted(each.array, order)[1:]
        for each in outputs.rank(2)
        for order in orders(each, outputs.columns, outputs.tensorflow)[:1]
    ]
    columns = [each for each in outputs.tensors if len(each.shape) == 1]
    for boxes in (each for each in outputs.rank(2) if each.shape[1] == 5):
        beside = [each for each in columns if each.shape == boxes.shape[:1] and are_whole(each.array)]
        numbers += [(each.array, boxes.array[:, :, 4]) for each in beside]
    most = max((int(classes[scores > LEAST].max(initial=0)) for classes, scores in numbers), default=0)
    return most if most >= outputs.labels else 0


def lists(outputs: Outputs) -> Iterator[Head]:
    """Boxes [k, 4], classes [k], scores [k] and perhaps their number; or boxes [k, 5] and classes [k]."""
    flat = [each for each in outputs.tensors if len(each.shape) == 1]
    for boxes in outputs.rank(2):
        columns = [each for each in flat if each.shape == boxes.shape[:1]]
        if boxes.shape[1] not in (4, 5) or not columns:
            continue
        classes = [each for each in columns if are_whole(each.array)]
        if boxes.shape[1] == 5 and len(classes) == 1:
            ids = _ids(outputs, classes[0].array[boxes.array[:, :, 4] > LEAST])
            if ids is not None:
                yield Head("nms", (boxes.name, classes[0].name), ids, boxes="yxyx" if outputs.y_first else "xyxy")
        elif boxes.shape[1] == 4:
            for numbers, scores in _numbers_and_scores(outputs, columns):
                yield from _counted(outputs, (boxes, numbers, scores))


def _numbers_and_scores(outputs: Outputs, columns: list[Tensor]) -> list[Pair]:
    """Which of the columns may be the classes' numbers, and which their scores: several pairs where nothing tells.

    Numbers that no label has are others, such as TensorFlow's of anchors.
    """
    most = COCO91[-1] if outputs.labels == len(COCO91) else outputs.labels
    scores = [each for each in columns if each.array.dtype.kind == "f" and _may_be_scores(each.array)]
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


def _may_be_scores(array: NDArray[Any]) -> bool:
    """Whether all numbers are probabilities, but for those of rows that are filled with -1."""
    return are_shares(array[array != -1])


def _counted(outputs: Outputs, lists: tuple[Tensor, Tensor, Tensor]) -> Iterator[Head]:
    """Lists whose classes begin at 0 or at 1: what is seen may say so. One box in each cell of YOLO's grids has them
    from 0, and is not suppressed yet."""
    boxes, classes, scores = lists
    count = [
        each for each in outputs.tensors
        if each.shape in ((), (1,)) and each not in lists and are_whole(each.array)
    ]  # fmt: skip
    normalised = outputs.in_shares(boxes.array)
    order: Boxes = "yxyx" if outputs.y_first or (normalised and (outputs.tensorflow or count)) else "xyxy"
    names = tuple(each.name for each in (boxes, classes, scores, *count[:1]))
    form: Boxes = order if are_corners(boxes.array) else "cxcywh"
    strides = _cells(outputs, boxes.array, form, normalised)
    if strides and outputs.family != "ssd":
        yield Head("nms", names, boxes=form, normalised=normalised, strides=strides)
        return
    seen = classes.array[scores.array > 0]
    first = None if outputs.family or not count else _first_number(classes, count[0])
    may_be_nms = not seen.size or bool(seen.max() < outputs.labels)
    if not (seen == 0).any() and not (first == 0 and may_be_nms):
        sure = classes.array[scores.array > LEAST]
        coco = (
            outputs.labels == len(COCO91) and _may_be_coco(sure) and (outputs.coco or sure.max(initial=0) > len(COCO91))
        )
        ids = COCO91 if coco else tuple(range(1, outputs.labels + 1))
        if sure.max(initial=0) <= ids[-1]:
            yield Head("ssd", names, ids=ids, boxes=order, normalised=normalised)
            may_be_nms = may_be_nms and first != 1
    if may_be_nms:
        yield Head("nms", names, boxes=order, normalised=normalised)


def _cells(outputs: Outputs, boxes: NDArray[Any], form: Boxes, normalised: bool) -> tuple[int, ...]:
    """The strides of several grids, each of whose cells has one of the boxes, which stands there; none where not."""
    strides = outputs.strides(boxes.shape[1])
    if len(strides) < 2:
        return ()
    spec = Spec(outputs.picture, Head("nms", boxes=form, normalised=normalised), outputs.labels)
    found = corners(boxes.reshape(-1, 4), spec).reshape(boxes.shape)
    off = np.abs((found[:, :, :2] + found[:, :, 2:]) / 2 - grid(outputs.picture, strides, 0.5)[0])
    sides = np.array([outputs.picture.width, outputs.picture.height])
    return strides if (off.mean(axis=(0, 1)) < sides / NEAR).all() else ()


def _first_number(classes: Tensor, count: Tensor) -> int | None:
    """What classes are counted from, by the number of objects beside them, where the classes that are seen do not tell.

    Suppression as TensorRT has it, in YOLO's exports, and Keras' give a whole number; TensorFlow's object detection a
    float.

    References: TensorRT's EfficientNMS plugin; TensorFlow Object Detection API, exporter_lib_v2.
    """
    if count.array.dtype.kind in "iu":
        return 0
    return 1 if OBJECT_DETECTION_NAME.search(classes.name) else None

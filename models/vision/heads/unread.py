"""What outputs that fit no family may be, in words for the one who exported them."""

from __future__ import annotations

from models.vision.heads.lists import most_listed
from models.vision.heads.outputs import (
    ANCHORS,
    FEW,
    FEWEST_BINS,
    Outputs,
    Tensor,
    are_anchors,
    are_of_each_stride,
    are_shares,
)

MOST_COLUMNS = 4096
MOST_GUESSES = 4
FEWEST_POINTS = 4  # numbers of key points
PIXELS = 0.4  # of the numbers of key points, those that are pixels; others say whether they are seen
MOST_OFFSETS = 18  # in a tensor: those of a box and of 7 key points
KEY_POINTS = 51  # numbers: COCO's 17 points with x, y and whether they are seen
FINEST = 4  # pixels: CenterNet's stride
DECODED = "export the network with its decoding"
DETECTING = "export a network that only detects"
END_TO_END = 6  # columns of a row that is an object: its box, score and class
MOST_ANCHORS = 9  # in a cell


def explain(outputs: Outputs) -> str:
    """What they look like that is not read, or which number of labels they would fit."""
    return look(outputs) or f"is the number of labels right?{_guesses(outputs)}"


def look(outputs: Outputs) -> str:
    """What they look like that is not read; empty where nobody knows."""
    if _raw(outputs):
        return f"they look like YOLOv5's grids without their decoding, by anchors that are in no output: {DECODED}"
    if _raw_distances(outputs):
        return f"they look like YOLOv8's grids without their decoding, distances before scores: {DECODED}"
    if most := most_listed(outputs):
        return f"they list classes of numbers up to {most}: --labels must name them all, or the columns are others"
    if _raw_anchors(outputs):
        return f"they look like scores and offsets from anchors, several in each cell: {DECODED}"
    if without := _without_boxes(outputs):
        return without
    if _masks(outputs):
        return f"they look like those of YOLOv8's segmentation, masks beside the boxes: {DETECTING}"
    if _more(outputs, {KEY_POINTS}):
        return f"they look like those of YOLOv8's pose, key points beside the boxes: {DETECTING}"
    if _points(outputs):
        return f"they have key points beside the boxes and scores, which are not read: {DETECTING}"
    boxes = [each for each in outputs.rank(2) if each.shape[1] == 4]
    if are_of_each_stride(outputs, boxes) or any(are_anchors(each, boxes) for each in boxes):
        return f"they look like scores and offsets from anchors: {DECODED}"
    if any(scores.shape[1] - outputs.labels in (0, 1) for scores, _ in _pairs(outputs, MOST_OFFSETS)):
        return f"they look like scores and offsets from places that are in no output: {DECODED}"
    return _of_rows(outputs)


def _without_boxes(outputs: Outputs) -> str:
    """What outputs are in which nothing can be a box."""
    if all(len(each.shape) < 2 for each in outputs.tensors):
        return "they hold no boxes: a classifier is added with --task classify"
    maps = outputs.rank(3)
    if len(maps) < len(outputs.tensors):
        return ""
    scores = [each for each in maps if each.shape[0] - outputs.labels in (0, 1)]
    if scores and any(each.shape[0] in (2, 4) and each not in scores for each in maps):
        return f"they look like scores and offsets in each cell, as CenterNet and FCOS have them: {DECODED}"
    if len(maps) == 1 and maps[0].shape[0] > outputs.labels and outputs.level(maps[0])[0] == FINEST:
        return f"they look like scores and offsets in each cell, as CenterNet has them: {DECODED}"
    if any(each.shape[1] * 2 >= outputs.picture.height for each in maps) or len(scores) == len(maps):
        return f"they are maps of scores, such as a segmentation's: {DETECTING}"
    return ""


def _of_rows(outputs: Outputs) -> str:
    """What boxes with their scores beside them look like."""
    labels = outputs.labels
    for tensor in outputs.rows():
        arrays = (tensor.array, tensor.array.swapaxes(1, 2)) if len(tensor.names) == 1 else (tensor.array,)
        for rows in arrays:
            more = rows.shape[2] - labels
            shares = more in (4, 5) and are_shares(rows[:, :, 4:])
            if more == 5 and not shares and are_shares(rows[:, :, 4:-1]):
                return (
                    "they look like YOLOv8's rotated boxes, an angle after the scores, which are not read: "
                    f"{DETECTING} boxes that stand upright"
                )
            if more in (4, 5) and not shares:
                family, said = ("YOLOv8", "yolov8") if more == 4 else ("YOLOX", "yolox")
                logits = f"if they are {family}'s logits, say --family {said} --activation sigmoid"
                return f"scores are no probabilities: {logits}"
            if more == 5 and rows is tensor.array and not outputs.strides(rows.shape[1]):
                return (
                    "they look like YOLOv5's, but no usual grids have so many boxes: say --family yolov5 if they are, "
                    "and --size if the input is not of the size that it was exported for"
                )
            if more == 4:
                return (
                    f"they look like YOLOv5's or YOLOX's with {labels - 1} labels: --labels must not name more; or say "
                    "--family yolov8 if they are YOLOv8's after all"
                )
    return ""


def _raw(outputs: Outputs) -> bool:
    """Maps on a grid with some boxes of 5 + C numbers in each cell, whichever axes these are.

    [3, rows, columns, 5 + C], [3, 5 + C, rows, columns], [rows, columns, 3, 5 + C], or one axis of 3 * (5 + C) before
    or behind rows and columns.
    """
    columns = 5 + outputs.labels
    for tensor in outputs.tensors:
        shape = tensor.shape
        if len(shape) == 4 and ANCHORS in (shape[0], shape[2]) and columns in (shape[1], shape[3]):
            return True
        if len(shape) == 3 and (
            (_are_boxes(shape[0], columns) and shape[1] == shape[2])
            or (_are_boxes(shape[2], columns) and shape[0] == shape[1])
            or (shape[0] == ANCHORS * columns and outputs.level(tensor)[0])
        ):
            return True
    return False


def _are_boxes(axis: int, columns: int) -> bool:
    """Whether an axis may be the boxes of one cell, with so many numbers each."""
    return axis % columns == 0 and 1 < axis // columns <= MOST_ANCHORS


def _raw_anchors(outputs: Outputs) -> bool:
    """Maps of the scores, and beside them of the 4 offsets, of some boxes in each cell of a grid.

    References: EfficientDet; RetinaNet; SSD, which has a column more for the background.
    """
    maps = outputs.rank(3)
    for offsets in (each for each in maps if _are_boxes(each.shape[0], 4)):
        boxes = offsets.shape[0] // 4
        beside = [each for each in maps if each is not offsets and each.shape[1:] == offsets.shape[1:]]
        if any(each.shape[0] in (boxes * outputs.labels, boxes * (outputs.labels + 1)) for each in beside):
            return True
    return False


def _raw_distances(outputs: Outputs) -> bool:
    """4 * bins distances and C scores in each cell."""
    for tensor in outputs.rows():
        sides = tensor.shape[1] - outputs.labels
        if not outputs.strides(tensor.shape[0]) or sides % 4 or sides < 4 * FEWEST_BINS:
            continue
        scores, rest = tensor.array[:, :, sides:], tensor.array[:, :, 4:sides]
        if not are_shares(rest) and (are_shares(scores) or (scores > 0).mean() < FEW <= (rest > 0).mean()):
            return True
    return False


def _masks(outputs: Outputs) -> bool:
    """Boxes with as many numbers more as there are maps beside them."""
    return _more(outputs, {each.shape[0] for each in outputs.rank(3)})


def _more(outputs: Outputs, numbers: set[int]) -> bool:
    """Whether boxes and scores, or rows that are objects, have so many numbers beside them."""
    widths = (4 + outputs.labels, 5 + outputs.labels, END_TO_END)
    return any(axis - width in numbers for each in outputs.rank(2) for axis in each.shape for width in widths)


def _points(outputs: Outputs) -> bool:
    """Whether what stands behind boxes and scores is pixels."""
    end = 4 + outputs.labels
    for tensor in outputs.rows():
        for rows in (tensor.array, tensor.array.swapaxes(1, 2)):
            more = rows[:, :, end:]
            if more.shape[2] >= FEWEST_POINTS and are_shares(rows[:, :, 4:end]) and (more > 2).mean() > PIXELS:
                return True
    return False


def _pairs(outputs: Outputs, most: int = 4) -> list[tuple[Tensor, Tensor]]:
    """What may be scores [k, columns] and boxes [k, 4], or with more numbers behind them."""
    tensors = outputs.rank(2)
    boxes = [each for each in tensors if 4 <= each.shape[1] <= most]
    return [(one, box) for one in tensors for box in boxes if one is not box and one.shape[0] == box.shape[0]]


def _guesses(outputs: Outputs) -> str:
    """Numbers of labels that the shapes would fit, of families whose outputs have a column for each."""
    possible = {scores.shape[1] - more for scores, _ in _pairs(outputs) for more in (0, 1)}
    for tensor in () if possible else outputs.rank(2):
        columns = min(tensor.shape)
        possible |= {columns - more for more in (4, 5) if 5 < columns <= MOST_COLUMNS}
    guesses = sorted(possible - {outputs.labels})
    return f" (it may be {' or '.join(map(str, guesses))})" if 0 < len(guesses) <= MOST_GUESSES else ""

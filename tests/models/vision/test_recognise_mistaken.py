"""Outputs with a label too many or too few, and tensors that only look like boxes, are taken for nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from models.vision.heads.outputs import Outputs
from models.vision.heads.unread import explain
from models.vision.specs import Picture
from tests.models.vision.test_recognise import (
    SIZE,
    columns,
    corners,
    found,
    join,
    logits,
    named,
    on_grid,
    one,
    pixels,
    shares,
    softmaxed,
)


def why(*arrays: np.ndarray, labels: int) -> str:
    assert found(*arrays, labels=labels) == []
    tensors = {str(place): array for place, array in enumerate(arrays)}
    return explain(Outputs.of(tensors, Picture(SIZE, SIZE), tuple(f"l{each}" for each in range(labels))))


def sure(boxes: np.ndarray, labels: int, at: int = 7) -> np.ndarray:
    """Boxes with an objectness and class scores, of which one box has high ones."""
    scores = np.full((2, boxes.shape[1], 1 + labels), 0.01, np.float32)
    scores[:, at, 0], scores[:, at, 1 + labels // 2] = 0.9, 0.95
    return join(boxes, scores)


def raw(count: int) -> np.ndarray:
    """Boxes as YOLOX leaves them to its reader."""
    return logits(count, 4)


@pytest.mark.parametrize(
    "rows",
    [
        join(pixels(6300), shares(6300, 6)),
        join(raw(2100), shares(2100, 6)),
        sure(on_grid(2100), 5),
        columns(sure(pixels(6300), 5)),
    ],
    ids=["three-in-a-cell", "sides-are-logarithms", "two-high-scores", "columns"],
)
def test_an_objectness_is_no_class(rows: np.ndarray) -> None:
    assert why(rows, labels=6).startswith(
        "they look like YOLOv5's or YOLOX's with 5 labels: --labels must not name more"
    )
    assert one(rows).family in ("yolov5", "yolox")


def test_boxes_of_no_grid_have_an_objectness_only_if_it_is_said() -> None:
    rows = join(pixels(300) / SIZE, shares(300, 80))
    assert "no usual grids have so many boxes: say --family yolov5" in why(rows, labels=79)
    assert [head.family for head in named({"out": rows}, 79, family="yolov5")] == ["yolov5"]
    assert one(rows, labels=80).family == "rtdetr"


def test_boxes_as_columns_have_an_objectness_where_three_are_in_a_cell() -> None:
    head = one(columns(join(pixels(6300), shares(6300, 6))))
    assert (head.family, head.transposed) == ("yolov5", True)
    assert found(columns(join(on_grid(2100), shares(2100, 6)))) == []


def test_logits_beside_an_objectness() -> None:
    rows = join(pixels(6300), logits(6300, 6))
    assert "say --family yolox --activation sigmoid" in why(rows, labels=5)
    heads = named({"out": rows}, activation="sigmoid")
    assert [(head.family, head.activation) for head in heads] == [("yolov5", "sigmoid")]


def test_an_angle_is_no_score() -> None:
    rows = join(on_grid(2100), shares(2100, 5), logits(2100, 1))
    assert "rotated boxes, an angle after the scores, which are not read" in why(columns(rows), labels=5)


def test_distances_have_as_many_bins_as_networks_have() -> None:
    rows = join(shares(2125, 80), logits(2125, 32))
    assert one(rows, labels=80).family == "gfl"
    assert found(rows, labels=76) == []
    assert [head.family for head in named({"out": rows}, 76, family="gfl")] == ["gfl"]


def test_distances_and_scores_of_all_strides_in_two_tensors() -> None:
    head = one(logits(2125, 32), shares(2125, 5))
    assert (head.family, head.strides, head.offset, head.activation) == ("gfl", (8, 16, 32, 64), 0.5, "none")


def test_anchors_are_no_boxes() -> None:
    scores, offsets, anchors = shares(4200, 5), logits(4200, 4), np.tile(corners(4200)[:1], (2, 1, 1))
    assert "offsets from anchors: export the network with its decoding" in why(scores, offsets, anchors, labels=5)
    named_so = {"scores": scores, "regression": np.tile(offsets[:1], (2, 1, 1)), "anchors": anchors}
    assert named(named_so) == []
    assert one(scores, anchors).family == "dense"


def test_scores_and_offsets_of_each_stride_are_not_decoded() -> None:
    levels = [(side * side, many) for side in (40, 20, 10) for many in (2,)]
    tensors = [each for cells, many in levels for each in (shares(cells * many, 1), corners(cells * many))]
    assert "offsets from anchors" in why(*tensors, labels=1)


@pytest.mark.parametrize("background", [0, 1])
def test_maps_of_several_boxes_in_each_cell_are_not_decoded(background: int) -> None:
    """As EfficientDet has them, whose grids begin at a stride of 8 and end at one of 128."""
    tensors = [logits(9 * many, side * side).reshape(2, 9 * many, side, side)
               for many in (5 + background, 4) for side in (40, 20, 10, 5, 3)]  # fmt: skip
    assert why(*tensors, labels=5) == (
        "they look like scores and offsets from anchors, several in each cell: export the network with its decoding"
    )


def test_scores_in_columns_or_of_one_class_stand_beside_boxes() -> None:
    head = one(columns(shares(2100, 5)), corners(2100))
    assert (head.family, head.transposed, head.boxes) == ("dense", True, "xyxy")
    head = one(corners(2100), shares(2100), labels=1)
    assert (head.family, head.tensors[::-1]) == ("dense", ("0", "62"))
    assert one(softmaxed(2100, 2), corners(2100)[:, :, None], labels=1).family == "dense"


@pytest.mark.parametrize(("objectness", "points"), [(0, 15), (1, 10)])
def test_key_points_of_faces_are_no_labels(objectness: int, points: int) -> None:
    rows = join(on_grid(2100), shares(2100, 1 + objectness), pixels(2100)[:, :, [0, 1, 0] * 5][:, :, :points])
    for each in (rows, columns(rows)):
        assert why(each, labels=1).startswith("they have key points beside the boxes and scores, which are not read")


def test_cells_of_centernet_in_one_tensor_are_not_decoded() -> None:
    assert "in each cell, as CenterNet has them: export" in why(shares(84, 80, 80), labels=80)

"""Lists of objects: which of them are classes, and what their boxes are, from what is in them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from models.vision.heads.lists import COCO91
from models.vision.heads.outputs import Outputs, saw_nothing
from models.vision.heads.unread import explain
from models.vision.specs import Picture
from tests.models.vision.test_recognise import (
    COCO,
    SIZE,
    corners,
    found,
    join,
    named,
    on_grid,
    one,
    places,
    shares,
    softmaxed,
    whole,
)


def numbers(these: Sequence[int], dtype: str = "float32", count: int = 60) -> np.ndarray:
    return np.resize(np.array(these), (2, count)).astype(dtype)


def test_lists_counted_from_nought_or_one() -> None:
    boxes, scores = corners(60), shares(60)
    assert one(boxes, whole(60, 0, 5, "int64"), scores).family == "nms"
    assert one(scores, boxes, whole(60, 1, 6, "int64")).family == "ssd"
    assert [head.family for head in found(boxes, whole(60, 1, 4, "int64"), scores)] == ["ssd", "nms"]
    assert one(boxes, numbers(COCO91, "int64"), scores, labels=COCO).ids == COCO91
    head = one(np.full((2, 1), 60, np.float32), shares(60, 4), whole(60, 1, 6), scores)
    assert (head.family, head.boxes, places(head)) == ("ssd", "yxyx", [1, 2, 3, 0])
    head = one(join(boxes, scores), whole(60, 0, 5, "int64"))
    assert (head.family, places(head)) == ("nms", [0, 1])


def tensorflow(low: int, high: int, columns: int) -> dict[str, np.ndarray]:
    """All outputs of a detector of TensorFlow 2: classes of these numbers, and how many there are with none."""
    anchors = whole(100, 1817, 1917)
    raw = corners(1917) / SIZE
    return {
        "detection_anchor_indices": anchors,
        "detection_boxes": raw[:, :100],
        "detection_classes": numbers(COCO91, count=100) if high > COCO91[-1] else whole(100, low, high),
        "detection_multiclass_scores": softmaxed(100, columns),
        "detection_scores": shares(100),
        "num_detections": np.full(2, 100, np.float32),
        "raw_detection_boxes": raw,
        "raw_detection_scores": softmaxed(1917, columns),
    }


@pytest.mark.parametrize(("low", "high", "labels"), [(1, 91, COCO), (1, 91, 80), (1, 6, 5), (1, 2, 1)])
def test_numbers_of_anchors_are_no_classes(low: int, high: int, labels: tuple[str, ...] | int) -> None:
    outputs = tensorflow(low, high, high)
    few = ("detection_anchor_indices", "detection_boxes", "detection_classes", "detection_scores", "num_detections")
    for tensors in (outputs, {name: outputs[name] for name in few}):
        heads = [head for head in named(tensors, labels) if head.family == "ssd"]
        assert [head.tensors for head in heads] == [
            ("detection_boxes", "detection_classes", "detection_scores", "num_detections")
        ]
        assert (heads[0].boxes, heads[0].normalised) == ("yxyx", True)
        assert {head.family for head in named(tensors, labels)} <= {"ssd", "nms"}


def test_lists_that_may_both_be_classes_are_told_apart_by_their_names_or_not_at_all() -> None:
    boxes, scores = corners(60), shares(60)
    low, high = whole(60, 1, 4), whole(60, 1, 6)
    heads = named({"boxes": boxes, "kinds_b": high, "classes": low, "scores": scores}, family="ssd")
    assert [head.tensors for head in heads] == [("boxes", "classes", "scores")]
    alike = {"boxes": boxes, "a": low, "b": high, "scores": scores}
    assert [head.tensors[1] for head in named(alike, family="ssd")] == ["a", "b"]
    said = {name: alike[name] for name in ("boxes", "b", "scores")}
    assert [head.tensors[1] for head in named(said, family="ssd", ordered=True)] == ["b"]
    assert named({"boxes": boxes, "classes": whole(60, 1, 9), "scores": scores}) == []
    assert named(tensorflow(1, 6, 6), family="dense")[0].family == "dense"


@pytest.mark.parametrize("filling", [0, -1])
def test_boxes_of_lists_without_an_object_are_in_pixels_unless_it_is_said(filling: int) -> None:
    tensors = {
        "boxes": np.full((2, 60, 4), filling, np.float32), "classes": whole(60, 0, 1, "int64"),
        "scores": np.zeros((2, 60), np.float32), "count": np.zeros((2, 1), np.float32),
    }  # fmt: skip
    for said, expected in ((None, ("xyxy", False)), (False, ("xyxy", False)), (True, ("yxyx", True))):
        head = named(tensors, family="nms", normalised=said)[0]
        assert (head.boxes, head.normalised) == expected
        assert saw_nothing(head, tensors)
    tensors["boxes"][0, 0] = [0.1, 0.1, 0.4, 0.4]
    head = named(tensors, family="nms")[0]
    assert (head.normalised, saw_nothing(head, tensors)) == (True, False)


def objects(*order: str, count: int = 60, classes: tuple[int, int] = (0, 5)) -> np.ndarray:
    """Rows of these parts, of which the first ten are objects and the others are nothing."""
    parts = {
        "picture": whole(count, 0, 1),
        "box": corners(count),
        "score": shares(count),
        "class": whole(count, *classes),
    }
    rows = join(*(parts[name] for name in order))
    rows[:, 10:] = 0
    return rows


@pytest.mark.parametrize(
    ("order", "columns"),
    [
        ("box score class", ""),
        ("class score box", "class-score-box"),
        ("picture box class score", ""),
        ("picture box score class", "box-score-class"),
        ("picture class score box", "class-score-box"),
    ],
)
def test_columns_of_objects_are_told_apart_by_what_they_hold(order: str, columns: str) -> None:
    rows = objects(*order.split())
    head = one(rows)
    assert (head.family, head.columns, head.boxes, head.normalised) == ("end2end", columns, "xyxy", False)
    if order.startswith("picture"):
        assert one(rows[:, None]).columns == columns
    assert named({"out": rows}, columns="box-class-score" if columns != "" else "class-score-box") == []


def test_boxes_of_rows_may_be_centres_and_sides() -> None:
    """Ultralytics' RT-DETR has all its queries so, in shares."""
    centred = join(on_grid(60), shares(60), whole(60, 0, 5))
    head = one(centred)
    assert (head.family, head.columns, head.boxes, head.normalised) == ("end2end", "", "cxcywh", False)
    centred[:, :, :4] /= SIZE
    assert (one(centred).boxes, one(centred).normalised) == ("cxcywh", True)
    turned = objects("box", "score", "class")
    turned[:, :3, [0, 2]] = turned[:, :3, [2, 0]]  # a few unsure boxes may be inside out
    assert one(turned).boxes == "xyxy"


def test_columns_of_nothing_are_the_usual_ones_unless_it_is_said() -> None:
    nothing = np.zeros((2, 60, 6), np.float32)
    assert one(nothing).columns == ""
    assert [head.columns for head in named({"out": nothing}, columns="class-score-box")] == ["class-score-box"]
    assert saw_nothing(named({"out": nothing}, columns="class-score-box")[0], {"out": nothing})


def test_numbers_beyond_the_labels_are_counted_from_one_or_no_labels() -> None:
    assert one(objects("box", "score", "class", classes=(1, 6))).ids in ((), (1, 2, 3, 4, 5))
    rows = objects("box", "score", "class", classes=(5, 6))
    assert one(rows).ids == (1, 2, 3, 4, 5)
    rows[:, 0, 5] = 0
    assert found(rows) == []
    names = tuple(f"l{each}" for each in range(5))
    assert "list classes of numbers up to 5: --labels must name them all" in explain(
        Outputs.of({"out": rows}, Picture(SIZE, SIZE), names)
    )
    rows[:, :10, 4] = 0.01  # filling
    assert one(rows).ids == ()
    rows = objects("box", "score", "class", classes=(90, 91))
    assert one(rows, labels=COCO).ids == COCO91
    assert found(np.full((2, 3, 5), 0.5, np.float32), whole(3, 7, 8)) == []


def test_tensorflow_has_y_before_x_whatever_else_is_there() -> None:
    boxes = {"boxes": corners(60) / SIZE, "classes": whole(60, 1, 5), "scores": shares(60)}
    assert {head.boxes for head in named(boxes)} == {"xyxy"}
    assert {head.boxes for head in named(boxes, tensorflow=True)} == {"yxyx"}
    in_pixels = boxes | {"boxes": corners(60)}
    assert {head.boxes for head in named(in_pixels, tensorflow=True)} == {"xyxy"}


def test_numbers_that_coco_leaves_out_are_counted_from_one() -> None:
    lists = {"boxes": corners(60), "labels": whole(60, 1, 81, "int64"), "scores": shares(60)}
    assert {head.ids for head in named(lists, labels=COCO, family="ssd")} == {tuple(range(1, 81))}
    assert named(lists | {"labels": whole(60, 12, 91, "int64")}, labels=COCO) == []
    rows = objects("box", "score", "class", classes=(12, 13))
    rows[:, 1, 5] = 85
    assert found(rows, labels=COCO) == []


def test_rows_of_tensorflows_efficientdet_are_counted_from_one() -> None:
    rows = objects("picture", "box", "score", "class", classes=(3, 8))
    (head,) = named({"detections:0": rows}, labels=COCO, tensorflow=True)
    assert (head.columns, head.boxes, head.ids) == ("box-score-class", "yxyx", COCO91)
    (head,) = named({"detections:0": rows}, labels=9, tensorflow=True)
    assert head.ids == tuple(range(1, 10))
    rows[:, 0, 6] = 0
    assert named({"detections:0": rows}, labels=9, tensorflow=True)[0].ids == ()
    assert one(rows, labels=9).ids == ()


def test_names_tell_the_columns_of_rows_that_hold_nothing() -> None:
    nothing = np.zeros((2, 60, 7), np.float32)
    assert named({"graph2_flat_predictions": nothing})[0].columns == "box-score-class"
    (head,) = named({"detections:0": nothing}, tensorflow=True)
    assert (head.columns, head.boxes) == ("box-score-class", "yxyx")
    assert named({"batchno_classid_score_x1y1x2y2": nothing})[0].columns == "class-score-box"
    assert named({"output": nothing})[0].columns == ""


def listing(count: np.ndarray, low: int = 1, high: int = 4, kind: str = "int64") -> dict[str, np.ndarray]:
    """Suppression's outputs, with a number of objects."""
    return {
        "num_dets": count,
        "det_boxes": corners(60),
        "det_scores": shares(60),
        "det_classes": whole(60, low, high, kind),
    }


def test_a_whole_number_of_objects_stands_beside_classes_from_nought() -> None:
    for count in (np.full((2, 1), 60, np.int32), np.full((2, 1), 60)):
        assert [head.family for head in named(listing(count))] == ["nms"]
        assert [head.family for head in named(listing(count, 1, 6))] == ["ssd"]  # as seen
        assert [head.family for head in named(listing(count), family="ssd")] == ["ssd"]
    assert [head.family for head in named(listing(np.full((2, 1), 60, np.float32)))] == ["ssd", "nms"]


def test_classes_of_object_detection_are_counted_from_one() -> None:
    outputs = tensorflow(1, 4, 6)
    assert [head.family for head in named(outputs)] == ["ssd"]
    assert [head.family for head in named(outputs, family="nms")] == ["nms"]
    assert [head.family for head in named(tensorflow(0, 4, 6))] == ["nms"]


def test_lists_may_be_filled_with_minus_one() -> None:
    lists = listing(np.full((2, 1), 10, np.int64), 0, 5)
    for name in ("det_boxes", "det_scores", "det_classes"):
        lists[name][:, 10:] = -1
    (head,) = named(lists)
    assert (head.family, head.boxes, head.normalised) == ("nms", "xyxy", False)
    lists["det_scores"][:] = -1
    assert [head.family for head in named(lists)] == ["nms"]
    lists["det_scores"][:, 0] = -0.5
    assert named(lists) == []


def test_rows_of_caffe_are_counted_from_one() -> None:
    rows = objects("picture", "class", "score", "box", classes=(2, 5))
    assert one(rows).ids == ()  # in pixels: of no Caffe's
    rows[:, :, 3:] /= SIZE
    head = one(rows[:, None])
    assert (head.columns, head.ids) == ("class-score-box", (1, 2, 3, 4, 5))
    rows[:, 0, 1] = 0
    assert one(rows[:, None]).ids == ()
    assert one(objects("class", "score", "box", classes=(2, 5))).ids == ()  # PaddleDetection's


def test_a_box_and_its_best_class_in_each_cell_are_not_suppressed_yet() -> None:
    centred = on_grid(2100)
    half = centred[:, :, 2:] / 2
    lists = {"boxes": centred, "scores": shares(2100), "class_idx": whole(2100, 1, 4)}
    for boxes, form in ((centred, "cxcywh"), (join(centred[:, :, :2] - half, centred[:, :, :2] + half), "xyxy")):
        (head,) = named(lists | {"boxes": boxes})
        assert (head.family, head.ids, head.boxes, head.strides) == ("nms", (), form, (8, 16, 32))
        (head,) = named(lists | {"boxes": boxes / SIZE})
        assert (head.normalised, head.strides) == (True, (8, 16, 32))
    for others in (named(lists | {"boxes": corners(2100)}), named({key: each[:, :300] for key, each in lists.items()})):
        assert [(head.family, head.strides) for head in others] == [("ssd", ()), ("nms", ())]

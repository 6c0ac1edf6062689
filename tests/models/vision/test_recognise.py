"""Families told apart by the shapes of their outputs and what is in them, whatever the tensors are called."""

from __future__ import annotations

import numpy as np
import pytest

from models.vision.heads.candidates import Spec
from models.vision.heads.families import FAMILIES, decoder
from models.vision.heads.lists import COCO91
from models.vision.heads.outputs import Outputs
from models.vision.heads.recognise import recognise
from models.vision.heads.unread import explain
from models.vision.specs import Head, Picture
from streams.cli.vision_options import FAMILIES as OFFERED

SIZE = 320
CELLS = {(8, 16, 32): 2100, (8, 16, 32, 64): 2125}
random = np.random.default_rng(0)
COCO = tuple(f"n{each}" for each in range(80))
COCO = ("person", *COCO[1:16], "dog", *COCO[17:])


def shares(*shape: int) -> np.ndarray:
    return random.random((2, *shape)).astype(np.float32)


def logits(*shape: int) -> np.ndarray:
    return random.normal(0, 3, (2, *shape)).astype(np.float32)


def pixels(count: int) -> np.ndarray:
    return random.uniform(5, SIZE, (2, count, 4)).astype(np.float32)


def corners(count: int) -> np.ndarray:
    low = random.uniform(0, 200, (2, count, 2))
    return np.concatenate((low, low + random.uniform(5, 90, (2, count, 2))), axis=2).astype(np.float32)


def softmaxed(*shape: int) -> np.ndarray:
    raised = np.exp(logits(*shape))
    return (raised / raised.sum(axis=-1, keepdims=True)).astype(np.float32)


def whole(count: int, low: int, high: int, dtype: str = "float32") -> np.ndarray:
    """Every number from low to below high is among them."""
    return np.resize(np.arange(low, high), (2, count)).astype(dtype)


def join(*parts: np.ndarray) -> np.ndarray:
    return np.concatenate([part[..., None] if part.ndim == 2 else part for part in parts], axis=2)


def on_grid(count: int) -> np.ndarray:
    """Boxes of pixels that stand where the grids' cells are."""
    points = [((x + 0.5) * s, (y + 0.5) * s) for s in (8, 16, 32) for y in range(SIZE // s) for x in range(SIZE // s)]
    centres = np.tile(np.array(points[:count], np.float32), (2, 1, 1)) + logits(count, 2)
    return np.concatenate((centres, random.uniform(5, 99, (2, count, 2))), axis=2).astype(np.float32)


def found(*arrays: np.ndarray, labels: tuple[str, ...] | int = 5, **said: str) -> list[Head]:
    return named({f"{place * 7919 % 97}": array for place, array in enumerate(arrays)}, labels, **said)


def named(tensors: dict[str, np.ndarray], labels: tuple[str, ...] | int = 5, **said: str | bool | None) -> list[Head]:
    names = tuple(f"l{each}" for each in range(labels)) if isinstance(labels, int) else labels
    return recognise(Outputs.of(tensors, Picture(SIZE, SIZE), names, **said))  # type: ignore[arg-type]


def one(*arrays: np.ndarray, labels: tuple[str, ...] | int = 5) -> Head:
    heads = found(*arrays, labels=labels)
    assert len(heads) == 1, [head.family for head in heads]
    return heads[0]


def test_yolox_with_its_grid_and_without() -> None:
    raw = one(join(logits(2100, 4), shares(2100, 6)))
    assert (raw.family, raw.decoded, raw.strides) == ("yolox", False, (8, 16, 32))
    decoded = one(join(on_grid(2100), shares(2100, 6)))
    assert (decoded.family, decoded.decoded) == ("yolox", True)
    assert one(join(on_grid(2100), np.ones((2, 2100, 1)), shares(2100, 5))).family == "yolov6"
    maps = [np.concatenate((logits(4, side, side), shares(6, side, side)), axis=1) for side in (10, 40, 20)]
    apart = one(*maps)
    assert (apart.family, apart.strides) == ("yolox", (8, 16, 32))
    assert [maps[place].shape[2] for place in places(apart)] == [40, 20, 10]


def places(head: Head) -> list[int]:
    names = [f"{place * 7919 % 97}" for place in range(9)]
    return [names.index(name) for name in head.tensors]


def test_yolov5_beside_its_raw_maps() -> None:
    rows = join(pixels(6300), shares(6300, 6))
    head = one(rows, logits(3, 40, 40, 10), logits(3, 20, 20, 10))
    assert (head.family, places(head)) == ("yolov5", [0])
    assert one(join(pixels(6300), shares(6300, 2)), labels=1).family == "yolov5"  # six columns, but no lists


@pytest.mark.parametrize("labels", [1, 2, 5, 80])
def test_yolov8_either_way_round(labels: int) -> None:
    rows = join(pixels(2100), shares(2100, labels))
    head = one(np.ascontiguousarray(rows.swapaxes(1, 2)), labels=labels)
    assert (head.family, head.transposed, head.normalised) == ("yolov8", False, False)
    head = one(rows, labels=labels)
    assert (head.family, head.transposed) == ("yolov8", True)


def test_corners_beside_scores_are_no_centres() -> None:
    for rows in (join(corners(2100), shares(2100, 5)), columns(join(corners(2100), shares(2100, 5)))):
        assert (one(rows).family, one(rows).boxes) == ("yolov8", "xyxy")
    assert one(join(corners(6300), shares(6300, 6))).boxes == "xyxy"
    for rows in (join(on_grid(2100), shares(2100, 5)), join(pixels(6300), shares(6300, 6))):
        assert one(rows).boxes == "cxcywh"


def test_end_to_end_of_six_and_seven_columns() -> None:
    head = one(join(corners(300), shares(300), whole(300, 0, 5)))
    assert (head.family, head.boxes, head.normalised) == ("end2end", "xyxy", False)
    assert one(join(whole(40, 0, 1), corners(40), whole(40, 0, 5), shares(40))).family == "end2end"
    padded = join(corners(300), shares(300), whole(300, 0, 5))
    padded[:, 3:] = 0
    assert not one(padded).normalised
    for labels in (1, 2):
        assert one(join(corners(300), shares(300), whole(300, 0, labels)), labels=labels).family == "end2end"


def saying_nothing(logits: np.ndarray) -> np.ndarray:
    """The last column is the largest of four queries in five, as DETR's is."""
    logits[:, :80, -1] = 20
    return logits


def test_a_column_more_of_sigmoids_is_a_question() -> None:
    boxes = shares(100, 4) * 0.4
    scores = logits(100, 6) - 3
    heads = found(scores, boxes)
    assert [(head.family, head.activation) for head in heads] == [("detr", "softmax"), ("rtdetr", "sigmoid")]
    assert heads[1].ids == tuple(range(5))
    for array, activation in ((saying_nothing(scores), "sigmoid"), (softmaxed(100, 6), "none")):
        assert one(array, boxes).family == "detr"
        (head,) = found(array, boxes, family="rtdetr")
        assert (head.family, head.activation, head.ids) == ("rtdetr", activation, tuple(range(5)))
    assert [head.family for head in found(shares(100, 6), boxes)] == ["detr", "rtdetr"]
    assert found(logits(100, 92), boxes, labels=COCO, family="rtdetr")[0].ids == COCO91


def test_rf_detr_is_known_by_its_names() -> None:
    for scores in (logits(100, 6), saying_nothing(logits(100, 6))):
        tensors = {"dets": shares(100, 4) * 0.4, "labels": scores}
        (head,) = named(tensors)
        assert (head.family, head.tensors, head.ids) == ("rtdetr", ("labels", "dets"), tuple(range(5)))
        assert [each.family for each in named(tensors, family="detr")] == ["detr"]


def test_detr_has_a_column_more_than_labels_and_rtdetr_has_not() -> None:
    boxes = shares(100, 4) * 0.4
    head = one(saying_nothing(logits(100, 6)), boxes)
    assert (head.family, head.activation, places(head)) == ("detr", "softmax", [0, 1])
    head = one(boxes, logits(100, 5))
    assert (head.family, head.activation, places(head)) == ("rtdetr", "sigmoid", [1, 0])
    head = one(join(boxes, shares(100, 5)))
    assert (head.family, head.normalised) == ("rtdetr", True)
    assert one(logits(100, 92), boxes, labels=COCO).ids == COCO91
    assert one(logits(100, 91), boxes, labels=COCO).ids == COCO91


def test_queries_that_each_have_the_whole_picture_are_told_from_corners_by_their_name() -> None:
    boxes = np.tile(np.array([0.5, 0.5, 0.9, 0.9], np.float32), (2, 100, 1))
    for columns, family in ((saying_nothing(logits(100, 6)), "detr"), (logits(100, 5), "rtdetr")):
        heads = named({"logits": columns, "pred_boxes": boxes})
        assert [(head.family, head.boxes) for head in heads] == [(family, "cxcywh")]
        assert [head.boxes for head in named({"scores": columns, "boxes": boxes})] == ["xyxy"]


def test_faces_of_manyplaces() -> None:
    head = one(softmaxed(4420, 2), corners(4420) / SIZE, labels=1)
    assert (head.family, head.ids, head.activation, head.boxes, head.normalised) == (
        "dense",
        (1,),
        "none",
        "xyxy",
        True,
    )
    assert one(logits(4420, 2), corners(4420) / SIZE, labels=1).activation == "softmax"
    assert found(softmaxed(4420, 2), logits(4420, 4), labels=1) == []  # offsets from priors that are not in the file


def test_fastestdet() -> None:
    classes = softmaxed(20, 20, 5).transpose(0, 3, 1, 2)
    head = one(np.concatenate((shares(1, 20, 20), logits(4, 20, 20), classes), axis=1))
    assert (head.family, head.normalised) == ("fastestdet", True)


@pytest.mark.parametrize(("strides", "offset"), [((8, 16, 32), 0.5), ((8, 16, 32, 64), 0.0)])
def test_distances_in_one_tensor_and_in_many(strides: tuple[int, ...], offset: float) -> None:
    head = one(join(shares(CELLS[strides], 5), logits(CELLS[strides], 32)))
    assert (head.family, head.strides, head.offset, head.activation) == ("gfl", strides, offset, "none")
    cells = [(SIZE // stride) ** 2 for stride in strides]
    parts = [part for count in cells for part in (logits(count, 64), logits(count, 5))]
    head = one(*parts[::-1])
    assert (head.family, head.strides, head.activation) == ("gfl", strides, "sigmoid")
    order = places(head)
    assert [parts[::-1][place].shape[1:] for place in order] == [(n, k) for n in cells for k in (5, 64)]
    sides = [SIZE // stride for stride in strides]
    maps = [part for side in sides for part in (shares(5, side, side), logits(32, side, side))]
    assert (one(*maps).family, one(*maps).activation) == ("gfl", "none")
    assert one(*[join(shares(count, 5), logits(count, 32)) for count in cells]).family == "gfl"


def as_maps(rows: np.ndarray) -> np.ndarray:
    side = int(rows.shape[1] ** 0.5)
    return rows.swapaxes(1, 2).reshape(2, -1, side, side)


def split(rows: np.ndarray, boxes: int = 1) -> list[np.ndarray]:
    """Of the strides 8, 16 and 32, the last first."""
    return np.split(rows, [1600 * boxes, 2000 * boxes], axis=1)[::-1]


def columns(rows: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(rows.swapaxes(1, 2))


def test_rows_of_each_stride_are_read_together() -> None:
    boxes = join(on_grid(2100), shares(2100, 5))
    for turn, transposed in ((np.array, True), (columns, False), (as_maps, False)):
        head = one(*map(turn, split(boxes)))
        assert (head.family, head.transposed, places(head)) == ("yolov8", transposed, [2, 1, 0])
    for turn in (np.array, as_maps):
        head = one(*map(turn, split(join(logits(2100, 4), shares(2100, 6)))))
        assert (head.family, head.decoded, head.strides, places(head)) == ("yolox", False, (8, 16, 32), [2, 1, 0])
    head = one(*split(join(pixels(6300), shares(6300, 6)), boxes=3))
    assert (head.family, places(head)) == ("yolov5", [2, 1, 0])


def test_distances_and_scores_of_each_stride_in_one_tensor() -> None:
    rows = join(shares(2100, 5), logits(2100, 32))
    for turn in (np.array, columns, as_maps):
        head = one(*map(turn, split(rows)))
        assert (head.family, head.activation, head.strides, places(head)) == ("gfl", "none", (8, 16, 32), [2, 1, 0])
    noes = join(logits(2100, 5) - 15, logits(2100, 32))
    assert one(*map(as_maps, split(noes))).activation == "sigmoid"


def test_boxes_and_more_scores_than_labels_are_no_distances() -> None:
    one_more = {"yolox": join(logits(2100, 4), shares(2100, 17)), "yolov8": join(on_grid(2100), shares(2100, 21))}
    segments = join(on_grid(2100), shares(2100, 5), logits(2100, 32))
    for rows, labels in ((one_more["yolox"], 5), (one_more["yolox"], 1), (one_more["yolov8"], 5), (segments, 5)):
        assert found(rows, labels=labels) == []
    assert found(join(on_grid(2100), shares(2100, 1), logits(2100, 32)), labels=1) == []
    normalised = np.clip(on_grid(2100) / SIZE, 0, 1)
    assert found(join(normalised, shares(2100, 1), logits(2100, 32)), labels=1) == []
    assert found(join(on_grid(2100), logits(2100, 200) - 15, logits(2100, 32)), labels=200) == []
    assert found(join(shares(2100, 2), logits(2100, 2), shares(2100, 17)), labels=1) == []  # YOLOX of 16 classes
    assert found(*split(join(logits(2100, 32), shares(2100, 5)))) == []  # YOLOv8's grids: distances first
    assert found(*split(join(logits(2100, 32), logits(2100, 5) - 15))) == []
    assert [head.family for head in found(segments, family="gfl")] == ["gfl"]


@pytest.mark.parametrize("turned", [False, True])
def test_scores_and_boxes_of_one_width_are_told_apart_by_what_they_hold(turned: bool) -> None:
    cases = (
        ("dense", shares(2100, 4), corners(2100), 4),
        ("dense", logits(2100, 4) - 8, pixels(2100), 4),
        ("dense", shares(2100, 4), corners(2100) / SIZE, 4),
        ("rtdetr", logits(300, 4) - 5, shares(300, 4) * 0.4, 4),
        ("rtdetr", logits(300, 4) * 0.1 - 1, shares(300, 4) * 0.4, 4),
        ("detr", softmaxed(100, 4), shares(100, 4) * 0.4, 3),
    )
    for family, scores, boxes, labels in cases:
        head = one(*((boxes, scores) if turned else (scores, boxes)), labels=labels)
        assert (head.family, places(head)) == (family, [1, 0] if turned else [0, 1])
    for scores in (shares, lambda *shape: logits(*shape) - 15):
        pairs = [(scores(count, 32), logits(count, 32)) for count in (1600, 400, 100)]
        head = one(*(part for pair in pairs for part in (pair[::-1] if turned else pair)), labels=32)
        assert head.family == "gfl"
        assert places(head) == ([1, 0, 3, 2, 5, 4] if turned else [0, 1, 2, 3, 4, 5])


def test_scores_and_boxes_that_look_alike_are_told_apart_by_their_names_or_not_at_all() -> None:
    scores, boxes = shares(300, 4), shares(300, 4) * 0.4
    for first, second in (("pred_boxes", "out"), ("out", "pred_logits"), ("boxes", "scores")):
        heads = named({first: boxes, second: scores}, 4)
        assert [(head.family, head.tensors) for head in heads] == [("rtdetr", (second, first))]
    assert len(named({"box_scores": boxes, "out": scores}, 4)) == 2
    alike = {"a": boxes, "b": scores}
    assert [head.tensors for head in named(alike, 4)] == [("b", "a"), ("a", "b")]
    assert [head.tensors for head in named(alike, 4, ordered=True)] == [("a", "b")]
    levels = {f"{kind}{count}": logits(count, 32) for count in (1600, 400, 100) for kind in "ab"}
    order = ("a1600", "b1600", "a400", "b400", "a100", "b100")
    assert [head.tensors for head in named(levels, 32)] == [order, ("b1600", "a1600", "b400", "a400", "b100", "a100")]
    assert [head.tensors for head in named(levels, 32, ordered=True)] == [order]
    turned = {name: levels[name] for name in sorted(levels, reverse=True)}  # all b, then all a
    expected = ("b1600", "a1600", "b400", "a400", "b100", "a100")
    assert [head.tensors for head in named(turned, 32, ordered=True)] == [expected]


def test_two_outputs_that_fit_one_family_are_two_answers() -> None:
    boxes = shares(100, 4) * 0.4
    tensors = {"aux_l": logits(100, 5), "aux_b": boxes, "l": logits(100, 5), "b": boxes}
    assert {head.tensors for head in named(tensors)} == {(l, b) for l in ("aux_l", "l") for b in ("aux_b", "b")}  # noqa: E741
    assert [head.tensors for head in named({"l": tensors["l"], "b": boxes}, ordered=True)] == [("l", "b")]
    rows = join(on_grid(2100), shares(2100, 6))
    assert [places(head) for head in found(rows, rows)] == [[0], [1]]


def test_logits_are_yolov8s_where_that_is_said() -> None:
    rows = columns(join(on_grid(2100), logits(2100, 5)))
    assert found(rows) == []
    for said in ({"family": "yolov8"}, {"activation": "sigmoid"}):
        (head,) = found(rows, **said)
        assert (head.family, head.activation) == ("yolov8", "sigmoid")


def test_two_classes_that_nothing_is_of_are_a_question() -> None:
    rows = join(on_grid(2100), np.zeros((2, 2100, 2), np.float32))
    assert {head.family for head in found(rows, labels=2)} == {"yolov8", "end2end"}


def test_what_is_of_no_family_is_none() -> None:
    assert found(logits(5)) == []
    assert found(logits(2100, 78)) == []
    assert found(logits(3, 224, 224)) == []
    assert found() == []


@pytest.mark.parametrize(
    ("arrays", "labels", "sentence"),
    [
        ([logits(3, 40, 40, 10), logits(3, 20, 20, 10), logits(3, 10, 10, 10)], 5, "like YOLOv5's grids without their"),
        ([logits(30, 40, 40), logits(30, 20, 20), logits(30, 10, 10)], 5, "like YOLOv5's grids without their decoding"),
        ([logits(37, side, side) for side in (40, 20, 10)], 5, "is the number of labels right?"),
        (split(join(logits(2100, 32), shares(2100, 5))), 5, "like YOLOv8's grids without their decoding, distances"),
        (
            [columns(join(pixels(2100), shares(2100, 5), logits(2100, 32))), shares(32, 80, 80)],
            5,
            "segmentation",
        ),
        ([join(pixels(300), shares(300), whole(300, 0, 5), logits(300, 32)), shares(32, 80, 80)], 5, "segmentation, m"),
        ([columns(join(pixels(2100), shares(2100, 1), logits(2100, 51)))], 1, "YOLOv8's pose, key points"),
        ([shares(5)], 5, "they hold no boxes: a classifier is added with --task classify"),
        ([shares(5, 160, 160)], 5, "maps of scores, such as a segmentation's: export a network that only detects"),
        ([shares(21, 320, 320)], 5, "maps of scores, such as a segmentation's"),
        ([shares(5, 80, 80), logits(2, 80, 80), logits(2, 80, 80)], 5, "as CenterNet and FCOS have them: export"),
        ([logits(40, 40, 3, 10), logits(20, 20, 3, 10), logits(10, 10, 3, 10)], 5, "like YOLOv5's grids without their"),
        ([logits(50, 10, 10)], 5, "like YOLOv5's grids without their decoding"),
        ([logits(10, 10, 50)], 5, "like YOLOv5's grids without their decoding"),
        ([logits(896, 16), logits(896, 1)], 1, "scores and offsets from places that are in no output"),
        ([softmaxed(4420, 2), logits(4420, 4)], 1, "scores and offsets from places that are in no output"),
        ([softmaxed(4420, 7), corners(4420)], 5, "is the number of labels right? (it may be 6 or 7)"),
        ([columns(join(pixels(2100), logits(2100, 5)))], 5, "say --family yolov8 --activation sigmoid"),
        ([columns(join(pixels(2100), shares(2100, 80)))], 79, "is the number of labels right? (it may be 80)"),
        ([join(logits(2100, 4), shares(2100, 92))], 80, "is the number of labels right? (it may be 91 or 92)"),
        ([join(on_grid(2100), shares(2100, 96))], 80, "is the number of labels right? (it may be 95 or 96)"),
    ],
)
def test_what_is_not_read_is_said(arrays: list[np.ndarray], labels: int, sentence: str) -> None:
    names = tuple(f"l{each}" for each in range(labels))
    tensors = {str(place): array for place, array in enumerate(arrays)}
    assert found(*arrays, labels=labels) == []
    assert sentence in explain(Outputs.of(tensors, Picture(SIZE, SIZE), names))


def test_every_family_can_be_typed_and_read() -> None:
    assert tuple(FAMILIES) == OFFERED
    for family in FAMILIES:
        decoder(Spec(Picture(64, 64), Head(family, strides=(8,)), 3))

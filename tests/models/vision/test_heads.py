"""Each family's decoder, with suppression and the way back to the source, beside the plain one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from models.vision.detector import Detector
from models.vision.heads.lists import COCO91
from models.vision.specs import Head
from tests.models.vision import plain, plain_heads
from tests.models.vision.manifests import detector

SIZE = (96, 64)
LABELS = 4
PICTURES = 3
FLOOR, IOU = 0.3, 0.45
STRIDES = (8, 16, 32)
CELLS = sum((SIZE[0] // s) * (SIZE[1] // s) for s in STRIDES)
PLACEMENT = np.array([0.5, 0.8, 4.0, -3.0], np.float32)
SOURCE = (180, 75)

Outputs = tuple[np.ndarray, ...]
random = np.random.default_rng


def probabilities(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Mostly small, some large, no two alike."""
    return (random(seed).random(shape) ** 3).astype(np.float32)


def centres(count: int, seed: int) -> np.ndarray:
    make = random(seed)
    places = make.uniform(0, SIZE, (PICTURES, count, 2))
    return np.concatenate((places, make.uniform(4, 50, (PICTURES, count, 2))), axis=2).astype(np.float32)


def cornered(count: int, seed: int) -> np.ndarray:
    boxes = centres(count, seed)
    return np.concatenate((boxes[:, :, :2] - boxes[:, :, 2:] / 2, boxes[:, :, :2] + boxes[:, :, 2:] / 2), axis=2)


def check(
    head: Head, outputs: Outputs, read: Callable[[Outputs], Sequence[plain.Box]], suppresses: bool = True
) -> None:
    """Decoded together, and taken back to the source, it is what the plain way finds for each picture."""
    names = tuple(f"out{place}" for place in range(len(outputs)))
    head = Head(**{field: getattr(head, field) for field in head.__struct_fields__} | {"tensors": names})
    manifest = detector(head, LABELS, SIZE, tuple((name, (-1, -1)) for name in names))
    reader = Detector(manifest, FLOOR, IOU, max_objects=1000)
    placements = np.tile(PLACEMENT, (PICTURES, 1))
    sizes = np.tile(SOURCE, (PICTURES, 1))
    found = reader.decode(dict(zip(names, outputs, strict=True)), placements, sizes)
    total = 0
    for picture in range(PICTURES):
        boxes = read(tuple(each[picture].astype(np.float64) for each in outputs))
        moved = [_moved(box) for box in boxes]
        seen = [
            box
            for box, cut in zip(moved, plain.clip(moved, *SOURCE), strict=True)
            if cut[2] > cut[0] and cut[3] > cut[1]
        ]
        kept = plain.suppress(seen, IOU) if suppresses else sorted(seen, key=lambda box: -box[4])
        expected = np.array(plain.clip(kept, *SOURCE)).reshape(-1, 6)
        got = found[picture][found[picture][:, 5] >= 0]
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-3)
        total += len(expected)
        assert len(expected) < len(boxes) or not suppresses
    assert total >= 10
    assert (found[:, total:, :5] == 0).all()


def _moved(box: plain.Box) -> plain.Box:
    (scale_x, scale_y, offset_x, offset_y), (x1, y1, x2, y2) = PLACEMENT.astype(float).tolist(), box[:4]
    xs, ys = [(x - offset_x) / scale_x for x in (x1, x2)], [(y - offset_y) / scale_y for y in (y1, y2)]
    return (xs[0], ys[0], xs[1], ys[1], box[4], box[5])


def objectness_rows(count: int, seed: int) -> np.ndarray:
    scores = probabilities((PICTURES, count, 1 + LABELS), seed) ** 0.3
    return np.concatenate((centres(count, seed), scores), axis=2).astype(np.float32)


def raw_rows(seed: int) -> np.ndarray:
    rows = objectness_rows(CELLS, seed)
    rows[:, :, :4] = random(seed).normal(0.3, 0.7, (PICTURES, CELLS, 4))
    return rows


@pytest.mark.parametrize("family", ["yolov5", "yolov6", "yolox"])
def test_objectness_decoded(family: str) -> None:
    check(Head(family), (objectness_rows(300, 1),), lambda each: plain_heads.yolox(each, FLOOR, SIZE))


def test_yolox_without_its_grid() -> None:
    read = lambda each: plain_heads.yolox(each, FLOOR, SIZE, STRIDES)  # noqa: E731
    rows = raw_rows(2)
    check(Head("yolox", decoded=False, strides=STRIDES), (rows,), read)
    maps, parts, start = [], [], 0
    for stride in STRIDES:
        shape = (SIZE[1] // stride, SIZE[0] // stride)
        part = rows[:, start : (start := start + shape[0] * shape[1])]
        maps.append(part.swapaxes(1, 2).reshape(PICTURES, -1, *shape))
        parts.append(part)
    check(Head("yolox", decoded=False, strides=STRIDES), tuple(parts), lambda each: read((np.concatenate(each),)))
    check(
        Head("yolox", decoded=False, strides=STRIDES),
        tuple(maps),
        lambda each: read((np.concatenate([level.reshape(5 + LABELS, -1).T for level in each]),)),
    )


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_yolov8_either_way_round(dtype: str) -> None:
    scores = probabilities((PICTURES, 400, LABELS), 3)
    rows = np.concatenate((centres(400, 3), scores), axis=2).astype(dtype)
    read = lambda each: plain_heads.yolov8(each, FLOOR)  # noqa: E731
    check(Head("yolov8"), (np.ascontiguousarray(rows.swapaxes(1, 2)),), read)
    check(Head("yolov8", transposed=True), (rows,), lambda each: read((each[0].T,)))


def test_yolov8_of_each_stride() -> None:
    rows = np.concatenate((centres(400, 3), probabilities((PICTURES, 400, LABELS), 3)), axis=2)
    parts = np.split(rows, [300, 380], axis=1)
    read = lambda each: plain_heads.yolov8((np.concatenate(each).T,), FLOOR)  # noqa: E731
    check(Head("yolov8", transposed=True), tuple(parts), read)
    turned = tuple(part.swapaxes(1, 2) for part in parts)
    check(Head("yolov8"), turned, lambda each: plain_heads.yolov8((np.concatenate(each, axis=1),), FLOOR))
    maps = tuple(part.reshape(PICTURES, 4 + LABELS, -1, 4) for part in turned)
    flat = lambda each: [level.reshape(len(level), -1) for level in each]  # noqa: E731
    check(Head("yolov8"), maps, lambda each: plain_heads.yolov8((np.concatenate(flat(each), axis=1),), FLOOR))


def test_yolov8_in_shares_and_with_logits() -> None:
    rows = np.concatenate((centres(200, 4), random(4).normal(-1, 2, (PICTURES, 200, LABELS))), axis=2).astype(
        np.float32
    )
    shares = rows.copy()
    shares[:, :, :4] /= [*SIZE, *SIZE]

    def read(each: Outputs) -> list[plain.Box]:
        columns = each[0].T.copy()
        columns[:, :4] *= [*SIZE, *SIZE]
        columns[:, 4:] = 1 / (1 + np.exp(-columns[:, 4:]))
        return plain_heads.yolov8((columns.T,), FLOOR)

    check(Head("yolov8", activation="sigmoid", normalised=True), (shares.swapaxes(1, 2),), read)


def test_fastestdet() -> None:
    logits = random(5).normal(0, 1.5, (PICTURES, LABELS, 8, 12))
    classes = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    boxes = random(6).normal(0, 1, (PICTURES, 4, 8, 12))
    output = np.concatenate((probabilities((PICTURES, 1, 8, 12), 5), boxes, classes), axis=1).astype(np.float32)
    check(Head("fastestdet", normalised=True), (output,), lambda each: plain_heads.fastestdet(each, FLOOR, SIZE))


def queries(columns: int, seed: int) -> Outputs:
    boxes = centres(100, seed) / [*SIZE, *SIZE]
    return random(seed).normal(-1, 2, (PICTURES, 100, columns)).astype(np.float32), boxes.astype(np.float32)


def test_detr_with_a_column_for_no_object() -> None:
    head = Head("detr", activation="softmax", normalised=True)
    check(head, queries(LABELS + 1, 7), lambda each: plain_heads.detr(each, FLOOR, SIZE), suppresses=False)


def test_rtdetr_with_a_sigmoid_for_each_class() -> None:
    head = Head("rtdetr", activation="sigmoid", normalised=True)
    read = lambda each: plain_heads.rtdetr(each, FLOOR, SIZE)  # noqa: E731
    check(head, queries(LABELS, 8), read, suppresses=False)


def test_rtdetr_in_one_tensor() -> None:
    logits, boxes = queries(LABELS, 9)
    joined = np.concatenate((boxes, 1 / (1 + np.exp(-logits))), axis=2)
    read = lambda each: plain_heads.rtdetr((np.log(each[0][:, 4:] / (1 - each[0][:, 4:])), each[0][:, :4]), FLOOR, SIZE)  # noqa: E731
    check(Head("rtdetr", normalised=True), (joined,), read, suppresses=False)


@pytest.mark.parametrize("columns", [6, 7])
def test_end_to_end(columns: int) -> None:
    labels, scores = random(10).integers(0, LABELS, (PICTURES, 50, 1)), probabilities((PICTURES, 50, 1), 10)
    parts = [cornered(50, 10), scores, labels] if columns == 6 else [labels * 0, cornered(50, 10), labels, scores]
    output = np.concatenate(parts, axis=2).astype(np.float32)
    check(Head("end2end", boxes="xyxy"), (output,), lambda each: plain_heads.end2end(each, FLOOR), suppresses=False)


@pytest.mark.parametrize(("family", "first", "dtype"), [("ssd", 1, "int64"), ("nms", 0, "float32")])
def test_lists(family: str, first: int, dtype: str) -> None:
    labels = random(11).integers(0, LABELS + first, (PICTURES, 40)).astype(dtype)
    outputs = cornered(40, 11), labels, probabilities((PICTURES, 40), 11)
    head = Head(family, ids=tuple(range(first, LABELS + first)), boxes="xyxy")
    check(head, outputs, lambda each: plain_heads.ssd(each, FLOOR, first), suppresses=False)


def test_lists_that_say_how_long_they_are_in_tensorflow_order() -> None:
    labels, scores = random(12).integers(1, LABELS + 1, (PICTURES, 40)), probabilities((PICTURES, 40), 12)
    counts = np.array([[40], [7], [20]], np.float32)
    boxes = cornered(40, 12)[:, :, [1, 0, 3, 2]] / [SIZE[1], SIZE[0], SIZE[1], SIZE[0]]

    def read(each: Outputs) -> list[plain.Box]:
        corners = (each[0] * [SIZE[1], SIZE[0], SIZE[1], SIZE[0]])[:, [1, 0, 3, 2]]
        count = int(each[3][0])
        return plain_heads.ssd((corners[:count], each[1][:count], each[2][:count]), FLOOR, 1)

    head = Head("ssd", ids=(1, 2, 3, 4), boxes="yxyx", normalised=True)
    check(head, (boxes.astype(np.float32), labels.astype(np.float32), scores, counts), read, suppresses=False)


def test_lists_with_scores_beside_the_boxes() -> None:
    scores, labels = probabilities((PICTURES, 40, 1), 13), random(13).integers(0, LABELS, (PICTURES, 40))
    outputs = np.concatenate((cornered(40, 13), scores), axis=2), labels
    read = lambda each: plain_heads.ssd((each[0][:, :4], each[1], each[0][:, 4]), FLOOR, 0)  # noqa: E731
    check(Head("nms", boxes="xyxy"), outputs, read, suppresses=False)


@pytest.mark.parametrize("activation", ["none", "softmax"])
def test_scores_and_boxes_of_many_places(activation: str) -> None:
    logits = random(14).normal(0, 2, (PICTURES, 1500, LABELS + 1))
    shares = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    boxes = (cornered(1500, 14) / [*SIZE, *SIZE]).astype(np.float32)
    head = Head("dense", ids=(1, 2, 3, 4), boxes="xyxy", normalised=True, activation=activation)
    scores = (shares if activation == "none" else logits).astype(np.float32)

    def read(each: Outputs) -> list[plain.Box]:
        if activation == "softmax":
            each = (np.array([plain.softmax(row) for row in each[0].tolist()]), each[1])
        # Background counts when a place's best class is sought among the others: it is not one of them.
        return plain_heads.dense(each, FLOOR, SIZE)

    check(head, (scores, boxes), read)


def levels(seed: int, bins: int, strides: tuple[int, ...]) -> list[np.ndarray]:
    found = []
    for stride in strides:
        cells = (SIZE[1] // stride) * (SIZE[0] // stride)
        found.append(random(seed).normal(-1.5, 1.5, (PICTURES, cells, LABELS)).astype(np.float32))
        found.append(random(seed + 1).normal(0, 2, (PICTURES, cells, 4 * bins)).astype(np.float32))
    return found


@pytest.mark.parametrize("shape", ["rows", "columns", "maps"])
@pytest.mark.parametrize(("bins", "offset"), [(8, 0.5), (16, 0.5), (8, 0.0)])
def test_distances_of_each_stride(shape: str, bins: int, offset: float) -> None:
    parts = levels(15, bins, STRIDES)
    given = parts
    if shape == "columns":
        given = [part.swapaxes(1, 2) for part in parts]
    elif shape == "maps":
        sides = [(SIZE[1] // s, SIZE[0] // s) for s in STRIDES for _ in range(2)]
        given = [part.swapaxes(1, 2).reshape(PICTURES, -1, *side) for part, side in zip(parts, sides, strict=True)]

    def read(each: Outputs) -> list[plain.Box]:
        rows = tuple(part if shape == "rows" else part.reshape(len(part), -1).T for part in each)
        return plain_heads.gfl(rows, FLOOR, SIZE, STRIDES, offset, plain.sigmoid)

    head = Head("gfl", activation="sigmoid", boxes="xyxy", strides=STRIDES, offset=offset)
    check(head, tuple(given), read)


def test_distances_of_all_strides_in_one_tensor_or_one_for_each() -> None:
    parts = levels(16, 8, STRIDES)
    parts = [1 / (1 + np.exp(-part)) if place % 2 == 0 else part for place, part in enumerate(parts)]
    both = [np.concatenate(parts[place : place + 2], axis=2) for place in range(0, len(parts), 2)]
    head = Head("gfl", boxes="xyxy", strides=STRIDES, offset=0.0)

    def split(each: Outputs) -> Outputs:
        return tuple(half for level in each for half in (level[:, :LABELS], level[:, LABELS:]))

    check(head, tuple(both), lambda each: plain_heads.gfl(split(each), FLOOR, SIZE, STRIDES, 0.0))
    ends = np.cumsum([part.shape[1] for part in both])[:-1]
    check(
        head,
        (np.concatenate(both, axis=1),),
        lambda each: plain_heads.gfl(split(tuple(np.split(each[0], ends))), FLOOR, SIZE, STRIDES, 0.0),
    )


def test_distances_of_two_strides_in_one_tensor_for_each() -> None:
    parts = levels(16, 8, STRIDES[:2])
    parts = [1 / (1 + np.exp(-part)) if place % 2 == 0 else part for place, part in enumerate(parts)]
    both = [np.concatenate(parts[place : place + 2], axis=2) for place in range(0, len(parts), 2)]

    def split(each: Outputs) -> Outputs:
        return tuple(half for level in each for half in (level[:, :LABELS], level[:, LABELS:]))

    head = Head("gfl", boxes="xyxy", strides=STRIDES[:2], offset=0.0)
    check(head, tuple(both), lambda each: plain_heads.gfl(split(each), FLOOR, SIZE, STRIDES[:2], 0.0))


def test_strides_and_pictures_without_a_candidate_have_no_objects() -> None:
    parts = levels(17, 8, STRIDES)
    for scores in parts[::2]:
        scores[:] = -9
    parts[0][1, 5, 2] = 4  # one object, of the second picture and the first stride
    names = tuple(f"out{place}" for place in range(len(parts)))
    head = Head("gfl", names, activation="sigmoid", boxes="xyxy", strides=STRIDES)
    reader = Detector(detector(head, LABELS, SIZE, tuple((name, (-1, -1, -1)) for name in names)), FLOOR)
    placements, sizes = np.tile(np.array([1, 1, 0, 0], np.float32), (PICTURES, 1)), np.tile(SIZE, (PICTURES, 1))
    found = reader.decode(dict(zip(names, parts, strict=True)), placements, sizes)
    assert (found[:, :, 5] >= 0).sum(axis=1).tolist() == [0, 1, 0]
    parts[0][:] = -9
    assert (reader.decode(dict(zip(names, parts, strict=True)), placements, sizes)[:, :, 5] == -1).all()


def test_columns_are_labels_by_their_number() -> None:
    """COCO's 91 numbers have gaps: what stands in one is no label."""
    names = tuple(f"n{each}" for each in range(80))
    scores = np.zeros((1, 3, 91), np.float32)
    scores[0, 0, 13], scores[0, 1, 12], scores[0, 2, 90] = 0.9, 0.9, 0.8
    boxes = np.tile(np.array([0.1, 0.1, 0.4, 0.4], np.float32), (1, 3, 1))
    head = Head("rtdetr", ("scores", "boxes"), ids=COCO91, boxes="xyxy", normalised=True)
    reader = Detector(detector(head, names, SIZE, (("scores", (-1, 3, 91)), ("boxes", (-1, 3, 4)))), FLOOR)
    found = reader.decode({"scores": scores, "boxes": boxes}, np.array([[1, 1, 0, 0]], np.float32), np.array([SIZE]))
    assert found[0, :3, 5].tolist() == [11, 79, -1]


def test_objectness_of_logits_and_with_boxes_as_columns() -> None:
    rows = objectness_rows(300, 20)
    logits = rows.copy()
    logits[:, :, 4:] = np.log(rows[:, :, 4:] / (1 - rows[:, :, 4:]))
    read = lambda each: plain_heads.yolox(each, FLOOR, SIZE)  # noqa: E731
    turned = np.ascontiguousarray(rows.swapaxes(1, 2))
    check(Head("yolov5", transposed=True), (turned,), lambda each: read((each[0].T,)))

    def squashed(each: Outputs) -> list[plain.Box]:
        scores = 1 / (1 + np.exp(-each[0][:, 4:]))
        return read((np.concatenate((each[0][:, :4], scores), axis=1),))

    check(Head("yolov5", activation="sigmoid"), (logits,), squashed)


@pytest.mark.parametrize("columns", ["box-score-class", "box-class-score", "class-score-box"])
@pytest.mark.parametrize("picture", [False, True])
def test_rows_of_objects_in_any_order(columns: str, picture: bool) -> None:
    labels, scores = random(21).integers(0, LABELS, (PICTURES, 50, 1)), probabilities((PICTURES, 50, 1), 21)
    parts = {"box": cornered(50, 21), "score": scores, "class": labels}
    ordered = [labels * 0] * picture + [parts[name] for name in columns.split("-")]
    output = np.concatenate(ordered, axis=2).astype(np.float32)

    def read(each: Outputs) -> list[plain.Box]:
        place = columns.split("-").index("box") + picture
        rows = each[0]
        box = rows[:, place : place + 4]
        score, label = (
            rows[:, (columns.split("-").index(name) + picture) + (3 if columns.startswith("box") else 0)]
            for name in ("score", "class")
        )
        return plain_heads.end2end((np.column_stack((box, score, label)),), FLOOR)

    head = Head("end2end", boxes="xyxy", columns=columns)  # type: ignore[arg-type]
    check(head, (output,), read, suppresses=False)
    if picture:
        check(head, (output[:, None],), lambda each: read((each[0][0],)), suppresses=False)


def test_a_score_beyond_one_is_no_answer() -> None:
    rows = np.tile(np.array([4, 4, 20, 20, 0.9, 2], np.float32), (PICTURES, 5, 1))
    rows[1, 3, 4] = 2.0
    reader = Detector(detector(Head("end2end", ("out",), boxes="xyxy"), LABELS, SIZE, (("out", (-1, 6)),)), FLOOR, IOU)
    placements, sizes = np.tile(np.array([1, 1, 0, 0], np.float32), (PICTURES, 1)), np.tile(SIZE, (PICTURES, 1))
    found = reader.decode({"out": rows}, placements, sizes)
    assert np.isnan(found).all(axis=(1, 2)).tolist() == [False, True, False]
    assert found[0, 0].tolist() == pytest.approx([4, 4, 20, 20, 0.9, 2])


def test_scores_in_columns_and_of_one_class_alone() -> None:
    scores, boxes = probabilities((PICTURES, 1500, LABELS + 1), 22), cornered(1500, 22)
    boxes = (boxes / [*SIZE, *SIZE]).astype(np.float32)
    head = Head("dense", ids=(1, 2, 3, 4), boxes="xyxy", normalised=True, transposed=True)
    turned = np.ascontiguousarray(scores.swapaxes(1, 2))
    check(head, (turned, boxes), lambda each: plain_heads.dense((each[0].T, each[1]), FLOOR, SIZE))
    names = ("scores", "boxes")
    alone = Head("dense", names, boxes="xyxy", normalised=True)
    reader = Detector(detector(alone, 1, SIZE, tuple((name, (-1, -1)) for name in names)), FLOOR, IOU)
    placements, sizes = np.tile(np.array([1, 1, 0, 0], np.float32), (PICTURES, 1)), np.tile(SIZE, (PICTURES, 1))
    found = [
        reader.decode({"scores": given, "boxes": places}, placements, sizes)
        for given, places in ((scores[:, :, 0], boxes), (scores[:, :, :1], boxes), (scores[:, :, 0], boxes[:, :, None]))
    ]
    assert (found[0][:, :, 5] == 0).sum() > 10
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])


def test_distances_of_all_strides_beside_their_scores() -> None:
    parts = levels(23, 8, STRIDES)
    both = tuple(np.concatenate(parts[place::2], axis=1) for place in (0, 1))
    ends = np.cumsum([part.shape[1] for part in parts[::2]])[:-1]

    def read(each: Outputs) -> list[plain.Box]:
        apart = (half for level in zip(*(np.split(part, ends) for part in each), strict=True) for half in level)
        return plain_heads.gfl(tuple(apart), FLOOR, SIZE, STRIDES, 0.5, plain.sigmoid)

    check(Head("gfl", activation="sigmoid", boxes="xyxy", strides=STRIDES), both, read)

"""What a detector's reader makes of outputs that no network should give, and many do."""

from __future__ import annotations

import numpy as np
import pytest

from models.engine import ModelIncompatible
from models.manifest import Manifest
from models.vision.detector import Detector
from models.vision.specs import Head
from tests.models.vision.manifests import detector

ALL = slice(None)
FEWER_COLUMNS = ((ALL, ALL, slice(5)), (ALL, ALL, 0))
WRONG = {
    "yolox": (*FEWER_COLUMNS, (ALL, slice(83))),
    "yolov5": FEWER_COLUMNS,
    "yolov8": ((ALL, slice(6)), (ALL, 0)),
    "fastestdet": ((ALL, slice(7)), (ALL, 0)),
    "end2end": FEWER_COLUMNS,
    "rtdetr": FEWER_COLUMNS,
    "detr": FEWER_COLUMNS,
    "dense": FEWER_COLUMNS,
    "gfl": (*FEWER_COLUMNS, (ALL, slice(83))),
}
SIZE = np.array([[64, 64]])
HERE = np.array([[1, 1, 0, 0]], np.float32)
FAMILIES = {
    "yolox": (Head("yolox", ("out",), decoded=False, strides=(8, 16, 32)), (84, 8)),
    "yolov5": (Head("yolov5", ("out",)), (50, 8)),
    "yolov8": (Head("yolov8", ("out",)), (7, 50)),
    "fastestdet": (Head("fastestdet", ("out",), normalised=True), (8, 4, 4)),
    "end2end": (Head("end2end", ("out",), boxes="xyxy"), (50, 6)),
    "rtdetr": (Head("rtdetr", ("out",), activation="sigmoid", normalised=True), (50, 7)),
    "detr": (Head("detr", ("out",), activation="softmax", normalised=True), (50, 8)),
    "dense": (Head("dense", ("out",), activation="softmax"), (50, 7)),
    "gfl": (Head("gfl", ("out",), boxes="xyxy", strides=(8, 16, 32)), (84, 35)),
}


def reader(family: str, **options: float) -> Detector:
    return Detector(detector(FAMILIES[family][0]), **options)  # type: ignore[arg-type]


def outputs(family: str, pictures: int) -> np.ndarray:
    return np.random.default_rng(0).random((pictures, *FAMILIES[family][1]), np.float32)


def decode(one: Detector, out: np.ndarray) -> np.ndarray:
    return one.decode({"out": out}, np.repeat(HERE, len(out), 0), np.repeat(SIZE, len(out), 0))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_picture_with_nan_is_nan_and_its_neighbours_are_as_they_were(family: str) -> None:
    one, out = reader(family), outputs(family, 5)
    before = decode(one, out)
    out[1].flat[-1], out[3].flat[0] = np.nan, np.nan
    after = decode(one, out)
    assert np.isnan(after[[1, 3]]).all()
    assert np.array_equal(after[[0, 2, 4]], before[[0, 2, 4]])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("value", [np.inf, -np.inf, 3e38, -3e38, 0.0])
def test_whatever_numbers_come_boxes_are_inside_and_ranked(family: str, value: float) -> None:
    out = outputs(family, 2)
    out[0] = value
    found = decode(reader(family), out)
    known = found[1]
    assert np.array_equal(known, decode(reader(family), out[1:])[0])
    rows = found[~np.isnan(found)].reshape(-1, 6)
    assert (rows[:, :4] >= 0).all()
    assert (rows[:, :4] <= 64).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_no_picture_gives_none(family: str) -> None:
    assert decode(reader(family), outputs(family, 0)).shape == (0, 300, 6)


@pytest.mark.parametrize("family", FAMILIES)
def test_another_shape_is_a_sentence(family: str) -> None:
    out = outputs(family, 2)
    for wrong in WRONG[family]:
        with pytest.raises(ModelIncompatible, match=f"decoding the outputs of a {family} detector: expected"):
            decode(reader(family), out[wrong])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("pictures", [1, 3])
def test_outputs_of_other_pictures_are_a_sentence(family: str, pictures: int) -> None:
    given = outputs(family, pictures)
    with pytest.raises(ModelIncompatible, match=rf"expected outputs for 2 pictures, got \[{pictures}, "):
        reader(family).decode({"out": given}, np.repeat(HERE, 2, 0), np.repeat(SIZE, 2, 0))


def test_a_missing_output_is_a_sentence() -> None:
    with pytest.raises(ModelIncompatible, match=r"expected an output `out`, got \['other'\]"):
        reader("yolov8").decode({"other": outputs("yolov8", 1)}, HERE, SIZE)


def test_what_is_no_detector_is_a_sentence() -> None:
    made = detector(Head("yolov8"))
    other = Manifest(
        "m", 1, "", "", "0" * 64, made.inputs, made.outputs, task="classify", picture=made.picture, head=made.head
    )
    with pytest.raises(ModelIncompatible, match="expected the task 'detect' in its manifest, got 'classify'"):
        Detector(other)
    with pytest.raises(ModelIncompatible, match=r"expected a `head.family` of yolox, .* got 'yolov99'"):
        Detector(detector(Head("yolov99")))


def test_ten_thousand_boxes_and_more_give_the_best() -> None:
    random = np.random.default_rng(1)
    out = np.concatenate(
        (random.uniform(0, 64, (2, 2, 20_000)), random.uniform(1, 9, (2, 2, 20_000)), random.random((2, 3, 20_000))),
        axis=1,
    ).astype(np.float32)
    found = decode(reader("yolov8", score=0.0, max_objects=50), out)
    assert found.shape == (2, 50, 6)
    assert (found[:, 0, 4] == out[:, 4:].max(axis=(1, 2))).all()
    assert (np.diff(found[:, :, 4], axis=1) <= 0).all()


def test_thresholds_are_the_manifests_unless_said_otherwise() -> None:
    out = np.zeros((1, 7, 2), np.float32)
    out[0, :4] = [[20, 22], [20, 20], [20, 20], [20, 20]]
    out[0, 4] = [0.6, 0.5]
    made = detector(FAMILIES["yolov8"][0])
    assert (Detector(made).score, Detector(made).iou) == (0.25, 0.45)
    strict = Manifest(
        **{field: getattr(made, field) for field in made.__struct_fields__}
        | {"thresholds": {"score": 0.55, "iou": 0.9}}
    )
    assert (decode(Detector(made), out)[0, :, 5] >= 0).sum() == 1
    assert (decode(Detector(strict), out)[0, :, 5] >= 0).sum() == 1
    assert (decode(Detector(strict, score=0.1), out)[0, :, 5] >= 0).sum() == 2


def test_a_box_that_the_picture_does_not_show_is_none() -> None:
    out = np.zeros((1, 7, 2), np.float32)
    out[0, :4] = [[-20, 60], [10, 60], [8, 20], [8, 20]]
    out[0, 4] = 0.9
    found = decode(reader("yolov8"), out)
    assert found[0, 0, :4].tolist() == [50, 50, 64, 64]
    assert found[0, 1].tolist() == [0, 0, 0, 0, 0, -1]


def test_numbers_that_are_no_label_are_no_objects() -> None:
    rows = np.array([[[1, 1, 9, 9, 0.9, each] for each in (7, -1, 3, 1e30, 2)]], np.float32)
    found = decode(reader("end2end"), rows)
    assert found[0, 0].tolist() == pytest.approx([1, 1, 9, 9, 0.9, 2])
    assert (found[0, 1:, 5] == -1).all()

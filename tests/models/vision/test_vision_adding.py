"""Networks as exports leave them become detectors and classifiers that take any number of pictures."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import pytest

from models import adding, repository
from models.engine import DerivationFailed, ModelIncompatible, ModelRefused
from models.inspection import inspect
from models.precision.variant import original
from models.repository import Model, Repository
from models.vision.adding import TOLERANCE, Prepared, Wishes, prepare
from models.vision.classifier import Classifier
from models.vision.detector import Detector
from models.vision.preprocess import Preprocess
from models.vision.testcard import draw
from tests.models.vision import networks
from tests.models.vision.test_recognise_lists import tensorflow

LABELS = ("red", "green", "blue", "none")


def prepared(
    onnx: bytes,
    task: Literal["detect", "classify"] = "detect",
    labels: tuple[str, ...] = LABELS,
    wishes: Wishes | None = None,
) -> Prepared:
    return prepare(inspect(onnx, "mine.onnx", any_batch=True), "mine.onnx", task, labels, wishes or Wishes())


def added(
    folder: Path,
    onnx: bytes,
    labels: tuple[str, ...] = LABELS,
    wishes: Wishes | None = None,
    task: Literal["detect", "classify"] = "detect",
) -> Model:
    found = prepared(onnx, task, labels, wishes)
    about = adding.About(
        "", "MIT", labels=labels, thresholds=found.thresholds, golden=TOLERANCE, task=task, picture=found.picture,
        head=found.head,
    )  # fmt: skip
    return adding.add(Repository([folder]), "mine", found.served.network, found.golden, about)


def detect(model: Model, pictures: list[np.ndarray]) -> np.ndarray:
    preprocess = Preprocess(model.manifest)
    batch = preprocess.batch(len(pictures))
    placements = np.stack([preprocess.one(picture, row) for picture, row in zip(pictures, batch, strict=True)])
    engine = repository.open_engine(model, "onnx-cpu")
    try:
        outputs = engine.infer({preprocess.name: batch})
    finally:
        engine.close()
    sizes = np.array([(picture.shape[1], picture.shape[0]) for picture in pictures])
    return Detector(model.manifest, score=0.6).decode(outputs, placements, sizes)


CARDS = [draw(100 + 40 * seed, 90, seed) for seed in range(5)]


@pytest.mark.parametrize(
    ("network", "family", "batch", "how"),
    [
        (networks.frozen_detector, "yolov8", 0, "rewritten to take any number"),
        (networks.attending_detector, "yolov8", 0, "rewritten to take any number"),
        (networks.stubborn_detector, "yolov8", 1, "one by one"),
        (networks.lists_detector, "ssd", 1, "one by one"),
    ],
)
def test_a_network_frozen_to_one_picture_takes_a_batch(
    tmp_path: Path, network: Callable[[], bytes], family: str, batch: int, how: str
) -> None:
    model = added(tmp_path, network(), wishes=(wishes := Wishes(family, picture={"resize": "stretch"})))
    picture = model.manifest.picture
    assert picture is not None
    assert picture.batch == batch
    assert how in prepared(network(), wishes=wishes).served.how
    assert all(entry.shape[0] == -1 for entry in (*model.manifest.inputs, *model.manifest.outputs))
    together = detect(model, CARDS)
    alone = np.concatenate([detect(model, [card]) for card in CARDS])
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-5)
    assert len({int((rows[:, 5] >= 0).sum()) for rows in together}) > 1


@pytest.mark.parametrize("batch", [1, "n"])
@pytest.mark.parametrize("wishes", [Wishes(), Wishes("end2end")])
@pytest.mark.parametrize("limit", [0.1, 0.9])
def test_rows_of_objects_go_picture_by_picture_though_the_cards_show_one_or_none(
    tmp_path: Path, limit: float, wishes: Wishes, batch: int | str
) -> None:
    model = added(tmp_path, networks.rows_detector(limit, batch), wishes=wishes)
    assert model.manifest.picture is not None
    assert model.manifest.picture.batch == 1
    found = detect(model, [np.full((64, 64, 3), level, np.uint8) for level in (0, 240, 250, 0)])
    assert [[int(row[5]) for row in rows if row[5] >= 0] for rows in found] == [[], [2], [2], []]
    np.testing.assert_allclose(found[1:3, 0, :4], [[8, 16, 40, 32]] * 2)


@pytest.mark.parametrize(("unit", "normalised"), [(1, False), (64, True)])
def test_boxes_of_a_network_that_saw_nothing_are_what_is_said(tmp_path: Path, unit: float, normalised: bool) -> None:
    network = networks.rows_detector(0.9, unit=unit)
    unsure = prepared(network)
    assert not unsure.head.normalised
    assert "saw nothing in the test pictures" in unsure.assumed
    assert "taken for xyxy in pixels of its input; --normalised says" in unsure.assumed
    said = Wishes(head={"normalised": normalised, "ids": (0, 1, 2, 3)})
    assert not prepared(network, wishes=said).assumed
    found = detect(added(tmp_path, network, wishes=said), [np.full((64, 64, 3), 250, np.uint8)])
    np.testing.assert_allclose(found[0, 0, :4], [8, 16, 40, 32])
    seeing = prepared(networks.rows_detector(0.1, unit=unit), wishes=Wishes(head={"ids": (0, 1, 2, 3)}))
    assert (seeing.head.normalised, seeing.assumed) == (normalised, "")


@pytest.mark.parametrize("share", [0.9999, 2.0])
def test_lists_go_picture_by_picture_though_the_cards_show_one_or_none(tmp_path: Path, share: float) -> None:
    model = added(tmp_path, networks.lists_detector(share=share), wishes=Wishes("ssd"))
    assert model.manifest.picture is not None
    assert model.manifest.picture.batch == 1


def test_lists_of_no_object_and_an_empty_batch_pass(tmp_path: Path) -> None:
    model = added(tmp_path, networks.lists_detector(), wishes=Wishes("ssd"))
    engine = repository.open_engine(model, "onnx-cpu")
    empty = engine.infer({"images": np.zeros((0, 3, 64, 64), np.float32)})
    assert {name: array.shape for name, array in empty.items()} == {
        "boxes": (0, 0, 4),
        "labels": (0, 0),
        "scores": (0, 0),
    }
    black = engine.infer({"images": np.zeros((2, 3, 64, 64), np.float32)})
    assert black["boxes"].shape == (2, 0, 4)
    mixed = np.stack((np.zeros((3, 64, 64)), np.ones((3, 64, 64)))).astype(np.float32)
    found = engine.infer({"images": mixed})
    engine.close()
    assert found["boxes"].shape == (2, 4096, 4)
    assert not found["scores"][0].any()


@pytest.mark.parametrize("axes", [(), (1,)])
def test_a_number_of_objects_goes_picture_by_picture(tmp_path: Path, axes: tuple[int, ...]) -> None:
    model = added(tmp_path, networks.counting_detector(axes), wishes=Wishes("ssd"))
    assert model.manifest.head is not None
    assert model.manifest.head.tensors == ("boxes", "labels", "scores", "count")
    engine = repository.open_engine(model, "onnx-cpu")
    found = engine.infer({"images": np.stack((np.zeros((3, 64, 64)), np.ones((3, 64, 64)))).astype(np.float32)})
    engine.close()
    assert found["count"].tolist() == [0, 4096]
    together, alone = detect(model, CARDS), np.concatenate([detect(model, [card]) for card in CARDS])
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-5)


def test_classes_of_lists_begin_at_nought_or_one_as_seen(tmp_path: Path) -> None:
    assert prepared(networks.lists_detector(0), labels=LABELS[:3]).head.family == "nms"
    ambiguous = "fit several families: say which: --family ssd .*; --family nms"
    with pytest.raises(ModelRefused, match=ambiguous):
        prepared(networks.lists_detector(1))
    head = prepared(networks.lists_detector(1), wishes=Wishes(family="ssd")).head
    assert (head.family, head.ids, head.tensors) == ("ssd", (1, 2, 3, 4), ("boxes", "labels", "scores"))


def test_several_families_are_a_question() -> None:
    asked: list[list[str]] = []

    def choose(heads: object) -> object:
        asked.append([head.family for head in heads])  # type: ignore[attr-defined]
        return heads[1]  # type: ignore[index]

    network = inspect(networks.lists_detector(1), "mine.onnx", any_batch=True)
    found = prepare(network, "mine.onnx", "detect", LABELS, Wishes(), choose)  # type: ignore[arg-type]
    assert (asked, found.head.family) == ([["ssd", "nms"]], "nms")


def test_a_detector_of_tensorflow_is_added_with_all_its_outputs(tmp_path: Path) -> None:
    outputs = {name: each[0] for name, each in tensorflow(1, 5, 5).items()}
    outputs["detection_scores"][:] = 0.1
    outputs["detection_scores"][2], outputs["detection_boxes"][2] = 0.9, [0.1, 0.2, 0.5, 1]
    model = added(tmp_path, networks.constant_detector(outputs))
    assert model.manifest.head is not None
    assert (model.manifest.head.family, model.manifest.head.tensors[1]) == ("ssd", "detection_classes")
    found = detect(model, [np.zeros((64, 64, 3), np.uint8)])[0, 0]
    assert found.tolist() == pytest.approx([12.8, 6.4, 64, 32, 0.9, 2])


def queries(seed: int, queries: int = 30) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of four labels, and boxes in shares: both [queries, 4], and nothing tells them apart."""
    random = np.random.default_rng(seed)
    return random.random((queries, 4)) * 0.5, random.random((queries, 4)) * 0.4


def test_outputs_that_look_alike_are_a_question_and_can_be_said(tmp_path: Path) -> None:
    scores, boxes = queries(1)
    scores[5], boxes[5] = [0, 0, 0.9, 0], [0.5, 0.5, 0.25, 0.5]
    network = networks.constant_detector({"a": boxes, "b": scores})
    with pytest.raises(ModelRefused, match=r"several fit rtdetr, .*: say which: --outputs b,a or --outputs a,b; noth"):
        prepared(network)
    model = added(tmp_path, network, wishes=Wishes(outputs=("b", "a"), picture={"resize": "stretch"}))
    assert detect(model, [CARDS[0]])[0, 0].tolist() == pytest.approx([37.5, 22.5, 62.5, 67.5, 0.9, 2])
    asked: list[list[tuple[str, ...]]] = []

    def choose(heads: object) -> object:
        asked.append([head.tensors for head in heads])  # type: ignore[attr-defined]
        return heads[0]  # type: ignore[index]

    inspected = inspect(network, "mine.onnx", any_batch=True)
    prepare(inspected, "mine.onnx", "detect", LABELS, Wishes(), choose)  # type: ignore[arg-type]
    assert asked == [[("b", "a"), ("a", "b")]]


def test_a_column_more_than_labels_is_asked_about_and_no_label(tmp_path: Path) -> None:
    scores, boxes = (np.random.default_rng(3).random((30, width)) * 0.4 for width in (5, 4))
    scores = scores - 5
    scores[3], scores[4] = [-5, -5, 3, -5, -4], [-5, -5, -5, -5, 3]
    network = networks.constant_detector({"boxes": boxes, "logits": scores})
    with pytest.raises(ModelRefused, match=r"several families: say which: --family detr .*; --family rtdetr "):
        prepared(network)
    model = added(tmp_path, network, wishes=Wishes("rtdetr"))
    assert model.manifest.picture is not None
    assert (model.manifest.picture.resize, model.manifest.picture.mean) == ("stretch", (0.485, 0.456, 0.406))
    assert [int(row[5]) for row in detect(model, [CARDS[0]])[0] if row[5] >= 0] == [2]
    first = prepared(network, labels=("background", *LABELS), wishes=Wishes("rtdetr"))
    assert (first.labels, first.head.ids) == (LABELS, (1, 2, 3, 4))


def test_outputs_of_one_shape_twice_are_a_question_and_can_be_said() -> None:
    (scores, boxes), (others, other_boxes) = queries(1), queries(2)
    scores, others = (np.concatenate((each, each), axis=1) - 3 for each in (scores, others))
    labels = tuple("abcdefgh")
    network = networks.constant_detector({"aux_l": others, "aux_b": other_boxes, "l": scores, "b": boxes})
    with pytest.raises(ModelRefused, match=r"which: --outputs aux_l,aux_b or .* or --outputs l,b; nothing"):
        prepared(network, labels=labels)
    assert prepared(network, labels=labels, wishes=Wishes(outputs=("l", "b"))).head.tensors == ("l", "b")
    assert prepared(network, labels=labels, wishes=Wishes("rtdetr", outputs=("b", "l"))).head.tensors == ("l", "b")
    for names in (("l", "c"), ("l", "l")):
        with pytest.raises(ModelRefused, match=f"different ones of aux_l, aux_b, l, b, got {', '.join(names)}"):
            prepared(network, labels=labels, wishes=Wishes(outputs=names))


def test_outputs_of_each_stride_are_served_together(tmp_path: Path) -> None:
    cells = [(x, y, stride) for stride in (8, 16, 32) for y in range(64 // stride) for x in range(64 // stride)]
    rows = np.array([[(x + 0.5) * s, (y + 0.5) * s, 10, 10, 0, 0, 0, 0] for x, y, s in cells])
    rows[63, 4], rows[70, 5], rows[83, 6] = 0.9, 0.8, 0.7  # the last of each grid but for the second
    parts = dict(zip("abc", np.split(rows, [64, 80]), strict=True))
    model = added(tmp_path, networks.constant_detector(parts))
    assert model.manifest.head is not None
    assert (model.manifest.head.family, model.manifest.head.tensors) == ("yolov8", ("a", "b", "c"))
    found = detect(model, [np.zeros((64, 64, 3), np.uint8)])
    assert [int(row[5]) for row in found[0] if row[5] >= 0] == [0, 1, 2]


@pytest.mark.parametrize(
    ("labels", "wishes", "sentence"),
    [
        (("a",) * 7, Wishes(), r"with 7 labels, got \[2, 8, 64\] for 2 pictures: is the number of labels right\?"),
        (LABELS, Wishes(family="yolox"), r"expected those of yolox, .* they look like yolov8"),
        (LABELS, Wishes(size=(96, 64)), "expected a size of 64x64, that of `images: float32.*, got 96x64"),
        (LABELS, Wishes(picture={"mean": (1.0, 2.0)}), "expected `picture.mean` of 3 finite numbers"),
        ((), Wishes(), "expected the names of its classes, got none"),
    ],
)
def test_what_does_not_fit_is_a_sentence(labels: tuple[str, ...], wishes: Wishes, sentence: str) -> None:
    with pytest.raises(ModelRefused, match=sentence):
        prepared(networks.frozen_detector(), labels=labels, wishes=wishes)


def test_an_input_that_takes_no_pictures_is_a_sentence() -> None:
    from tests.models.networks import mixing

    with pytest.raises(ModelRefused, match=r"expected one input of pictures, .*, got x: float32"):
        prepared(mixing().SerializeToString())


def test_a_network_of_any_size_needs_one() -> None:
    model = onnx.load_from_string(networks.classifier())
    for axis in (2, 3):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = "side"
    with pytest.raises(ModelRefused, match="say which with --size WxH"):
        prepared(model.SerializeToString(), "classify")
    with pytest.raises(ModelRefused, match="expected `picture` of 1 to 8192 pixels a side, got 99999x99999"):
        prepared(model.SerializeToString(), "classify", wishes=Wishes(size=(99_999, 99_999)))
    found = prepared(model.SerializeToString(), "classify", wishes=Wishes(size=(48, 32)))
    assert (found.picture.width, found.picture.height) == (48, 32)


@pytest.mark.parametrize(
    ("end", "columns", "activation", "ids"),
    [("", 4, "softmax", ()), ("Softmax", 4, "none", ()), ("Sigmoid", 4, "none", ()), ("", 5, "softmax", (1, 2, 3, 4))],
)
def test_a_classifier_is_read_as_it_ends(end: str, columns: int, activation: str, ids: tuple[int, ...]) -> None:
    found = prepared(networks.classifier(columns, "n", end), "classify")
    assert (found.head.activation, found.head.ids) == (activation, ids)
    assert (found.picture.resize, found.picture.mean) == ("crop", (0.485, 0.456, 0.406))
    with pytest.raises(ModelRefused, match=r"expected \[n, 2\], a score for each label, got \[2, "):
        prepared(networks.classifier(columns, "n", end), "classify", LABELS[:2])


@pytest.mark.parametrize("shape", [(1, 4), (4, 1), (4, 1, 1), (1, 1, 4)])
def test_a_classifier_may_have_axes_of_one_beside_its_labels(tmp_path: Path, shape: tuple[int, ...]) -> None:
    manifest = added(tmp_path, networks.classifier(shape=shape), task="classify").manifest
    rows = np.random.default_rng(1).normal(size=(2, 4)).astype(np.float32)
    read = Classifier(manifest).scores({"scores": rows.reshape(2, *shape)})
    assert np.argsort(read, axis=1).tolist() == np.argsort(rows, axis=1).tolist()


def test_a_network_that_takes_sizes_gets_its_own(tmp_path: Path) -> None:
    """Boxes come back in pixels of each source, classes are counted from 0, and pictures are RT-DETR's."""
    model = added(tmp_path, networks.sized_detector())
    assert model.manifest.head is not None
    assert model.manifest.head.family == "nms"
    assert model.manifest.picture is not None
    assert (model.manifest.picture.resize, model.manifest.picture.scale) == ("stretch", 1 / 255)
    assert model.manifest.thresholds["score"] == 0.5
    assert [entry.name for entry in model.manifest.inputs] == ["images"]
    wide = np.full((90, 180, 3), 200, np.uint8)
    found = detect(model, [wide])
    rows = {int(row[5]): row[:4].tolist() for row in found[0] if row[5] >= 0}
    assert rows[0] == pytest.approx([18, 18, 90, 54], abs=0.01)
    assert rows[3] == pytest.approx([90, 45, 180, 67.5], abs=0.01)


@pytest.mark.parametrize("kind", [onnx.TensorProto.INT64, onnx.TensorProto.BOOL])
@pytest.mark.parametrize("axes", [("n", 64, 64), ("n", "height", "width"), (1, 16, 16)])
def test_a_network_that_takes_a_mask_is_told_that_all_pixels_are_real(
    tmp_path: Path, kind: int, axes: tuple[int | str, ...]
) -> None:
    scores, boxes = np.full((30, 5), -9.0), np.tile([0.5, 0.5, 0.25, 0.5], (30, 1))
    scores[:, 4], scores[3, 2] = 9, 20
    network = networks.masked_detector({"logits": scores, "pred_boxes": boxes}, kind, axes)
    model = added(tmp_path, network)
    assert model.manifest.head is not None
    assert model.manifest.picture is not None
    assert (model.manifest.head.family, model.manifest.picture.resize) == ("detr", "stretch")
    assert [entry.name for entry in model.manifest.inputs] == ["images"]
    found = detect(model, CARDS[:2])
    assert found[1, 0].tolist() == pytest.approx([52.5, 22.5, 87.5, 67.5, 1, 2], abs=1e-3)
    assert (found[0][:, 5] >= 0).sum() == 1
    with pytest.raises(ModelRefused, match=r"`pixel_mask: .*` says which pixels .* of stretch or crop, got letterbox"):
        prepared(network, wishes=Wishes(picture={"resize": "letterbox"}))


def test_a_network_that_takes_a_mask_and_sizes_gets_both() -> None:
    model = onnx.load_from_string(networks.sized_detector())
    model.graph.input.append(onnx.helper.make_tensor_value_info("pixel_mask", onnx.TensorProto.BOOL, ["n", 64, 64]))
    found = prepared(model.SerializeToString())
    assert [spec.name for spec in found.served.network.inputs] == ["images"]


def test_a_background_at_the_head_of_the_labels_is_no_label() -> None:
    found = prepared(networks.lists_detector(1), labels=("__background__", *LABELS), wishes=Wishes("ssd"))
    assert found.labels == LABELS
    assert found.head.ids == (1, 2, 3, 4)
    kept = prepared(networks.frozen_detector(), labels=("background", *LABELS[1:]))
    assert kept.labels == ("background", *LABELS[1:])


def test_without_onnx_a_frozen_network_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    network = networks.frozen_detector()
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ModelRefused, match=r"pip install 'headrace\[vision\]'"):
        prepared(network)


def test_an_activation_that_a_family_has_not_is_a_sentence() -> None:
    with pytest.raises(ModelIncompatible, match="expected an activation of none or sigmoid, got 'softmax'"):
        prepared(networks.frozen_detector(), wishes=Wishes(head={"activation": "softmax"}))


def test_one_picture_a_run_has_no_variants(tmp_path: Path) -> None:
    added(tmp_path, networks.stubborn_detector())
    with pytest.raises(DerivationFailed, match="expected a network that takes any number of pictures a run, got"):
        original(Repository([tmp_path]), "mine")


def test_the_golden_batch_of_a_large_network_is_one_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    network = networks.frozen_detector()
    two = prepared(network).golden
    size = sum(each.nbytes for each in (*two.inputs.values(), *two.outputs.values()))
    assert len(two.inputs["images"]) == 2
    monkeypatch.setattr("models.vision.adding.MAX_GOLDEN_BYTES", size - 1)
    assert len(prepared(network).golden.inputs["images"]) == 1


def test_a_box_in_each_cell_is_suppressed_here(tmp_path: Path) -> None:
    cells = [(x, y, stride) for stride in (8, 16, 32) for y in range(64 // stride) for x in range(64 // stride)]
    boxes = np.array([[x * s, y * s, (x + 1) * s, (y + 1) * s] for x, y, s in cells], float)
    scores, classes = np.full(len(cells), 0.01), np.zeros(len(cells))
    boxes[10:13], scores[10:13], classes[10:13] = [8, 16, 40, 32], [0.8, 0.9, 0.7], 2
    model = added(tmp_path, networks.constant_detector({"boxes": boxes, "scores": scores, "class_idx": classes}))
    found = detect(model, [np.zeros((64, 64, 3), np.uint8)])[0]
    assert found[found[:, 5] >= 0].tolist() == [pytest.approx([8, 16, 40, 32, 0.9, 2])]

"""Networks with inputs as exports of other houses have them, and labels that are none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from models.vision.adding import Wishes
from tests.models.vision import networks
from tests.models.vision.test_vision_adding import LABELS, added, detect, prepared

WIDE = 96


@pytest.mark.parametrize("means", ["sides", "turned", "scale_factor", "image_shape"])
def test_two_numbers_of_each_picture_are_what_boxes_make_of_them(tmp_path: Path, means: str) -> None:
    model = added(tmp_path, networks.sized_detector(means, WIDE))
    assert [entry.name for entry in model.manifest.inputs] == ["images"]
    found = detect(model, [np.full((64, WIDE, 3), 200, np.uint8)])
    rows = {int(row[5]): row[:4].tolist() for row in found[0] if row[5] >= 0}
    assert rows[0] == pytest.approx([0.1 * WIDE, 0.2 * 64, 0.5 * WIDE, 0.6 * 64], abs=0.01)
    assert rows[3] == pytest.approx([0.5 * WIDE, 0.5 * 64, WIDE, 0.75 * 64], abs=0.01)


def test_a_picture_without_an_axis_for_the_batch_gets_one(tmp_path: Path) -> None:
    plain = added(tmp_path / "plain", networks.lists_detector(1), wishes=Wishes("ssd"))
    model = added(tmp_path / "own", networks.without_batch(networks.lists_detector(1)), wishes=Wishes("ssd"))
    assert [(entry.name, entry.shape) for entry in model.manifest.inputs] == [("picture.batch", (-1, 3, 64, 64))]
    assert model.manifest.picture is not None
    assert model.manifest.picture.batch == 1
    pictures = [np.full((64, 64, 3), level, np.uint8) for level in (30, 120, 250)]
    found = detect(model, pictures)
    assert (found[:, :, 5] >= 0).any()
    assert np.array_equal(found, detect(plain, pictures))


def test_masks_of_a_lone_object_are_no_batch(tmp_path: Path) -> None:
    network = onnx.load_from_string(networks.lists_detector(1))
    bright = next(place for place, node in enumerate(network.graph.node) if node.output == ["bright"])
    network.graph.node[bright].CopyFrom(onnx.helper.make_node("Equal", ["numbers", "best"], ["bright"]))
    network.graph.node.insert(bright, onnx.helper.make_node("ArgMax", ["pixels"], ["best"], axis=0, keepdims=1))
    network.graph.initializer.append(onnx.numpy_helper.from_array(np.arange(64 * 64), "numbers"))
    network.graph.node.append(onnx.helper.make_node("Unsqueeze", ["scores", "axes"], ["masks"]))
    network.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1, 2, 3]), "axes"))
    network.graph.output.append(onnx.helper.make_tensor_value_info("masks", onnx.TensorProto.FLOAT, ["k", 1, 1, 1]))
    model = added(tmp_path, network.SerializeToString(), wishes=Wishes("ssd"))
    assert {entry.name: len(entry.shape) for entry in model.manifest.outputs}["masks"] == 5


def objects(label: float) -> bytes:
    rows = np.zeros((10, 6), np.float32)
    rows[0] = 8, 16, 40, 32, 0.9, label
    return networks.constant_detector({"out": rows})


def test_a_background_before_lists_is_number_nought(tmp_path: Path) -> None:
    labels = ("background", *LABELS[:3])
    found = prepared(objects(2), labels=labels)
    assert (found.labels, found.head.family, found.head.ids) == (LABELS[:3], "end2end", (1, 2, 3))
    model = added(tmp_path, objects(2), labels=LABELS[:3], wishes=Wishes(head={"ids": (1, 2, 3)}))
    assert detect(model, [np.zeros((64, 64, 3), np.uint8)])[0, 0, 5] == 1  # the third line is the second label


def queries(columns: int) -> bytes:
    logits = np.full((30, columns), -9, np.float32)
    logits[:, -1], logits[3, 1] = 9, 20
    return networks.constant_detector({"logits": logits, "boxes": np.tile([0.5, 0.5, 0.25, 0.5], (30, 1))})


def test_a_last_label_for_no_object_is_none() -> None:
    found = prepared(queries(4), labels=(*LABELS[:3], "no object"))
    assert (found.labels, found.head.family, found.head.activation) == (LABELS[:3], "detr", "softmax")
    assert prepared(networks.frozen_detector(), labels=(*LABELS[:3], "background")).labels[3] == "background"
    places = np.tile([[4, 4, 30, 30]], (2000, 1)) + np.arange(2000)[:, None] % 20
    scores = np.tile([0.02, 0.9, 0.03, 0.05], (2000, 1))
    dense = networks.constant_detector({"scores": scores, "boxes": places})
    found = prepared(dense, labels=(*LABELS[:3], "background"))
    assert (found.labels, found.head.family, found.head.ids) == (LABELS[:3], "dense", (0, 1, 2))


def test_what_is_assumed_is_said() -> None:
    nothing = prepared(networks.constant_detector({"out": np.zeros((10, 6))}))
    assert "its rows are taken for box-score-class; --columns says" in nothing.assumed
    said = prepared(
        networks.constant_detector({"out": np.zeros((10, 6))}), wishes=Wishes(head={"columns": "class-score-box"})
    )
    assert said.head.columns == "class-score-box"
    assert "--columns" not in said.assumed
    assert prepared(objects(2)).assumed.startswith("class numbers are taken for those from 0 on, which the test pict")
    for silent in (objects(0), objects(2)):
        ids = Wishes(head={"ids": (0, 1, 2, 3)}) if silent == objects(2) else None
        assert prepared(silent, wishes=ids).assumed == ""


def test_too_many_objects_in_a_test_picture_are_said() -> None:
    rows = np.zeros((200, 6), np.float32)
    rows[:, :4] = np.array([1, 1, 9, 9]) + np.arange(200)[:, None] % 50
    rows[:, 4:] = 0.9, 1
    assert (
        "sees 200 objects in a test picture that shows 12 shapes"
        in prepared(networks.constant_detector({"out": rows})).assumed
    )


def test_tensorflow_is_known_by_its_names_though_only_some_are_read() -> None:
    lists = {
        "detection_boxes": np.tile([0.1, 0.2, 0.5, 0.9], (10, 1)),
        "detection_classes": np.full(10, 2),
        "detection_scores": np.linspace(0.9, 0.1, 10),
        "num_detections": np.full(1, 10),
    }
    wishes = Wishes("ssd", outputs=("detection_boxes", "detection_classes", "detection_scores"))
    found = prepared(networks.constant_detector(lists), wishes=wishes)
    assert (found.head.boxes, found.head.normalised) == ("yxyx", True)
    assert "boxes are taken for y1, x1, y2, x2" in found.assumed
    turned = Wishes("ssd", outputs=wishes.outputs, head={"boxes": "xyxy"})
    assert prepared(networks.constant_detector(lists), wishes=turned).assumed == ""


def test_hugging_faces_two_outputs_are_read_whatever_is_beside_them() -> None:
    logits = np.full((30, 4), -9, np.float32)
    boxes = np.tile([0.5, 0.5, 0.25, 0.5], (30, 1))
    beside = {"enc_outputs_class": logits, "enc_outputs_coord_logits": boxes, "last_hidden_state": np.ones((30, 16))}
    found = prepared(networks.constant_detector({"logits": logits, "pred_boxes": boxes, **beside}))
    assert (found.head.family, found.head.tensors) == ("rtdetr", ("logits", "pred_boxes"))


def test_pixels_of_networks_whose_outputs_are_of_several_projects_are_said() -> None:
    dets = np.zeros((10, 5), np.float32)
    dets[0] = 8, 16, 40, 32, 0.9
    mmdeploy = networks.constant_detector({"dets": dets, "labels": np.zeros(10)})
    found = prepared(mmdeploy)
    assert (found.picture.colour, found.picture.scale, found.picture.mean) == ("bgr", 1.0, (103.53, 116.28, 123.675))
    assert "pixels are given to this one as bgr from 0 to 255, less 103.53 116.28 123.675, divided by" in found.assumed
    assert prepared(mmdeploy, wishes=Wishes(picture={"mean": (0.0,) * 3})).assumed == ""

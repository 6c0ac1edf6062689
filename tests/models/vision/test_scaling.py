"""How a network gets pixels: as its own graph begins, or else as its project prepares them, and then that is said."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from models.vision.adding import Wishes
from models.vision.scaling import BYTES, SHARES, pixels
from tests.models.vision import networks
from tests.models.vision.test_vision_adding import LABELS, prepared

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
Step = tuple[str, Any]


def beginning(network: bytes, steps: Sequence[Step], as_nodes: bool = False) -> bytes:
    """The network with these operators between its input and what reads it, each with a constant or none."""
    model = onnx.load_from_string(network)
    name = model.graph.input[0].name
    last = name
    for place, (operator, number) in enumerate(steps):
        inputs = [last]
        if number is not None:
            array = np.array(number, np.float32)
            tensor = numpy_helper.from_array(array.reshape(1, -1, 1, 1) if array.ndim else array, f"number.{place}")
            inputs.append(tensor.name)
            if as_nodes:
                model.graph.node.insert(0, helper.make_node("Constant", [], [tensor.name], value=tensor))
            else:
                model.graph.initializer.append(tensor)
        last = f"step.{place}"
        more = {"to": onnx.TensorProto.FLOAT} if operator == "Cast" else {}
        model.graph.node.insert(place * (1 + as_nodes) + as_nodes, helper.make_node(operator, inputs, [last], **more))
    for node in model.graph.node:
        if node.output[0] != "step.0":
            node.input[:] = [last if each == name else each for each in node.input]
    return bytes(model.SerializeToString())


@pytest.mark.parametrize("as_nodes", [False, True])
@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([("Div", 255)], BYTES),
        ([("Mul", 1 / 255), ("Sub", MEAN), ("Div", STD)], BYTES),
        ([("Cast", None), ("Mul", 1 / 127.5), ("Add", -1)], BYTES),
        ([("Sub", [103.94, 116.78, 123.68])], BYTES),
        ([("Sub", MEAN * 255), ("Div", STD * 255)], BYTES),
        ([("Sub", MEAN), ("Div", STD)], SHARES),
        ([("Mul", 2), ("Sub", 1)], SHARES),
        ([("Mul", 255)], SHARES),
        ([("Sub", [0, 0, 0]), ("Div", 255)], BYTES),
        ([("Identity", None)], {}),
        ([("Div", 0)], {}),
        ([("Mul", 1)], {}),
        ([("Add", 0.01)], {}),
        ([("Relu", None), ("Div", 255)], {}),
    ],
)
def test_what_a_graph_does_first_tells_what_it_takes(
    steps: list[Step], expected: dict[str, Any], as_nodes: bool
) -> None:
    assert pixels(beginning(networks.classifier(), steps, as_nodes), "images") == expected


def test_a_network_that_scales_pixels_itself_gets_them_so() -> None:
    found = prepared(beginning(networks.classifier(), [("Div", 255), ("Sub", MEAN), ("Div", STD)]), "classify")
    assert (found.picture.scale, found.picture.mean, found.picture.std) == (1, (), ())
    assert "pixels" not in found.assumed
    detector = prepared(beginning(networks.frozen_detector(), [("Mul", 1 / 255)]))
    assert (detector.head.family, detector.picture.scale) == ("yolov8", 1)
    said = prepared(beginning(networks.classifier(), [("Div", 255)]), "classify", wishes=Wishes(picture={"scale": 2.0}))
    assert said.picture.scale == 2


def test_pixels_of_a_classifier_whose_graph_does_not_tell_are_said() -> None:
    found = prepared(networks.classifier(), "classify")
    assert "pixels are given to this one as rgb from 0 to 1, less 0.485 0.456 0.406, divided by" in found.assumed
    assert "taken for logits of labels of which one is true; --activation sigmoid says" in found.assumed
    said = Wishes(picture={"mean": (0.5,) * 3}, head={"activation": "softmax"})
    assert prepared(networks.classifier(), "classify", wishes=said).assumed == ""
    assert "logits" not in prepared(networks.classifier(end="Softmax"), "classify").assumed


def test_shares_that_no_softmax_made_may_be_small_logits() -> None:
    sentence = "its scores are all from 0 to 1, and taken for probabilities of labels of which each may be true; --act"
    each = networks.classifier(end="Sigmoid")
    assert prepared(each, "classify").assumed.startswith(sentence)
    assert sentence not in prepared(each, "classify", wishes=Wishes(head={"activation": "none"})).assumed
    alone = networks.classifier(columns=1, end="Sigmoid")
    assert sentence not in prepared(alone, "classify", labels=("cat",)).assumed


def last(network: bytes) -> bytes:
    """The network with the axis of channels at the end."""
    model = onnx.load_from_string(network)
    model.graph.node.insert(0, helper.make_node("Transpose", ["pictures"], ["images"], perm=[0, 3, 1, 2]))
    del model.graph.input[0]
    model.graph.input.append(helper.make_tensor_value_info("pictures", onnx.TensorProto.FLOAT, ["n", 64, 64, 3]))
    return bytes(model.SerializeToString())


def test_keras_takes_pixels_around_nought_unless_its_graph_scales_them() -> None:
    found = prepared(last(networks.classifier()), "classify")
    assert (found.picture.layout, found.picture.scale, found.picture.mean) == ("nhwc", 1 / 255, (0.5, 0.5, 0.5))
    rescaling = last(beginning(networks.classifier(), [("Mul", 1 / 255)]))
    assert (prepared(rescaling, "classify").picture.scale, prepared(rescaling, "classify").picture.mean) == (1, ())


def test_paddledetection_stretches_pictures() -> None:
    found = prepared(networks.sized_detector("scale_factor"), labels=LABELS)
    assert (found.picture.resize, found.picture.scale) == ("stretch", 1 / 255)
    assert "pixels are given to this one as rgb from 0 to 1; --resize, --colour" in found.assumed
    sized = prepared(networks.sized_detector(), labels=LABELS)  # RT-DETR's, or DEIMv2's
    assert "pixels are given to this one as rgb from 0 to 1; --resize, --colour" in sized.assumed


def test_rows_with_centres_and_sides_are_of_stretched_pictures() -> None:
    rows = np.tile([0.5, 0.5, 0.25, 0.25, 0.1, 2], (10, 1))
    found = prepared(networks.constant_detector({"output0": rows}))
    assert (found.head.boxes, found.picture.resize, found.picture.mean) == ("cxcywh", "stretch", ())
    rows[:, 2:4] = 0.75
    assert prepared(networks.constant_detector({"output0": rows})).picture.resize == "letterbox"


def test_rows_of_caffe_are_of_stretched_pictures_around_nought() -> None:
    rows = np.zeros((1, 10, 7))
    rows[0, 0] = 0, 2, 0.9, 0.1, 0.2, 0.6, 0.8
    found = prepared(networks.constant_detector({"detection_out": rows}))
    assert (found.head.columns, found.head.normalised, found.picture.resize) == ("class-score-box", True, "stretch")
    assert "pixels are given to this one as bgr from 0 to 255, less 127.5 127.5 127.5, divided by" in found.assumed


def test_rows_of_classes_first_and_float_pictures_with_channels_last_are_of_several_projects() -> None:
    rows = np.zeros((10, 7))
    rows[0] = 0, 2, 0.9, 8, 16, 40, 32
    assert "pixels are given to this one as rgb" in prepared(networks.constant_detector({"out": rows})).assumed
    assert "pixels are given to this one as rgb" in prepared(last(networks.frozen_detector())).assumed
    assert "pixels" not in prepared(networks.frozen_detector()).assumed


def test_queries_beside_a_mask_are_deformable_detrs() -> None:
    logits, boxes = np.full((30, 4), -9.0), np.tile([0.5, 0.5, 0.25, 0.5], (30, 1))
    outputs = {"logits": logits, "pred_boxes": boxes}
    masked = prepared(networks.masked_detector(outputs, onnx.TensorProto.INT64, ("n", 64, 64)))
    assert (masked.head.family, masked.picture.mean) == ("rtdetr", (0.485, 0.456, 0.406))
    assert "pixels" not in masked.assumed
    plain = prepared(networks.constant_detector(outputs))  # theirs without its mask, or RT-DETR's
    assert plain.picture.mean == ()
    assert "pixels are given to this one as rgb from 0 to 1; --resize, --colour" in plain.assumed
    alone = prepared(networks.constant_detector({"output0": np.hstack((boxes, 1 / (1 + np.exp(-logits))))}))
    assert (alone.head.family, "pixels" in alone.assumed) == ("rtdetr", False)

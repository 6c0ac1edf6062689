"""What a file says of itself in its metadata, as Ultralytics' exporter writes it, is taken for what it is."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from models.engine import ModelRefused
from tests.models.vision import networks
from tests.models.vision.test_vision_adding import LABELS, prepared


def saying(network: bytes, **metadata: str) -> bytes:
    model = onnx.load_from_string(network)
    for key, value in metadata.items():
        model.metadata_props.add(key=key, value=value)
    return bytes(model.SerializeToString())


def any_size(network: bytes) -> bytes:
    model = onnx.load_from_string(network)
    for axis, side in ((2, "height"), (3, "width")):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = side
    return bytes(model.SerializeToString())


@pytest.mark.parametrize(
    ("task", "sentence"),
    [
        ("obb", "expected the task detect, the file itself says obb, which is not read, rotated boxes: export a"),
        ("pose", "says pose, which is not read, key points beside the boxes: export a network that only detects"),
        ("segment", "says segment, which is not read, masks beside the boxes: export a network that only detects"),
        ("classify", "says classify: add it with --task classify"),
    ],
)
def test_rows_of_nothing_are_not_read_as_another_task_s(task: str, sentence: str) -> None:
    """Suppression inside leaves rows of 7 zeros of a picture without rotated boxes, as YOLOv7's rows are."""
    empty = networks.constant_detector({"output0": np.zeros((300, 7))})
    assert prepared(saying(empty, task="detect")).head.family == "end2end"
    with pytest.raises(ModelRefused, match=sentence):
        prepared(saying(empty, task=task))


def test_a_detector_is_no_classifier() -> None:
    with pytest.raises(ModelRefused, match="expected the task classify, the file itself says detect: add it with --ta"):
        prepared(saying(networks.classifier(), task="detect"), "classify")


def test_a_network_of_any_size_is_served_with_the_one_that_it_was_exported_for() -> None:
    network = any_size(networks.classifier())
    found = prepared(saying(network, imgsz="[48, 32]"), "classify")
    assert (found.picture.width, found.picture.height) == (32, 48)
    for nothing in ("[0, 32]", "[48]", "640", "[99999, 32]", ""):
        with pytest.raises(ModelRefused, match="say which with --size WxH"):
            prepared(saying(network, imgsz=nothing), "classify")
    fixed = prepared(saying(networks.classifier(), imgsz="[48, 32]"), "classify")
    assert (fixed.picture.width, fixed.picture.height) == (64, 64)


def test_pixels_of_its_classifiers_are_shares_as_they_are() -> None:
    found = prepared(saying(networks.classifier(), task="classify"), "classify", LABELS).picture
    assert (found.resize, found.colour, found.scale, found.mean, found.std) == ("crop", "rgb", 1 / 255, (), ())
    assert prepared(networks.classifier(), "classify", LABELS).picture.mean == (0.485, 0.456, 0.406)


def test_numbers_that_the_file_itself_gives_its_classes_are_not_said_to_be_assumed() -> None:
    rows = np.tile([8, 16, 40, 32, 0.9, 2], (10, 1))
    network = networks.constant_detector({"output0": rows})
    assert "class numbers are taken for those from 0 on" in prepared(network).assumed
    assert prepared(saying(network, names=repr(dict(enumerate(LABELS))))).assumed == ""
    from_one = prepared(saying(network, names=repr(dict(enumerate(LABELS, 1)))))
    assert "class numbers are taken for those from 0 on" in from_one.assumed

"""The names of classes, from every kind of file in which people have them."""

from __future__ import annotations

import json

import onnx
import pytest

from models.onnx_file import structure
from models.vision.labels import of_metadata, parse
from tests.models.vision import networks

THREE = ("no", "traffic light", "1.0")

DATA_YAML = """
# of a training
path: ../datasets/yard
train: images/train
nc: 3
names:
  0: no
  1: traffic light
  2: 1.0
"""


@pytest.mark.parametrize(
    "text",
    [
        "no\ntraffic light\n1.0\n\n",
        "\r\n".join(THREE),
        "0: no\n1: traffic light\n2: 1.0",
        "1 no\n2 traffic light\n3 1.0\n",
        "0,no\n1,traffic light\n2,1.0\n",
        DATA_YAML,
        "names: [no, traffic light, 1.0]\nnc: 3\n",
        "train: x\nnames: ['no', 'traffic light', '1.0']\n",
        json.dumps(THREE),
        json.dumps({"0": "no", "1": "traffic light", "2": "1.0"}),
        json.dumps({"no": 1, "traffic light": 2, "1.0": 3}),
        json.dumps({"model_type": "detr", "id2label": {"2": "1.0", "0": "no", "1": "traffic light"}}),
        json.dumps({"categories": [{"id": 9, "name": "1.0"}, {"id": 1, "name": "no"}, {"id": 4, "name": THREE[1]}]}),
        json.dumps([{"name": "no"}, {"name": "traffic light"}, {"name": "1.0"}]),
    ],
)
def test_names_are_read_from_every_usual_file(text: str) -> None:
    assert parse(text) == THREE


def test_numbers_that_are_names_stay() -> None:
    assert parse("0\n1\n2\n") == ("0", "1", "2")
    assert parse("3 wheels\n4 wheels\n") == ("3 wheels", "4 wheels")
    assert parse("0 person\n2 car\n") == ("0 person", "2 car")
    assert parse("1 person\n") == ("1 person",)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "expected names, one a line, got 0 characters without any"),
        ("a\n\nb\n", "expected a name in line 2, got none"),
        ("[]", "expected names, got none"),
        ('["a", 3]', "expected a name in entry 1, got 3"),
        ('["a", ', "expected JSON, since it begins as such"),
        ('{"0": "a", "2": "b"}', r"expected a name for each number from 0 or 1 on, got \[0, 2\]"),
        ('{"a": "b"}', "expected a list of names, or numbers and names, got keys"),
        ('{"names": "a"}', "expected a list of names, or numbers and names, got 'a'"),
        ("names: [a\n", "expected YAML, since it has a line `names:`"),
        ("names: &a {names: *a}\n", "expected YAML"),
        ("[" * 100_000, "expected JSON"),
        ("item {\n  id: 1\n  name: 'a'\n}\n", "got a label map of TensorFlow's"),
        ("x\n" * 3_000_000, "at most 4194304 bytes"),
    ],
)
def test_what_is_no_list_of_names_is_said(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        parse(text)


def test_an_alias_that_repeats_itself_is_refused_at_once() -> None:
    levels = "\n".join(f"l{level}: &l{level} [{', '.join([f'*l{level - 1}'] * 9)}]" for level in range(1, 40))
    with pytest.raises(ValueError, match="expected a name in entry 0"):
        parse(f"l0: &l0 [a]\n{levels}\nnames: *l39\n")


@pytest.mark.parametrize(
    ("said", "names"),
    [
        ("{0: 'person', 1: \"driver's cab\"}", ("person", "driver's cab")),
        ("['person', 'car']", ("person", "car")),
        ("{0: 'a', 5: 'b'}", ()),
        ("__import__('os').getcwd()", ()),
        ("(" * 10_000, ()),
        ("", ()),
    ],
)
def test_a_file_may_name_its_classes_itself(said: str, names: tuple[str, ...]) -> None:
    model = onnx.load_from_string(networks.frozen_detector())
    onnx.helper.set_model_props(model, {"names": said, "stride": "32"})
    metadata = structure(model.SerializeToString()).metadata
    assert metadata == {"names": said, "stride": "32"}
    assert of_metadata(metadata) == names


def test_metadata_may_be_anything() -> None:
    model = onnx.load_from_string(networks.frozen_detector())
    onnx.helper.set_model_props(model, {"names": "{0: '??'}"})
    data = bytes(model.SerializeToString()).replace(b"??", b"\xff\xfe")
    assert of_metadata(structure(data).metadata) == ("\ufffd\ufffd",)
    assert of_metadata({}) == ()

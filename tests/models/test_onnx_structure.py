"""What is read out of an ONNX file and written into one, compared with what the onnx package says."""

from __future__ import annotations

import math
import os
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from models import onnx_file
from models.engine import ModelCorrupt, ModelRefused
from models.external_data import inline
from models.repository import Repository
from tests.models import networks

LIMIT = 1_000_000


def branching() -> onnx.ModelProto:
    """An If, whose two branches hold their own weights."""

    def branch(name: str, value: float) -> onnx.GraphProto:
        weight = numpy_helper.from_array(np.full((1, 4), value, np.float32), f"w_{name}")
        return helper.make_graph(
            [helper.make_node("Add", ["x", f"w_{name}"], [name])],
            name,
            [],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4])],
            [weight],
        )

    nodes = [
        helper.make_node("ReduceMax", ["x"], ["largest"], keepdims=0),
        helper.make_node("Constant", [], ["zero"], value=numpy_helper.from_array(np.zeros((), np.float32))),
        helper.make_node("Greater", ["largest", "zero"], ["positive"]),
        helper.make_node("If", ["positive"], ["y"], then_branch=branch("a", 1.0), else_branch=branch("b", -1.0)),
    ]
    graph = helper.make_graph(
        nodes,
        "branching",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_the_bundled_network_is_described_as_the_onnx_package_describes_it() -> None:
    data = Repository().load("fraud").onnx_bytes()
    network, got = onnx.load_from_string(data), onnx_file.structure(data)
    assert got.producer == "headrace"
    assert got.opsets == {"ai.onnx": network.opset_import[0].version}
    assert got.operators == Counter(node.op_type for node in network.graph.node)
    assert got.parameters == sum(math.prod(tensor.dims) for tensor in network.graph.initializer)
    weights = {each.name: each.shape for each in got.tensors if each.is_weight}
    assert weights == {tensor.name: tuple(tensor.dims) for tensor in network.graph.initializer}
    assert {each.name: each.shape for each in got.tensors if not each.is_weight} == {
        "features": (None, 26),
        "score": (None,),
    }


def test_branches_functions_and_other_domains_are_seen() -> None:
    network = branching()
    network.producer_name, network.producer_version = "somebody", "1.2"
    network.opset_import.add(domain="mine", version=3)
    body = [helper.make_node("Relu", ["a"], ["b"])]
    network.functions.append(helper.make_function("mine", "Twice", ["a"], ["b"], body, [helper.make_opsetid("", 17)]))
    network.graph.node.append(helper.make_node("Twice", ["x"], ["t"], domain="mine"))
    network.graph.node.append(helper.make_node("Neg", ["x"], ["u"], domain="ai.onnx"))
    got = onnx_file.structure(network.SerializeToString())
    assert got.producer == "somebody 1.2"
    assert got.opsets == {"ai.onnx": 17, "mine": 3}
    assert got.operators == Counter(
        {"Add": 2, "ReduceMax": 1, "Constant": 1, "Greater": 1, "If": 1, "mine:Twice": 1, "Relu": 1, "Neg": 1}
    )
    assert got.functions == {"mine:Twice"}
    assert got.parameters == 9


def test_shapes_are_read_whatever_way_they_are_written() -> None:
    """Repeated numbers may stand packed or one by one, and be of 64 bits with a sign."""
    unpacked = bytes([0x08, 3, 0x08, 5])
    packed = bytes([0x0A, 2, 3, 5])
    negative = bytes([0x08]) + b"\xff" * 9 + b"\x01"
    shapes = []
    for dims in (unpacked, packed, negative):
        tensor = dims + bytes([0x42, 1]) + b"w"
        graph = bytes([0x2A, len(tensor)]) + tensor
        shapes.append(onnx_file.structure(bytes([0x3A, len(graph)]) + graph).tensors[0].shape)
    assert shapes == [(3, 5), (3, 5), (2**64 - 1,)]


@pytest.mark.parametrize("junk", [b"<!DOCTYPE html>", b"PK\x03\x04rest of a zip", b"\x80\x04}q\x00.", b"\x3a\xff\xff"])
def test_what_is_no_protobuf_is_corrupt(junk: bytes) -> None:
    with pytest.raises(ModelCorrupt, match="reading ONNX protobuf"):
        onnx_file.structure(junk)


@pytest.mark.parametrize("text", [b"\x12\x01n", b"Mul", b"\x0a\x01y"])
def test_texts_that_are_no_utf8_are_corrupt(text: bytes) -> None:
    data = networks.scaling().SerializeToString()
    assert text in data
    with pytest.raises(ModelCorrupt, match="reading ONNX protobuf: expected texts in UTF-8"):
        onnx_file.structure(data.replace(text, text[:-1] + b"\xff"))


@pytest.mark.parametrize("number", [0, 1, 127, 128, 300, 2**31, 2**63])
def test_numbers_are_written_as_they_are_read(number: int) -> None:
    field = next(iter(onnx_file.fields(memoryview(b"\x08" + onnx_file.encode_varint(number)))))
    assert field.value == number


# Weights in other files


def save_outside(folder: Path, network: onnx.ModelProto, **options: object) -> bytes:
    """Every weight goes into a file beside it."""
    folder.mkdir(exist_ok=True)
    onnx.save(network, folder / "net.onnx", save_as_external_data=True, size_threshold=0, **options)
    return (folder / "net.onnx").read_bytes()


@pytest.mark.parametrize("one_file", [True, False])
@pytest.mark.parametrize("make", [networks.scaling, branching])
def test_weights_from_beside_it_are_brought_inside(tmp_path: Path, make: object, one_file: bool) -> None:
    expected = make()  # type: ignore[operator]
    options = {"all_tensors_to_one_file": one_file, "convert_attribute": True} | (
        {"location": "w.bin"} if one_file else {}
    )
    outside = save_outside(tmp_path / "net", make(), **options)  # type: ignore[operator]
    assert onnx_file.has_external_data(outside)
    inside = inline(outside, tmp_path / "net", LIMIT)
    assert not onnx_file.has_external_data(inside)
    got = onnx.load_from_string(inside)
    onnx.checker.check_model(got, full_check=True)
    assert got.graph.node[0].op_type == expected.graph.node[0].op_type
    tensors = [tensor for graph in graphs(got.graph) for tensor in graph.initializer]
    wanted = [tensor for graph in graphs(expected.graph) for tensor in graph.initializer]
    assert [tensor.name for tensor in tensors] == [tensor.name for tensor in wanted]
    for tensor, want in zip(tensors, wanted, strict=True):
        np.testing.assert_array_equal(numpy_helper.to_array(tensor), numpy_helper.to_array(want))


def graphs(graph: onnx.GraphProto) -> list[onnx.GraphProto]:
    below = [each.g for node in graph.node for each in node.attribute if each.HasField("g")]
    return [graph, *(deeper for each in below for deeper in graphs(each))]


def test_a_network_that_has_all_its_weights_stays_as_it_is(tmp_path: Path) -> None:
    data = networks.scaling().SerializeToString()
    assert inline(data, tmp_path, LIMIT) is data


def pointing(location: str, **more: object) -> bytes:
    """`scaling`, whose weights are said to be at this place."""
    network = networks.scaling()
    weight = network.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **more}.items():
        weight.external_data.add(key=key, value=str(value))
    return network.SerializeToString()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with weights in it and in folders of it, and a secret beside it."""
    inside = tmp_path / "net"
    (inside / "sub").mkdir(parents=True)
    for place in (inside / "w.bin", inside / "sub" / "w.bin"):
        place.write_bytes(bytes(8) + networks.WEIGHTS.tobytes())
    (tmp_path / "secret").write_bytes(bytes(16))
    return inside


@pytest.mark.parametrize("location", ["w.bin", "sub/w.bin", "./w.bin", "inner-link"])
def test_places_below_the_files_own_folder_are_read(folder: Path, location: str) -> None:
    (folder / "inner-link").symlink_to("sub/w.bin")
    network = onnx.load_from_string(inline(pointing(location, offset=8, length=16), folder, LIMIT))
    np.testing.assert_array_equal(numpy_helper.to_array(network.graph.initializer[0]), networks.WEIGHTS)
    without_length = inline(pointing(location, offset=8), folder, LIMIT)
    assert without_length == inline(pointing(location, offset=8, length=16), folder, LIMIT)


@pytest.mark.parametrize(
    ("location", "complaint"),
    [
        ("../secret", "expected a place below"),
        ("sub/../../secret", "expected a place below"),
        ("/etc/passwd", "expected a place below"),
        ("..\\secret", "expected a place below"),
        ("..", "expected a place below"),
        ("", "expected a place below"),
        ("w.bin\0.txt", "expected a place below"),
        ("link", "a link leads out"),
        ("linked-folder/secret", "a link leads out"),
        ("hard", "got a hard link"),
        ("pipe", "expected a file, got a device or a pipe"),
        ("sub", "expected a file, got a folder"),
        (".", "expected a file, got a folder"),
        ("missing.bin", "there is none; give the ONNX file with its weights beside it"),
        ("w.bin/deeper", "Not a directory"),
        ("ring", "reading weights from 'ring'"),
        ("x" * 5000, "File name too long"),
    ],
)
def test_no_other_place_is_read(folder: Path, location: str, complaint: str) -> None:
    (folder / "link").symlink_to(folder.parent / "secret")
    (folder / "linked-folder").symlink_to(folder.parent)
    (folder / "hard").hardlink_to(folder.parent / "secret")
    (folder / "ring").symlink_to("ring")
    os.mkfifo(folder / "pipe")
    with pytest.raises(ModelRefused, match=complaint) as caught:
        inline(pointing(location), folder, LIMIT)
    assert str(caught.value).endswith("nothing was added")


@pytest.mark.parametrize(
    ("place", "complaint"),
    [
        ({"offset": 20, "length": 16}, "expected 16 bytes at 20, got a file of 24"),
        ({"offset": 100}, "expected 0 bytes at 100, got a file of 24"),
        ({"offset": -8}, "expected a number of bytes, got '-8'"),
        ({"offset": "8e0"}, "expected a number of bytes"),
        ({"length": "9" * 30}, "expected a number of bytes"),
        ({"length": "٣"}, "expected a number of bytes"),
    ],
)
def test_a_place_in_a_file_that_is_not_there_is_refused(folder: Path, place: dict[str, object], complaint: str) -> None:
    with pytest.raises(ModelRefused, match=complaint):
        inline(pointing("w.bin", **place), folder, LIMIT)


def test_the_same_bytes_read_again_and_again_count_each_time(folder: Path) -> None:
    network = onnx.load_from_string(pointing("w.bin", offset=8, length=16))
    for number in range(40):
        again = network.graph.initializer.add()
        again.CopyFrom(network.graph.initializer[0])
        again.name = f"w{number}"
    data = network.SerializeToString()
    assert inline(data, folder, len(data) + 41 * 16)
    with pytest.raises(ModelRefused, match="would hold more bytes than allowed"):
        inline(data, folder, len(data) + 41 * 16 - 1)


def test_graphs_in_graphs_without_end_are_refused(folder: Path) -> None:
    def wrap(field: int, body: bytes) -> bytes:
        return onnx_file.encode_varint(field << 3 | 2) + onnx_file.encode_varint(len(body)) + body

    graph = b""
    for _ in range(3000):
        graph = wrap(1, wrap(5, wrap(6, graph)))  # a node with an attribute that is a graph
    with pytest.raises(ModelRefused, match="at most 100 messages in messages"):
        inline(pointing("w.bin") + wrap(7, graph), folder, LIMIT)

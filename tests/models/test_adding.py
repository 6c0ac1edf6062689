"""A network from elsewhere: what is refused and why, and that what is added serves."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from models import adding, repository
from models.adding import About, golden_batch, read_golden, read_network, seeded_batch
from models.engine import ModelCorrupt, ModelError, ModelIncompatible, ModelRefused, TensorSpec
from models.golden import GoldenBatch
from models.inspection import Network, inspect
from models.repository import Repository
from tests.models import networks

FLOAT = TensorProto.FLOAT
ABOUT = About("Multiplies by 1 to 4.", "Apache-2.0")
Shape = Sequence[int | str | None]


def by_complaint(value: object) -> str:
    """The name of a case: what is complained of, not the network's bytes."""
    return value if isinstance(value, str) else ""


def network(
    nodes: Sequence[onnx.NodeProto],
    inputs: dict[str, tuple[int, Shape]] | None = None,
    outputs: dict[str, tuple[int, Shape]] | None = None,
    weights: Sequence[onnx.TensorProto] = (),
    domains: Sequence[str] = (),
) -> bytes:
    def infos(tensors: dict[str, tuple[int, Shape]]) -> list[onnx.ValueInfoProto]:
        return [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in tensors.items()]

    graph = helper.make_graph(
        list(nodes),
        "by-hand",
        infos(inputs or {"x": (FLOAT, ["n", 4])}),
        infos(outputs or {"y": (FLOAT, ["n", 4])}),
        list(weights),
    )
    opsets = [helper.make_opsetid("", 17), *(helper.make_opsetid(domain, 1) for domain in domains)]
    encoded: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
    return encoded


def one(kind: str, **more: Any) -> list[onnx.NodeProto]:
    return [helper.make_node(kind, ["x"], ["y"], **more)]


NARROW = network(
    [helper.make_node("Gather", ["table", "x"], ["y"])],  # whose table has one row, and no index 1
    {"x": (TensorProto.INT64, ["n"])},
    weights=[numpy_helper.from_array(np.zeros((1, 4), np.float32), "table")],
)
WHERE = network(
    [helper.make_node("NonZero", ["x"], ["places"]), helper.make_node("Transpose", ["places"], ["y"])],
    outputs={"y": (TensorProto.INT64, ["m", 2])},
)


def inspected(onnx_bytes: bytes | None = None) -> Network:
    return inspect(networks.scaling().SerializeToString() if onnx_bytes is None else onnx_bytes, "mine.onnx")


# What it is


def test_a_plain_network_is_understood() -> None:
    got = inspected()
    assert got.inputs == (TensorSpec("x", "float32", (None, 4)),)
    assert got.outputs == (TensorSpec("y", "float32", (None, 4)),)
    assert got.structure.operators == {"Mul": 1}


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "got one without operators"),
        (b"<!DOCTYPE html>", "expected an ONNX file: reading ONNX protobuf"),
        (network([]), "got one without operators"),
        (networks.scaling().SerializeToString()[:-9], "expected an ONNX file: reading ONNX protobuf"),
        (network(one("Frobnicate")), "Frobnicate"),
        (network([helper.make_node("Relu", ["z"], ["y"])]), "ONNX Runtime .* cannot make a session of it"),
    ],
    ids=by_complaint,
)
def test_what_onnx_runtime_cannot_load_is_corrupt(data: bytes, complaint: str) -> None:
    with pytest.raises(ModelCorrupt, match=complaint) as caught:
        inspected(data)
    assert "mine.onnx" in str(caught.value)


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (network(one("Fancy", domain="ours"), domains=["ours"]), "no operator ours:Fancy: export .* without custom"),
        (network(one("Relu"), {"x": (FLOAT, [1, 4])}, {"y": (FLOAT, [1, 4])}), r"got `x: float32 \[1, 4\]`: export .*"),
        (network(one("Relu"), {"x": (FLOAT, [])}, {"y": (FLOAT, [])}), "expected a free first axis"),
        (
            network(one("ReduceSum", keepdims=0), outputs={"y": (FLOAT, [])}),
            "free first axis, the batch, of every output",
        ),
        (
            network(one("Relu"), {"x": (FLOAT, ["n", 0])}, {"y": (FLOAT, ["n", 0])}),
            r"expected inputs with something in them, got `x: float32 \[n, 0\]`",
        ),
        (network(one("Relu"), {"x": (FLOAT, ["n", 2**20 + 1])}, {"y": (FLOAT, ["n", 2**20 + 1])}), "got .1048577."),
        (
            network(one("Relu"), {"x": (FLOAT, ["n", 2**16, 2**16])}, {"y": (FLOAT, ["n", 2**16, 2**16])}),
            r"at most 2147483648 elements, got \[65536, 65536\] for `[xy]`",
        ),
        (
            network(one("Cast", to=TensorProto.STRING), outputs={"y": (TensorProto.STRING, ["n", 4])}),
            r"got `y` of tensor\(string\)",
        ),
        (
            network(one("Cast", to=TensorProto.UINT16), outputs={"y": (TensorProto.UINT16, ["n", 4])}),
            r"got `y` of tensor\(uint16\)",
        ),
    ],
    ids=by_complaint,
)
def test_what_cannot_be_fed_is_refused(data: bytes, complaint: str) -> None:
    with pytest.raises(ModelRefused, match=complaint) as caught:
        inspected(data)
    assert str(caught.value).startswith("inspecting mine.onnx: ")
    assert str(caught.value).endswith("; nothing was added")


def test_a_name_that_would_play_with_the_terminal_is_refused() -> None:
    node = helper.make_node("Relu", ["x\x1b[2J"], ["y"])
    with pytest.raises(ModelRefused, match="expected names of at most 256 characters, none of them a control"):
        inspected(network([node], {"x\x1b[2J": (FLOAT, ["n", 4])}))
    with pytest.raises(ModelRefused, match="expected names of at most 256"):
        inspected(network([helper.make_node("R" * 300, ["x"], ["y"])]))


def test_a_map_of_scikit_learn_says_what_to_do() -> None:
    data = networks.scaling()
    data.opset_import.add(domain="ai.onnx.ml", version=1)
    data.graph.node.append(
        helper.make_node("ZipMap", ["y"], ["z"], domain="ai.onnx.ml", classlabels_int64s=[0, 1, 2, 3])
    )
    data.graph.output[0].CopyFrom(
        onnx.ValueInfoProto(
            name="z",
            type=helper.make_sequence_type_proto(
                helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(FLOAT, []))
            ),
        )
    )
    with pytest.raises(ModelRefused, match="of scikit-learn, convert with zipmap=False"):
        inspected(data.SerializeToString())


def test_operators_that_the_file_defines_itself_are_not_foreign() -> None:
    data = onnx.load_from_string(network(one("Double", domain="ours"), domains=["ours"]))
    body = [helper.make_node("Add", ["a", "a"], ["b"])]
    data.functions.append(helper.make_function("ours", "Double", ["a"], ["b"], body, [helper.make_opsetid("", 17)]))
    assert inspected(data.SerializeToString()).structure.operators == {"ours:Double": 1, "Add": 1}


def test_weights_may_have_long_axes() -> None:
    table = numpy_helper.from_array(np.zeros((2**20 + 1, 1), np.float32), "table")
    node = helper.make_node("Gather", ["table", "x"], ["y"])
    data = network([node], {"x": (TensorProto.INT64, ["n"])}, {"y": (FLOAT, ["n", 1])}, [table])
    assert inspected(data).structure.parameters == 2**20 + 1


def test_weights_beside_the_file_are_read_only_with_it(tmp_path: Path) -> None:
    onnx.save(networks.scaling(), tmp_path / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    with pytest.raises(ModelRefused, match="expected all weights in one file"):
        inspected((tmp_path / "m.onnx").read_bytes())
    assert golden_batch(inspected(read_network(tmp_path / "m.onnx")), "m")
    (tmp_path / "w.bin").unlink()
    with pytest.raises(
        ModelRefused,
        match=r"reading .*m\.onnx: reading weights from 'w\.bin': there is none; give the ONNX file with its",
    ):
        read_network(tmp_path / "m.onnx")


def test_a_file_is_what_its_sha256_says_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(data := networks.scaling().SerializeToString())
    assert read_network(path, hashlib.sha256(data).hexdigest()) == data
    with pytest.raises(ModelRefused, match=f"expected sha256 {'0' * 64}, got "):
        read_network(path, "0" * 64)
    (tmp_path / "link").symlink_to(path)
    assert read_network(tmp_path / "link") == data


def test_a_file_that_is_too_large_or_none_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelCorrupt, match="No such file or directory; nothing was added"):
        read_network(tmp_path / "m.onnx")
    with pytest.raises(ModelCorrupt, match="expected a file, got a folder"):
        read_network(tmp_path)
    (tmp_path / "page.onnx").write_text("<!DOCTYPE html>")
    with pytest.raises(ModelCorrupt, match=r"reading .*page\.onnx: expected an ONNX file: .*; nothing was added"):
        read_network(tmp_path / "page.onnx")
    with (tmp_path / "huge.onnx").open("wb") as file:
        file.truncate(2**31 + 1)  # takes no room
    with pytest.raises(ModelCorrupt, match="expected at most 2147483648 bytes, got 2147483649"):
        read_network(tmp_path / "huge.onnx")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "the file is empty"),
        (b"\n <!DOCTYPE html><html>", "it is a web page, as a download leaves it that needs a login"),
        (b"<?xml version='1.0'?><net>", "it is XML, such as OpenVINO's: export the network to ONNX"),
        (b"PK\x03\x04\x00\x00archive/data.pkl", "it is a zip archive, such as PyTorch's .pt files"),
        (b"\x80\x02}q\x00X", "it is a pickle, such as PyTorch's older .pt files"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "fetch it with `git lfs pull`"),
        (b"\x1c\x00\x00\x00TFL3\x14\x00", "it is a network of TensorFlow Lite"),
        (b"\x89HDF\r\n\x1a\n", "it is an HDF5 file, such as Keras's"),
        (b"ftrt\x00\x00", "it is an engine of TensorRT, which fits one GPU only"),
        (b'\x55\x02\x00\x00{"description": "Ultralytics"}', "it is an engine of TensorRT"),
        (b"\x1f\x8b\x08\x00", "it is compressed with gzip: unpack it first"),
        (b'{"message": "Not Found"}', "it is JSON, perhaps what a server said in place of the file"),
        (networks.scaling().SerializeToString()[:-9], "or was cut off or damaged"),
    ],
)
def test_a_file_of_another_kind_is_called_what_it_is(tmp_path: Path, data: bytes, words: str) -> None:
    (tmp_path / "other.onnx").write_bytes(data)
    with pytest.raises(ModelCorrupt, match=rf"reading .*other\.onnx: expected an ONNX file: .*{re.escape(words)}"):
        read_network(tmp_path / "other.onnx")


def test_an_operator_of_tensorrts_plugins_is_foreign_in_whichever_domain() -> None:
    for domain, name in (("", "EfficientNMS_TRT"), ("TRT", "TRT:EfficientNMS_TRT")):
        with pytest.raises(ModelRefused, match=f"ONNX Runtime has no operator {name}: export the network without"):
            inspected(network([helper.make_node("EfficientNMS_TRT", ["x"], ["y"], domain=domain)]))


# The golden batch


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int64", "int32", "uint8", "int8", "bool"])
def test_a_seeded_batch_suits_its_specs_and_is_the_same_twice(dtype: str) -> None:
    specs = [TensorSpec("a", dtype, (None, 3, None)), TensorSpec("b", dtype, (None,))]
    batch, again = seeded_batch(specs), seeded_batch(specs)
    assert all(spec.accepts(batch[spec.name]) for spec in specs)
    assert {len(array) for array in batch.values()} == {8}
    assert len(np.unique(batch["a"])) > 1
    for name, array in batch.items():
        np.testing.assert_array_equal(array, again[name])


def test_a_seeded_batch_of_large_rows_is_short() -> None:
    assert len(seeded_batch([TensorSpec("image", "uint8", (None, 3, 1000, 1000))])["image"]) == 2
    with pytest.raises(ModelRefused, match="expected rows of at most"):
        seeded_batch([TensorSpec("image", "float32", (None, 2**20, 16))])


def test_the_golden_batch_is_what_the_network_computes() -> None:
    golden = golden_batch(inspected(), "mine")
    np.testing.assert_array_equal(golden.outputs["y"], golden.inputs["x"] * networks.WEIGHTS)


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (network(one("Log")), "expected finite numbers in `y`, got NaN or infinity; give a batch that it can take"),
        (NARROW, "ONNX Runtime failed on .*; give a batch that it can take with --golden FILE.npz"),
        (network(one("Softmax", axis=0)), "its rows depend on each other"),
        (network(one("RandomNormalLike")), "it is not the same twice"),
        (WHERE, "expected 8 rows of `y`, one for each of the input, got .32, 2."),
    ],
    ids=by_complaint,
)
def test_a_network_that_cannot_serve_rows_is_refused(data: bytes, complaint: str) -> None:
    with pytest.raises(ModelRefused, match=complaint) as caught:
        golden_batch(inspected(data), "mine")
    assert str(caught.value).endswith("; nothing was added")


X = np.arange(12, dtype=np.float32).reshape(3, 4)


@pytest.mark.parametrize("names", [("x", "y"), ("input.x", "output.y"), ("x", None)])
def test_a_given_batch_is_kept(tmp_path: Path, names: tuple[str, str | None]) -> None:
    arrays = {names[0]: X} | ({names[1]: X * networks.WEIGHTS + np.float32(1e-6)} if names[1] else {})
    np.savez(tmp_path / "g.npz", **arrays)  # type: ignore[arg-type]
    golden = golden_batch(inspected(), "mine", read_golden(tmp_path / "g.npz", inspected()))
    np.testing.assert_array_equal(golden.inputs["x"], X)
    np.testing.assert_array_equal(golden.outputs["y"], arrays.get(names[1] or "", X * networks.WEIGHTS))


@pytest.mark.parametrize(
    ("arrays", "complaint"),
    [
        ({"x": X, "y": X}, "the network gives something else than the batch says"),
        ({"x": X, "y": X[:2]}, "expected .2, 4., got .3, 4."),
        ({"x": X.astype(np.float64)}, r"expected `x: float32 \[n, 4\]`, got float64 \[3, 4\]"),
        ({"x": X[:, :3]}, r"got float32 \[3, 3\]"),
        ({"y": X}, "got no tensors"),
        ({"x": X, "z": X}, r"expected arrays named \['x', 'y'\], got \['z'\] as well"),
        ({"x": X[:0]}, "expected as many rows in every input, one at least, got .0."),
        ({"x": np.full((3, 4), 3e38, np.float32)}, "expected finite numbers in `y`, got NaN or infinity; nothing"),
        ({"x": np.array([object()])}, "expected .x.npy. to hold numbers, got object"),
    ],
)
def test_a_given_batch_that_does_not_fit_is_refused(tmp_path: Path, arrays: dict[str, Any], complaint: str) -> None:
    np.savez(tmp_path / "g.npz", **arrays)
    with pytest.raises((ModelRefused, ModelCorrupt), match=complaint):
        golden_batch(inspected(), "mine", read_golden(tmp_path / "g.npz", inspected()))


def test_inputs_of_different_lengths_are_refused() -> None:
    two = network(
        [helper.make_node("Identity", ["x"], ["y"]), helper.make_node("Identity", ["z"], ["w"])],
        {"x": (FLOAT, ["n", 4]), "z": (FLOAT, ["n", 4])},
        {"y": (FLOAT, ["n", 4]), "w": (FLOAT, ["n", 4])},
    )
    with pytest.raises(ModelRefused, match=r"as many rows in every input, one at least, got \[2, 3\]"):
        golden_batch(inspected(two), "mine", ({"x": X, "z": X[:2]}, {}))


# Adding


def add(root: Path, data: bytes | None = None, about: About = ABOUT) -> repository.Model:
    found = inspected(data)
    return adding.add(Repository([root]), "mine", found, golden_batch(found, "mine"), about)


def test_what_is_added_serves(tmp_path: Path) -> None:
    about = About("Multiplies.", "MIT", "mine.onnx", "habits/1", ("a", "b", "c", "d"), {"review": 0.1}, {"amount": 1.5})
    model = add(tmp_path, about=about)
    assert (model.reference, model.path) == ("mine/1", tmp_path / "mine" / "1")
    manifest = Repository([tmp_path]).load("mine").manifest
    assert (manifest.description, manifest.licence, manifest.source) == ("Multiplies.", "MIT", "mine.onnx")
    assert (manifest.state, manifest.labels) == ("habits/1", ("a", "b", "c", "d"))
    assert (manifest.thresholds, manifest.baseline) == ({"review": 0.1}, {"amount": 1.5})
    engine = repository.open_engine(model)
    np.testing.assert_array_equal(engine.infer({"x": X})["y"], X * networks.WEIGHTS)
    engine.close()
    assert add(tmp_path).reference == "mine/2"


def test_axes_that_are_free_beside_the_batch_stay_free(tmp_path: Path) -> None:
    data = network(one("Relu"), {"x": (FLOAT, ["n", "time", 4])}, {"y": (FLOAT, ["n", "time", 4])})
    model = add(tmp_path, data)
    assert model.manifest.inputs[0].shape == (-1, -1, 4)
    engine = repository.open_engine(model)
    assert engine.infer({"x": np.zeros((2, 5, 4), np.float32)})["y"].shape == (2, 5, 4)
    engine.close()


@pytest.mark.parametrize(
    ("about", "complaint"),
    [
        (About("x\x1b[2J", "MIT"), "control characters"),
        (About("x", "MIT", thresholds={"a": float("nan")}), "finite"),
    ],
)
def test_what_the_manifest_refuses_is_not_written(tmp_path: Path, about: About, complaint: str) -> None:
    with pytest.raises(ModelError, match=complaint):
        add(tmp_path, about=about)
    assert list(tmp_path.iterdir()) == []


def test_a_version_that_cannot_be_opened_goes_again(tmp_path: Path) -> None:
    found = inspected()
    wrong = GoldenBatch({"x": X}, {"y": X})
    with pytest.raises(ModelIncompatible, match="replaying the golden batch of mine/1"):
        adding.add(Repository([tmp_path]), "mine", found, wrong, ABOUT)
    assert Repository([tmp_path]).names() == []

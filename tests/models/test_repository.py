from __future__ import annotations

import hashlib
import pickle
import resource
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest

from models import manifest as manifest_file
from models import onnx_file, repository
from models.engine import (
    EngineUnavailable,
    ModelCorrupt,
    ModelError,
    ModelExists,
    ModelIncompatible,
    ModelNotFound,
    RepositoryUnusable,
)
from models.golden import GoldenBatch
from models.manifest import Tolerance
from models.repository import Repository
from tests.models import networks


def rewrite(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def save_arrays(path: Path, arrays: dict[str, Any]) -> None:
    np.savez(path, **arrays)


def test_a_saved_model_loads_and_serves(tmp_path: Path) -> None:
    saved = networks.save(tmp_path)
    model = Repository([tmp_path]).load("scaling")
    assert model == saved
    assert model.reference == "scaling/1"
    assert model.manifest.sha256 == hashlib.sha256(model.onnx_path.read_bytes()).hexdigest()
    engine = repository.open_engine(model, "onnx-cpu")
    assert engine.name == "onnx-cpu"
    assert engine.infer({"x": np.ones((2, 4), np.float32)})["y"].tolist() == [[1, 2, 3, 4]] * 2


def test_versions_are_numbers_and_the_first_serves(tmp_path: Path) -> None:
    for version in (9, 10, 2):
        networks.save(tmp_path, version)
    (tmp_path / "scaling" / ".11.half-written").mkdir()
    (tmp_path / "scaling" / "012").mkdir()
    (tmp_path / "notes.txt").write_text("not a model")
    assert Repository([tmp_path]).versions("scaling") == [2, 9, 10]
    assert Repository([tmp_path]).names() == ["scaling"]
    assert Repository([tmp_path]).load("scaling").version == 2
    assert Repository([tmp_path]).load("scaling", 10).version == 10


@pytest.mark.parametrize("name", ["fraud", "../scaling", "", ".", "scaling/1"])
def test_an_unknown_name_says_what_there_is(tmp_path: Path, name: str) -> None:
    networks.save(tmp_path)
    with pytest.raises(ModelNotFound, match=r"no such model; there is scaling$"):
        Repository([tmp_path]).load(name)


def test_an_unknown_version_or_folder_says_what_there_is(tmp_path: Path) -> None:
    networks.save(tmp_path)
    with pytest.raises(ModelNotFound, match=r"no version 7; there is 1$"):
        Repository([tmp_path]).load("scaling", 7)
    with pytest.raises(ModelNotFound, match="there is none"):
        Repository([tmp_path / "nowhere"]).load("scaling")


def test_a_version_is_never_overwritten(tmp_path: Path) -> None:
    before = networks.save(tmp_path).onnx_path.read_bytes()
    with pytest.raises(ModelExists, match="nothing was written"):
        Repository([tmp_path]).save(networks.folding().SerializeToString(), networks.manifest(), networks.golden())
    assert Repository([tmp_path]).load("scaling").onnx_path.read_bytes() == before
    assert [path.name for path in (tmp_path / "scaling").iterdir()] == ["1"]


def test_a_save_that_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    bad = GoldenBatch({"x": np.array([object()])}, {"y": np.zeros(1)})
    with pytest.raises(ValueError, match="allow_pickle"):
        Repository([tmp_path]).save(networks.scaling().SerializeToString(), networks.manifest(), bad)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, hard))  # the network fits, the manifest does not
    try:
        with pytest.raises(RepositoryUnusable, match=r"saving .*scaling/1: .*; nothing was written"):
            networks.save(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list((tmp_path / "scaling").iterdir()) == []


def test_a_changed_network_is_refused_at_load_and_at_open(tmp_path: Path) -> None:
    model = networks.save(tmp_path)
    data = bytearray(model.onnx_path.read_bytes())
    data[-1] ^= 1
    model.onnx_path.write_bytes(data)
    with pytest.raises(
        ModelCorrupt, match=f"expected sha256 {model.manifest.sha256}, got {hashlib.sha256(data).hexdigest()}"
    ):
        Repository([tmp_path]).load("scaling")
    with pytest.raises(ModelCorrupt, match="expected sha256"):
        repository.open_engine(model)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('licence = "Apache-2.0"', 'license = "Apache-2.0"', "unknown field `license`"),
        ('name = "scaling"', 'name = "other"', "expected scaling/1 as the folder says, got other/1"),
        ('name = "scaling"', 'name = "../x"', "expected `name` of lower-case"),
        ("version = 1", 'version = "1"', r"Expected `int`, got `str` - at `\$.version`"),
        ("version = 1", "version = 0", "expected `version` of 1 or more, at most 9 digits, got 0"),
        ("flag = 0.5", "flag = nan", "expected a finite `thresholds.flag`, got nan"),
        ("flag = 0.5", "flag =", "decoding manifest"),
        ('sha256 = "', 'sha256 = "x', "expected `sha256` of 64"),
        ('sha256 = "', 'sample = "x"\nsha256 = "', "expected `sample` of 64"),
        ("-1,", "-2,", "expected axes of `shape`"),
    ],
)
def test_a_bad_manifest_names_the_file_and_the_field(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    source = networks.save(tmp_path).path / "manifest.toml"
    rewrite(source, old, new)
    with pytest.raises(ModelCorrupt, match=complaint) as caught:
        Repository([tmp_path]).load("scaling")
    assert str(source) in str(caught.value)


def test_a_manifest_that_is_not_utf8_is_corrupt(tmp_path: Path) -> None:
    source = networks.save(tmp_path).path / "manifest.toml"
    source.write_bytes(b"\xff\xfe" + source.read_bytes())
    with pytest.raises(ModelCorrupt, match="decoding manifest"):
        Repository([tmp_path]).load("scaling")


def test_a_manifest_survives_writing_and_reading(tmp_path: Path) -> None:
    manifest = networks.manifest(
        sha256="a" * 64,
        labels=("genuine", "fraud"),
        baseline={"amount": 1.5},
        quality={"roc_auc": 0.9},
        golden=Tolerance(0.1, 0.2),
    )
    assert manifest_file.decode(manifest_file.encode(manifest), "here") == manifest


@pytest.mark.parametrize("file", ["model.onnx", "manifest.toml", "golden.npz"])
def test_a_missing_file_is_named(tmp_path: Path, file: str) -> None:
    path = networks.save(tmp_path).path / file
    path.unlink()
    with pytest.raises(ModelCorrupt, match=str(path)):
        repository.open_engine(Repository([tmp_path]).load("scaling"))


def test_files_over_the_limit_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    networks.save(tmp_path)
    monkeypatch.setattr(repository, "MAX_ONNX_BYTES", 10)
    with pytest.raises(ModelCorrupt, match=r"model.onnx: expected at most 10 bytes, got \d+"):
        Repository([tmp_path]).load("scaling")


def test_external_data_is_refused(tmp_path: Path) -> None:
    onnx.save(networks.scaling(), tmp_path / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    with pytest.raises(ModelCorrupt, match="got external data"):
        Repository([tmp_path]).save((tmp_path / "m.onnx").read_bytes(), networks.manifest(), networks.golden())


def test_external_data_is_found_inside_a_branch() -> None:
    outside = onnx.TensorProto(name="w", data_type=1, dims=[1], data_location=onnx.TensorProto.EXTERNAL)
    outside.external_data.add(key="location", value="/etc/passwd")
    branch = onnx.helper.make_graph([onnx.helper.make_node("Constant", [], ["c"], value=outside)], "branch", [], [])
    choice = onnx.helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch)
    model = onnx.helper.make_model(onnx.helper.make_graph([choice], "g", [], []))
    assert onnx_file.has_external_data(model.SerializeToString())
    assert not onnx_file.has_external_data(networks.scaling().SerializeToString())


@pytest.mark.parametrize("cut", range(1, 200, 7))
def test_a_truncated_network_is_corrupt_never_a_crash(cut: int) -> None:
    data = networks.scaling().SerializeToString()[:-cut]
    try:
        onnx_file.has_external_data(data)
    except ModelCorrupt as error:
        assert str(error).startswith("reading ONNX protobuf")


def test_a_golden_batch_that_is_not_reproduced_is_refused(tmp_path: Path) -> None:
    golden = networks.golden()
    wrong = GoldenBatch(golden.inputs, {"y": golden.outputs["y"] + np.float32(0.01)})
    model = Repository([tmp_path]).save(networks.scaling().SerializeToString(), networks.manifest(), wrong)
    with pytest.raises(ModelIncompatible, match=r"output `y`: expected to be within .* got 0.01 off"):
        repository.open_engine(model)
    lenient = networks.manifest(2, golden=Tolerance(atol=0.1))
    repository.open_engine(Repository([tmp_path]).save(networks.scaling().SerializeToString(), lenient, wrong))


def test_a_golden_batch_of_another_shape_is_refused(tmp_path: Path) -> None:
    golden = networks.golden()
    wrong = GoldenBatch(golden.inputs, {"y": golden.outputs["y"][:, :3]})
    model = Repository([tmp_path]).save(networks.scaling().SerializeToString(), networks.manifest(), wrong)
    with pytest.raises(ModelIncompatible, match=r"expected \[3, 3\], got \[3, 4\]"):
        repository.open_engine(model)


class Burglar:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return pytest.fail, ("the golden batch was unpickled",)


def test_a_golden_batch_is_never_unpickled(tmp_path: Path) -> None:
    model = networks.save(tmp_path)
    golden = model.path / "golden.npz"
    save_arrays(golden, {"input.x": np.array([Burglar()], dtype=object), "output.y": np.zeros(1)})
    with pytest.raises(ModelCorrupt, match="reading golden batch"):
        repository.open_engine(model)
    golden.write_bytes(pickle.dumps(Burglar()))
    with pytest.raises(ModelCorrupt, match="reading golden batch"):
        repository.open_engine(model)


def test_a_golden_batch_without_outputs_is_corrupt(tmp_path: Path) -> None:
    model = networks.save(tmp_path)
    save_arrays(model.path / "golden.npz", {"input.x": np.zeros((1, 4), np.float32)})
    with pytest.raises(ModelCorrupt, match=r"expected rows of input.\* and output.\*"):
        repository.open_engine(model)


def test_a_golden_batch_that_unpacks_to_too_much_is_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = networks.save(tmp_path)
    small = np.zeros((3000, 4), np.float32)
    np.savez_compressed(model.path / "golden.npz", **{"input.x": small, "output.y": small})
    monkeypatch.setattr("models.golden.MAX_GOLDEN_BYTES", 10_000)
    with pytest.raises(ModelCorrupt, match=r"expected at most 10000 bytes, got 96\d\d\d"):
        repository.open_engine(model)


def test_a_manifest_whose_tensors_are_not_the_networks_is_refused(tmp_path: Path) -> None:
    entry = msgspec.structs.replace(networks.manifest().inputs[0], shape=(-1, 5))
    model = networks.save(tmp_path, inputs=(entry,))
    with pytest.raises(
        ModelIncompatible, match=r"the manifest says \['x: float32 \[n, 5\]'\].*has \['x: float32 \[n, 4\]'\]"
    ):
        repository.open_engine(model)


def test_an_unknown_engine_lists_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailable, match=r"no engine 'tpu'; there is auto, tensorrt, .*onnx-cpu"):
        repository.open_engine(networks.save(tmp_path), "tpu")


def test_a_sample_is_saved_with_its_sha256_and_read_back(tmp_path: Path) -> None:
    model = networks.save(tmp_path, sample=networks.sample())
    assert model.manifest.sample == hashlib.sha256((model.path / "sample.npz").read_bytes()).hexdigest()
    read = Repository([tmp_path]).load("scaling").sample()
    assert read is not None
    assert read.encode() == networks.sample().encode()
    assert networks.save(tmp_path, 2).sample() is None
    assert not (tmp_path / "scaling" / "2" / "sample.npz").exists()


def test_a_sample_that_is_not_the_manifests_is_refused_and_the_model_still_serves(tmp_path: Path) -> None:
    model = networks.save(tmp_path, sample=networks.sample())
    path = model.path / "sample.npz"
    path.write_bytes(networks.sample(1).encode())
    with pytest.raises(ModelCorrupt, match=f"expected sha256 {model.manifest.sample}, got .*drift is not watched"):
        Repository([tmp_path]).load("scaling").sample()
    repository.open_engine(Repository([tmp_path]).load("scaling")).close()
    path.unlink()
    with pytest.raises(ModelCorrupt, match=r"sample\.npz"):
        model.sample()


def test_a_sample_is_added_once_and_changes_nothing_else(tmp_path: Path) -> None:
    before = networks.save(tmp_path)
    files = {name: (before.path / name).read_bytes() for name in ("model.onnx", "golden.npz")}
    after = Repository([tmp_path]).add_sample(before, networks.sample())
    assert after.sample() is not None
    assert msgspec.structs.replace(after.manifest, sample="") == before.manifest
    assert {name: (before.path / name).read_bytes() for name in files} == files
    assert sorted(path.name for path in before.path.iterdir()) == [*sorted([*files, "manifest.toml", "sample.npz"])]
    with pytest.raises(ModelExists, match="has one already; nothing was written"):
        Repository([tmp_path]).add_sample(after, networks.sample(1))
    assert (after.path / "sample.npz").read_bytes() == networks.sample().encode()


def test_a_sample_that_cannot_be_written_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    model = networks.save(tmp_path)
    (model.path / "sample.npz").mkdir()
    with pytest.raises(ModelError, match="scaling/1 is as it was"):
        Repository([tmp_path]).add_sample(model, networks.sample())
    assert Repository([tmp_path]).load("scaling").sample() is None
    assert sorted(path.name for path in model.path.iterdir()) == [
        "golden.npz", "manifest.toml", "model.onnx", "sample.npz",
    ]  # fmt: skip

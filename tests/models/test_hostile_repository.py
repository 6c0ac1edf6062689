"""Folders that somebody else has filled: every one ends in a sentence, none in a crash, a hang or a full memory."""

from __future__ import annotations

import io
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from models import golden as golden_file
from models import manifest as manifest_file
from models.engine import ModelCorrupt, RepositoryUnusable
from models.golden import MAX_GOLDEN_BYTES
from models.manifest import Tolerance
from models.repository import MAX_MANIFEST_BYTES, Model, Repository
from tests.models import networks

FILES = ["model.onnx", "manifest.toml", "golden.npz"]


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return networks.save(tmp_path)


def open_whole(root: Path) -> None:
    Repository([root]).load("scaling").golden()


@pytest.mark.parametrize("file", FILES)
def test_a_file_that_is_a_link_is_refused(tmp_path: Path, model: Model, file: str) -> None:
    shutil.move(model.path / file, tmp_path / "elsewhere")
    (model.path / file).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ModelCorrupt, match=f"{file}: expected a file, got a link; the model is not served"):
        open_whole(tmp_path)


@pytest.mark.parametrize("file", FILES)
def test_a_file_that_is_a_pipe_or_a_folder_is_refused_and_not_waited_for(
    tmp_path: Path, model: Model, file: str
) -> None:
    (model.path / file).unlink()
    os.mkfifo(model.path / file)
    with pytest.raises(ModelCorrupt, match=f"{file}: expected a file, got a device or a pipe"):
        open_whole(tmp_path)
    (model.path / file).unlink()
    (model.path / file).mkdir()
    with pytest.raises(ModelCorrupt, match=f"{file}: expected a file, got a folder"):
        open_whole(tmp_path)


@pytest.mark.parametrize("place", ["scaling", "scaling/1"])
def test_a_folder_that_is_a_link_is_refused(tmp_path: Path, model: Model, place: str) -> None:
    shutil.move(tmp_path / place, tmp_path / "elsewhere")
    (tmp_path / place).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ModelCorrupt, match=f"{place}: expected a folder, got a link"):
        open_whole(tmp_path)


def test_a_link_to_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "scaling").symlink_to(tmp_path / "scaling")
    with pytest.raises(RepositoryUnusable, match="Too many levels of symbolic links"):
        Repository([tmp_path]).load("scaling")


def test_a_manifest_of_ten_megabytes_is_not_read(tmp_path: Path, model: Model) -> None:
    (model.path / "manifest.toml").write_bytes(b"#" * 10_000_000)
    with pytest.raises(ModelCorrupt, match=f"expected at most {MAX_MANIFEST_BYTES} bytes, got 10000000"):
        open_whole(tmp_path)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (b"a = " + b"[" * 50_000, "tables in tables too deep"),
        (b"a" + b".a" * 50_000 + b" = 1", "a key has 16 parts or more"),
        (b"'a'" + b" . 'a'" * 30_000 + b" = 1", "a key has 16 parts or more"),
        (b"", "missing required field `name`"),
        (b"\0", "decoding manifest"),
    ],
)
def test_a_manifest_that_is_hard_to_read_is_not(text: bytes, complaint: str) -> None:
    with pytest.raises(ModelCorrupt, match=complaint):
        manifest_file.decode(text, "here")


def test_a_byte_order_mark_is_no_part_of_a_manifest() -> None:
    text = manifest_file.encode(networks.manifest())
    assert manifest_file.decode(b"\xef\xbb\xbf" + text, "here") == manifest_file.decode(text, "here")


@pytest.mark.parametrize("key", ["rtol", "atol"])
@pytest.mark.parametrize("value", [float("inf"), float("nan"), -0.1])
def test_a_tolerance_that_would_pass_any_network_is_refused(key: str, value: float) -> None:
    text = manifest_file.encode(networks.manifest(golden=Tolerance(**{key: value})))
    with pytest.raises(ModelCorrupt, match=f"expected a finite `golden.{key}` of 0 or more, got {value}"):
        manifest_file.decode(text, "here")


@pytest.mark.parametrize(
    "changes",
    [
        {"description": "clear \x1b[2J"},
        {"labels": ("ok", "\x07")},
        {"thresholds": {"a\x1b": 0.5}},
    ],
)
def test_a_manifest_that_would_play_with_the_terminal_is_refused(changes: dict[str, object]) -> None:
    text = manifest_file.encode(networks.manifest(**changes))  # type: ignore[arg-type]
    with pytest.raises(ModelCorrupt, match="expected texts without control characters"):
        manifest_file.decode(text, "here")


def test_an_absurd_axis_in_a_manifest_is_refused(tmp_path: Path, model: Model) -> None:
    path = model.path / "manifest.toml"
    path.write_text(path.read_text().replace("    4,\n", "    1099511627776,\n", 1))
    with pytest.raises(ModelCorrupt, match=r"at most 1048576, got \[-1, 1099511627776"):
        open_whole(tmp_path)


@pytest.mark.parametrize("name", ["0", "01", "-1", "1.0", "٣", "9" * 20, "1e3", " 1", "latest"])
def test_what_is_no_version_does_not_count(tmp_path: Path, model: Model, name: str) -> None:
    shutil.copytree(model.path, tmp_path / "scaling" / name)
    models = Repository([tmp_path])
    assert models.versions("scaling") == [1]
    assert models.next_version("scaling") == 2


@pytest.mark.parametrize("name", ["..", "a b", "Scaling", ".hidden", "x" * 65, "naïve"])
def test_what_is_no_name_does_not_count(tmp_path: Path, name: str) -> None:
    networks.save(tmp_path)
    if name != "..":
        shutil.copytree(tmp_path / "scaling", tmp_path / name)
    models = Repository([tmp_path])
    assert models.names() == ["scaling"]
    assert models.versions(name) == []


# golden.npz


def write_npz(path: Path, entries: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> None:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)


def npy(array: np.ndarray, shape: tuple[int, ...] | None = None) -> bytes:  # type: ignore[type-arg]
    """An array as .npy, whose header says another shape where one is given."""
    buffer = io.BytesIO()
    header = {"descr": array.dtype.str, "fortran_order": False, "shape": shape or array.shape}
    np.lib.format.write_array_header_1_0(buffer, header)
    return buffer.getvalue() + array.tobytes()


def refusal(path: Path) -> str:
    with pytest.raises(ModelCorrupt) as caught:
        golden_file.decode(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_a_golden_bomb_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "golden.npz"
    write_npz(path, {"input.x.npy": bytes(MAX_GOLDEN_BYTES + 1)})
    assert path.stat().st_size < 100_000
    assert f"expected at most {MAX_GOLDEN_BYTES} bytes, got {MAX_GOLDEN_BYTES + 1}" in refusal(path)


def test_a_golden_bomb_that_lies_about_its_size_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "golden.npz"
    write_npz(path, {"input.x.npy": npy(np.zeros(50_000_000, np.uint8))})
    data = bytearray(path.read_bytes())
    size = (50_000_000 + 128).to_bytes(4, "little")
    assert data.count(size) == 2
    path.write_bytes(data.replace(size, (1000).to_bytes(4, "little")))
    assert "reading golden batch" in refusal(path)


@pytest.mark.parametrize("shape", [(2**40,), (2**31, 2**31), (3,), (-1,), (2,) * 200])
def test_a_header_that_says_more_than_there_is_reserves_nothing(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = tmp_path / "golden.npz"
    write_npz(path, {"input.x.npy": npy(np.zeros(8, np.uint8), shape)})
    assert "holds 8 bytes" in refusal(path)


@pytest.mark.parametrize(
    ("entries", "complaint"),
    [
        ({"input.x.npy": b"\x93NUMPY\x03\x00" + b"\0" * 100}, "of .npy version"),
        ({"input.x.npy": b"text"}, "reading golden batch"),
        ({"input.x.npy": npy(np.array(["a"]))}, "expected 'input.x.npy' to hold numbers, got <U1"),
        ({"input.x.npy": npy(np.zeros(3, "f4,i4"))}, "to hold numbers, got"),
        ({"input.x.npy": npy(np.zeros(3, np.complex64))}, "to hold numbers, got complex64"),
        ({"input.x.npy": npy(np.zeros((), np.float32))}, "expected rows of input"),
        ({"input.x.npy": npy(np.zeros((0, 4), np.float32))}, "expected rows of input"),
        ({f"{number}.npy": b"" for number in range(2000)}, "expected at most 1024 arrays"),
        ({}, "expected rows of input"),
    ],
)
def test_a_golden_batch_that_is_none_says_what_is_wrong(
    tmp_path: Path, entries: dict[str, bytes], complaint: str
) -> None:
    path = tmp_path / "golden.npz"
    write_npz(path, entries)
    assert complaint in refusal(path)


def test_arrays_packed_in_another_way_than_numpys_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "golden.npz"
    write_npz(path, {"input.x.npy": npy(np.zeros(4))}, zipfile.ZIP_LZMA)
    assert "compressed in another way" in refusal(path)


@pytest.mark.parametrize("cut", [1, 10, 60, 200])
def test_a_golden_batch_that_ends_early_is_corrupt(tmp_path: Path, model: Model, cut: int) -> None:
    path = model.path / "golden.npz"
    path.write_bytes(path.read_bytes()[:-cut])
    assert "reading golden batch" in refusal(path)


def test_arrays_come_back_as_numpy_wrote_them(tmp_path: Path) -> None:
    arrays = {
        "input.rows": np.arange(6.0).reshape(2, 3),
        "input.columns": np.asfortranarray(np.arange(6, dtype=np.int64).reshape(2, 3)),
        "output.flags": np.array([True, False]),
        "output.swapped": np.arange(4, dtype=">f4"),
    }
    np.savez(tmp_path / "golden.npz", **arrays)
    golden = golden_file.decode(tmp_path / "golden.npz")
    for name, array in arrays.items():
        side, _, bare = name.partition(".")
        got = (golden.inputs if side == "input" else golden.outputs)[bare]
        np.testing.assert_array_equal(got, array)
        assert got.dtype == array.dtype


# What may not be read


@pytest.fixture
def nobody() -> Iterator[Path]:
    """A folder, and no right to read what others lock: root may read everything."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    was = os.geteuid()
    if was == 0:
        os.seteuid(65534)
    yield folder
    os.seteuid(was)
    for path in folder.rglob("*"):
        if path.is_dir():
            path.chmod(0o777)
    shutil.rmtree(folder)


def test_a_file_that_may_not_be_read_is_named(nobody: Path) -> None:
    path = networks.save(nobody).path / "manifest.toml"
    path.chmod(0)
    with pytest.raises(ModelCorrupt, match=r"manifest\.toml: Permission denied; the model is not served"):
        open_whole(nobody)


def test_a_folder_that_may_not_be_read_is_named(nobody: Path) -> None:
    networks.save(nobody)
    (nobody / "scaling").chmod(0)
    with pytest.raises(RepositoryUnusable, match=r"reading .*/scaling: Permission denied"):
        Repository([nobody]).load("scaling")


def test_a_folder_that_may_not_be_written_is_named(nobody: Path) -> None:
    networks.save(nobody)
    (nobody / "scaling").chmod(0o555)
    with pytest.raises(RepositoryUnusable, match=r"saving .*/2: Permission denied; nothing was written"):
        networks.save(nobody, 2)
    with pytest.raises(RepositoryUnusable, match=r"saving .*/2: .*/scaling cannot be written to; nothing was begun"):
        Repository([nobody]).check_writable("scaling")
    with pytest.raises(RepositoryUnusable, match=r"removing .*/1: Permission denied"):
        Repository([nobody]).remove("scaling", 1)
    assert Repository([nobody]).versions("scaling") == [1]

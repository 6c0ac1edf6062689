"""Arrays from a file of somebody else: what a caller allows is read as it is, everything else is a sentence."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from models import arrays
from models.engine import ModelCorrupt

LIMIT = 1_000_000


def packed(entries: dict[str, bytes]) -> io.BytesIO:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return buffer


def saved(**named: np.ndarray) -> io.BytesIO:
    buffer = io.BytesIO()
    np.savez(buffer, **named)  # type: ignore[arg-type]
    return buffer


def refusal(file: io.BytesIO, **allowed: object) -> str:
    with pytest.raises(ModelCorrupt) as caught:
        arrays.unpack(file, "rows here", LIMIT, then="nothing was done", **allowed)  # type: ignore[arg-type]
    said = str(caught.value)
    assert said.startswith("reading rows here: ")
    assert said.endswith("; nothing was done")
    return said


@pytest.mark.parametrize(
    "array",
    [
        np.array(["amount", "", "\U0010ffff\u00e9"]),
        np.array(["amount", "night"], ">U9"),
        np.asfortranarray(np.arange(6, dtype=">f8").reshape(2, 3)),
        np.array(True),
        np.zeros((0, 3), np.uint8),
    ],
)
def test_what_is_allowed_comes_back_as_it_was_and_is_the_callers(array: np.ndarray) -> None:
    got = arrays.unpack(saved(x=array), "rows", LIMIT, kinds=arrays.NUMBERS + arrays.TEXTS)["x"]
    np.testing.assert_array_equal(got, array)
    assert got.dtype == array.dtype
    assert got.flags.c_contiguous
    assert got.flags.writeable


def test_texts_are_read_only_where_they_are_allowed() -> None:
    assert "expected 'x.npy' to hold numbers, got <U1" in refusal(saved(x=np.array(["a"])))
    both = arrays.NUMBERS + arrays.TEXTS
    assert "expected 'x.npy' to hold numbers or texts, got |S1" in refusal(saved(x=np.array([b"a"])), kinds=both)


@pytest.mark.parametrize("order", ["<", ">"])
def test_numbers_that_are_no_characters_are_no_texts(order: str) -> None:
    wrong = np.array([65, 0x110000], f"{order}u4").view(f"{order}U2")
    said = refusal(saved(x=wrong), kinds=arrays.NUMBERS + arrays.TEXTS)
    assert "expected 'x.npy' to hold texts, got numbers that are no characters" in said


def test_one_array_may_be_kept_smaller_than_all_together() -> None:
    one = np.zeros(1000, np.uint8)
    assert len(arrays.unpack(saved(x=one, y=one), "rows", LIMIT, each_bytes=1000)) == 2
    said = refusal(saved(x=one, y=one), each_bytes=999)
    assert "expected plain arrays of at most 999 bytes, but 'x.npy' says [1000] of uint8, and holds 1000 bytes" in said


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': (",
        "{'descr': (), 'fortran_order': False, 'shape': (3,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': 3}",
        "{'descr': 7, 'fortran_order': False, 'shape': (3,)}",
        "(" * 5000,
        "[]",
        "\0",
        "",
    ],
)
def test_a_damaged_header_is_a_sentence(header: str) -> None:
    text = header.encode()
    damaged = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(12)
    assert "the header of 'x.npy' is damaged" in refusal(packed({"x.npy": damaged}))


def test_a_file_that_the_caller_named_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "rows.npz").write_bytes(saved(x=np.arange(3)).getvalue())
    link = tmp_path / "link.npz"
    link.symlink_to(tmp_path / "rows.npz")
    assert arrays.decode(link, "rows", LIMIT, own=True)["x"].tolist() == [0, 1, 2]
    with pytest.raises(ModelCorrupt, match="expected a file, got a link"):
        arrays.decode(link, "rows", LIMIT)


def test_a_file_over_the_limit_is_not_looked_into(tmp_path: Path) -> None:
    path = tmp_path / "rows.npz"
    path.write_bytes(bytes(LIMIT + 1))
    with pytest.raises(ModelCorrupt, match=f"reading {path}: expected at most {LIMIT} bytes, got {LIMIT + 1}"):
        arrays.decode(path, "rows", LIMIT)

"""The training sample: what is in it, how it survives a file, and what a file may not do."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from models.engine import ModelCorrupt, TrainingFailed
from models.reference import HOUR_MS, SPANS_H, Reference, decode

N = 3_000
HOURS = 20 * 24


def rows(seed: int = 0, n: int = N) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Features `normal`, `night` (by the hour of the day) and `always`; scores; event times; keys."""
    rng = np.random.default_rng(seed)
    times = np.sort(rng.integers(0, HOURS * HOUR_MS, n))
    night = times // HOUR_MS % 24 < 8
    features = np.column_stack((rng.normal(size=n), night, np.full(n, 3.0)))
    return features, rng.random(n), times, rng.integers(0, n, n)


def reference(**changes: Any) -> Reference:
    features, scores, times, keys = rows()
    return Reference.of(features, scores, ("normal", "night", "always"), times, keys, **changes)


def saved(**changes: Any) -> bytes:
    arrays = dict(np.load(io.BytesIO(reference().encode())))
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **(arrays | changes))
    return buffer.getvalue()


def test_a_sample_is_columns_without_rows() -> None:
    features, scores, times, keys = rows()
    sample = Reference.of(features, scores, ("normal", "night", "always"), times, keys, rows=500)
    assert sample.names == ("normal", "night", "always", "score")
    assert sample.columns.shape == (4, 500)
    assert (np.diff(sample.columns) >= 0).all()
    assert set(sample.columns[0].tolist()) <= set(features[:, 0].astype(np.float32).tolist())
    assert set(sample.columns[3].tolist()) <= set(scores.astype(np.float32).tolist())
    shuffled = np.random.default_rng(1).permutation(N)
    again = Reference.of(
        features[shuffled], scores[shuffled], ("normal", "night", "always"), times[shuffled], keys[shuffled], rows=500
    )
    assert len(np.unique(times)) == N
    assert again.encode() == sample.encode()


def test_a_sample_survives_its_file() -> None:
    sample = reference()
    data = sample.encode()
    read = decode(data, "here")
    assert read.names == sample.names
    for name in ("columns", "effective", "ks", "psi"):
        np.testing.assert_array_equal(getattr(read, name), getattr(sample, name))
    assert read.encode() == data
    assert len(data) < 100_000


def test_what_is_usual_is_what_the_training_did() -> None:
    sample = reference()
    normal, night, always, _ = range(4)
    six, day, _, week = range(len(SPANS_H))
    assert sample.ks[week, night] < 0.05
    assert 0.02 < sample.ks[week, normal] < 0.1
    assert sample.ks[week, always] == 0
    assert np.isinf(sample.ks[[six, day]]).all()  # 38 and 150 rows: too few to know
    dense = Reference.of(*_split(rows(1, 80_000)))
    assert dense.ks[six, night] == pytest.approx(2 / 3, abs=0.03)
    assert dense.ks[day, night] < 0.06
    assert (dense.ks[1:] <= dense.ks[:-1]).all()
    assert (dense.psi[1:] <= dense.psi[:-1]).all()


def test_a_training_of_a_day_allows_a_week_what_it_allows_a_day() -> None:
    features, scores, times, keys = rows(1, 5_000)
    short = Reference.of(*_split((features, scores, times // 18, keys)))
    assert np.isfinite(short.ks).all()
    six, day, three, week = short.ks
    assert (day == week).all()
    assert (three == week).all()
    assert (six >= day).all()


def _split(parts: tuple[np.ndarray, ...]) -> tuple[Any, ...]:
    features, scores, times, keys = parts
    return features, scores, ("normal", "night", "always"), times, keys


def test_distances_of_the_sample_itself_are_none() -> None:
    sample = reference()
    ks, psi = sample.distances(np.array(sample.columns))
    assert ks.tolist() == psi.tolist() == [0] * 4


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda f, s, n, t, k: (f[:199], s[:199], n, t[:199], k[:199]), "at least 200 rows"),
        (lambda f, s, n, t, k: (f[:, :2], s, n, t, k), r"of 3 features.*\[\[3000, 2\]"),
        (lambda f, s, n, t, k: (f, s, n, t[:5], k), r"\[5\]"),
        (lambda f, s, n, t, k: (f, s, n, t, k[:5]), r"\[5\]"),
        (lambda f, s, n, t, k: (f, s, ("a", "a", "b"), t, k), "distinct"),
        (lambda f, s, n, t, k: (f, s, ("a", "score", "b"), t, k), "not 'score'"),
        (lambda f, s, n, t, k: (f * [1, np.nan, 1], s, n, t, k), "got others in night"),
        (lambda f, s, n, t, k: (f * 1e39, s, n, t, k), "got others in normal, night, always"),
        (lambda f, s, n, t, k: (f, s / 0.0, n, t, k), "got others in score"),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_rows_that_are_no_training_sample_are_refused(change: Callable[..., Any], complaint: str) -> None:
    with pytest.raises(TrainingFailed, match=complaint):
        Reference.of(*change(*_split(rows())))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"columns": np.zeros((4, 199), np.float32)}, "at least 200 finite values"),
        ({"columns": np.zeros((3, 3000), np.float32)}, "expected `names`"),
        ({"columns": np.zeros((4, 3000))}, "expected `columns` as float32"),
        ({"columns": np.zeros(4, np.float32)}, "names .k. and columns"),
        ({"columns": np.full((4, 3000), np.nan, np.float32)}, "finite"),
        ({"columns": np.tile(np.arange(3000, 0, -1, dtype=np.float32), (4, 1))}, "ascending"),
        ({"columns": np.array([object()])}, "plain arrays"),
        ({"names": np.array(["a", "b", "c", "d"])}, "'score' the last"),
        ({"names": np.array(["a", "a", "c", "score"])}, "distinct"),
        ({"names": np.arange(4)}, "names .k. and columns"),
        ({"names": np.full(4, 2**31 - 1, np.uint32).view("<U1")}, "no characters"),
        ({"effective": np.zeros(4)}, "effective rows from 1"),
        ({"effective": np.full(4, np.nan)}, "effective rows from 1"),
        ({"ks": np.full((4, 4), -1.0)}, "0 or more"),
        ({"psi": np.full((4, 4), np.nan)}, "0 or more"),
        ({"psi": np.zeros((3, 4))}, "expected `psi`"),
        ({"more": np.zeros(3)}, "got .*more"),
        ({"columns": np.zeros((4, 2**21), np.float32)}, "at most 16777216 bytes"),
    ],
)
def test_a_file_of_something_else_is_refused(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ModelCorrupt, match=rf"reading training sample here: .*{complaint}.*; drift is not watched"):
        decode(saved(**changes), "here")


class Burglar:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return pytest.fail, ("the sample was unpickled",)


def test_a_file_is_never_unpickled() -> None:
    for data in (saved(ks=np.array([Burglar()], dtype=object)), pickle.dumps(Burglar()), b"", b"PK\x03\x04"):
        with pytest.raises(ModelCorrupt, match="reading training sample here"):
            decode(data, "here")


def test_damage_anywhere_is_corrupt_or_harmless_never_a_crash() -> None:
    data = reference(rows=300).encode()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        damaged = bytearray(data)
        damaged[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
        try:
            decode(bytes(damaged), "here")
        except ModelCorrupt:
            refused += 1
    for cut in range(1, len(data), 97):
        with pytest.raises(ModelCorrupt):
            decode(data[:cut], "here")
    assert refused > 250


def test_a_header_that_promises_terabytes_takes_no_memory() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(reference(rows=300).encode())) as old, zipfile.ZipFile(buffer, "w") as new:
        for entry in old.infolist():
            content = old.read(entry)
            if entry.filename == "columns.npy":
                header = io.BytesIO()
                np.lib.format.write_array_header_1_0(
                    header, {"descr": "<f4", "fortran_order": False, "shape": (4, 2**40)}
                )
                content = header.getvalue() + bytes(64)
            new.writestr(entry.filename, content)
    with pytest.raises(ModelCorrupt, match="plain arrays of at most"):
        decode(buffer.getvalue(), "here")

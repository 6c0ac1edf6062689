"""sample.npz: what a model's inputs and scores looked like in training, to compare with what comes in now."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models import arrays, distances
from models.distances import Float32, Float64, Int64
from models.engine import ModelCorrupt, TrainingFailed

SCORE = "score"
ROWS = 5_000
LEAST_ROWS = 200  # fewer say nothing about ten bins
SPANS_H = (6, 24, 72, 168)  # up to a week: all that is weekly shows
HOUR_MS = 3_600_000
MAX_ARRAY_BYTES = 16 * 1024 * 1024  # 5 000 rows of 800 features
NOT_WATCHED = "drift is not watched"
_ROWS_OF_A_SPAN = 4_000
_ARRAYS = ("names", "columns", "effective", "ks", "psi")


@dataclass(frozen=True, eq=False)
class Reference:
    """A sample of the rows that a model was trained on, each quantity by itself: no row can be put together again.

    Args:
        names: of the k quantities: the features, and `score` at the end.
        columns: float32 [k, m], finite, each row ascending.
        effective: float64 [k], how many independent rows the m are worth.
        ks, psi: float64 [4, k]: how far the training's own stretches of 6, 24, 72 and 168 hours are at most from all
            of it, as KS statistic and as PSI above its expectation: a night is no drift. Infinite where it is unknown.
    """

    names: tuple[str, ...]
    columns: Float32
    effective: Float64
    ks: Float64
    psi: Float64

    @classmethod
    def of(
        cls,
        features: NDArray[np.floating],
        scores: NDArray[np.floating],
        names: Sequence[str],
        event_time_ms: Int64,
        keys: Int64,
        rows: int = ROWS,
        seed: int = 0,
    ) -> Reference:
        """Sample the training rows; the same ones give the same sample.

        Args:
            features: [n, d], as the network gets them.
            scores: [n], what the network says.
            names: d names of the features.
            event_time_ms: int64 [n], ms since the epoch, in any order; the longer, the better is known what is usual.
            keys: int64 [n]: rows with equal keys, e.g. of one card, are alike.
            rows: at most so many are kept.

        Raises:
            TrainingFailed: Shapes do not fit, fewer than 200 rows, or something is not finite.
        """
        n, named = len(scores), (*names, SCORE)
        shapes = [list(array.shape) for array in (features, scores, event_time_ms, keys)]
        if shapes != [[n, len(names)], [n], [n], [n]] or n < LEAST_ROWS or len(set(named)) != len(named):
            raise TrainingFailed(
                f"sampling training rows: expected at least {LEAST_ROWS} rows of {len(names)} features of distinct "
                f"names (not {SCORE!r}), each with a score, an event time and a key, got shapes {shapes}, names "
                f"{list(names)!r}; no sample was made"
            )
        order = np.argsort(event_time_ms, kind="stable")
        columns = np.empty((len(named), n), np.float32)
        columns[:-1], columns[-1] = features[order].T, scores[order]
        wrong = [name for name, column in zip(named, columns, strict=True) if not np.isfinite(column).all()]
        if wrong:
            raise TrainingFailed(
                f"sampling training rows: expected finite float32 values, got others in {', '.join(wrong)}; "
                "no sample was made"
            )
        chosen = np.sort(np.random.default_rng(seed).permutation(n)[:rows])
        sample = columns[:, chosen]
        effective = distances.effective_rows(sample, keys[order][chosen])
        unknown = np.full((len(SPANS_H), len(named)), np.inf)
        whole = cls(named, np.sort(np.ascontiguousarray(sample), axis=1), effective, unknown, unknown)
        ks, psi = _usual(whole, columns, event_time_ms[order])
        return cls(named, whole.columns, effective, ks, psi)

    @cached_property
    def bins(self) -> tuple[tuple[Float32, Int64], ...]:
        """For each quantity where its bins end and how many rows of the sample are in each."""
        edges = [distances.cuts(column) for column in self.columns]
        return tuple(
            (ends, distances.bin_counts(column, ends, column[0]))
            for ends, column in zip(edges, self.columns, strict=True)
        )

    @cached_property
    def bins_used(self) -> Int64:
        """int64 [k]: bins that hold rows of the sample."""
        return np.array([np.count_nonzero(counts) for _, counts in self.bins])

    def distances(self, columns: Float32) -> tuple[Float64, Float64]:
        """KS statistic and PSI of each quantity, float64 [k] each.

        Args:
            columns: float32 [k, n], n > 0, in any order; NaN counts as larger than everything.
        """
        ks, psi = np.empty((2, len(self.columns)))
        for at, values in enumerate(np.sort(columns, axis=1)):
            own = self.columns[at]
            edges, counts = self.bins[at]
            ks[at] = distances.ks(own, values)
            psi[at] = distances.psi(counts, distances.bin_counts(values, edges, own[0]))
        return ks, psi

    def expected_psi(self, rows: float | Float64) -> Float64:
        """float64 [k]: the mean PSI of so many independent rows of the same distribution."""
        return (self.bins_used - 1) * (1 / rows + 1 / self.effective)

    def encode(self) -> bytes:
        """The sample as an .npz; equal ones give equal bytes."""
        buffer = io.BytesIO()
        stored: tuple[NDArray[Any], ...] = (np.array(self.names), self.columns, self.effective, self.ks, self.psi)
        named: dict[str, Any] = dict(zip(_ARRAYS, stored, strict=True))
        np.savez_compressed(buffer, allow_pickle=False, **named)
        return buffer.getvalue()


def decode(data: bytes, source: object) -> Reference:
    """Read a sample, `source` names it in errors; nothing in it is unpickled.

    Raises: ModelCorrupt.
    """
    found = arrays.unpack(
        io.BytesIO(data),
        f"training sample {source}",
        len(_ARRAYS) * MAX_ARRAY_BYTES,
        then=NOT_WATCHED,
        kinds=arrays.NUMBERS + arrays.TEXTS,
        each_bytes=MAX_ARRAY_BYTES,
    )
    for complaint in _complaints(found):
        raise ModelCorrupt(f"reading training sample {source}: {complaint}; {NOT_WATCHED}")
    names, *rest = (found[name] for name in _ARRAYS)
    return Reference(tuple(names.tolist()), *rest)


def _complaints(found: Mapping[str, NDArray[Any]]) -> Iterator[str]:
    if sorted(found) != sorted(_ARRAYS):
        yield f"expected {', '.join(_ARRAYS)}, got {sorted(found)!r}"
        return
    names, columns = found["names"], found["columns"]
    if names.ndim != 1 or names.dtype.kind != "U" or columns.ndim != 2:
        yield f"expected names [k] and columns [k, m], got {names.dtype} {names.shape} and {columns.shape}"
        return
    k, m = columns.shape
    expected = {"names": (k,), "columns": (k, m), "effective": (k,), "ks": (len(SPANS_H), k), "psi": (len(SPANS_H), k)}
    for name, shape in expected.items():
        got, dtype = (
            found[name],
            {"names": found["names"].dtype, "columns": np.dtype("<f4")}.get(name, np.dtype("<f8")),
        )
        if got.shape != shape or got.dtype != dtype:
            yield f"expected `{name}` as {dtype} {list(shape)}, got {got.dtype} {list(got.shape)}"
            return
    texts = names.tolist()
    if len(set(texts)) != k or texts[-1:] != [SCORE] or not all(texts):
        yield f"expected distinct names, {SCORE!r} the last, got {texts!r}"
    if m < LEAST_ROWS or not np.isfinite(columns).all() or (np.diff(columns, axis=1) < 0).any():
        yield f"expected at least {LEAST_ROWS} finite values of each quantity, ascending"
    if not ((found["effective"] >= 1) & (found["effective"] <= m)).all():
        yield f"expected effective rows from 1 to {m}"
    if not all((found[name] >= 0).all() for name in ("ks", "psi")):
        yield "expected usual distances of 0 or more"


def _usual(whole: Reference, columns: Float32, event_time_ms: Int64) -> tuple[Float64, Float64]:
    """How far stretches of the training are from all of it, at most; they overlap by half.

    A shorter span is allowed what a longer one is; a longer one than the training has, what its longest one is.

    Args: columns [k, n] and event times [n], in the order of time.
    """
    ks, psi = (np.full((len(SPANS_H), len(columns)), np.nan) for _ in range(2))
    for at, span_h in enumerate(SPANS_H):
        half = span_h * HOUR_MS // 2
        halves = np.arange(event_time_ms[0], event_time_ms[-1] + half, half)
        edges = np.searchsorted(event_time_ms, halves)
        for start, stop in zip(edges[:-2].tolist(), edges[2:].tolist(), strict=True):
            step = max(1, (stop - start) // _ROWS_OF_A_SPAN)
            stretch = columns[:, start:stop:step]
            if stretch.shape[1] >= LEAST_ROWS:
                distance, index = whole.distances(stretch)
                ks[at] = np.fmax(ks[at], distance)
                psi[at] = np.fmax(psi[at], np.maximum(index - whole.expected_psi(stretch.shape[1]), 0.0))
    return _monotone(ks), _monotone(psi)


def _monotone(table: Float64) -> Float64:
    for at in range(1, len(table)):
        table[at] = np.where(np.isnan(table[at]), table[at - 1], table[at])
    table = np.where(np.isnan(table), np.inf, table)
    return np.ascontiguousarray(np.maximum.accumulate(table[::-1])[::-1])

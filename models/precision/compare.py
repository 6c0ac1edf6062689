"""A variant beside its original on the same rows: differences, decisions, quality, speed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.engine import Engine
from models.precision.rows import Rows, row_groups

Tensors = Mapping[str, NDArray[Any]]
Infer = Callable[[Tensors], Tensors]
Judge = Callable[[Tensors, NDArray[np.bool_]], dict[str, float]]
"""Outputs and labels -> figures, all of them better the higher they are."""

ROUNDS = 21  # odd: the median is one of them
ROUND_S = 0.005  # of calls without a pause, so that the clock and one interruption count little


@dataclass(frozen=True)
class Comparison:
    """Two networks on the same rows.

    Args:
        what: The rows.
        rows: How many.
        largest, mean: Differences of the outputs, absolute; nan where an output of the variant is not finite.
        spread: Largest minus smallest output of the original.
        agreement: Share of rows with the same decision; None where the model decides nothing.
        original, variant: Figures of quality; empty where the labels are not known.
    """

    what: str
    rows: int
    largest: float
    mean: float
    spread: float
    agreement: float | None
    original: dict[str, float]
    variant: dict[str, float]

    @property
    def losses(self) -> dict[str, float]:
        """By how much each figure is worse."""
        return {name: value - self.variant[name] for name, value in self.original.items()}


@dataclass(frozen=True)
class Speed:
    """Two engines on the same batches, in turns.

    Args:
        rows: of a batch.
        original_s, variant_s: median time of a batch.
        speed_up: median of the original's time beside the variant's, round by round.
    """

    rows: int
    original_s: float
    variant_s: float
    speed_up: float


def compare(rows: Rows, expected: Tensors, got: Tensors, thresholds: Mapping[str, float], judge: Judge) -> Comparison:
    """Compare the outputs of two networks for `rows`; the figures are `judge`'s where the labels are known."""
    finite = all(np.isfinite(values).all() for values in got.values())
    off = np.concatenate([np.abs(expected[name].astype(np.float64) - got[name]).ravel() for name in expected])
    every = np.concatenate([values.astype(np.float64).ravel() for values in expected.values()])
    decided = decisions(expected, thresholds)
    same = None if decided is None else decided == decisions(got, thresholds)
    judged = rows.labels if finite else None
    return Comparison(
        what=rows.what,
        rows=len(rows),
        largest=float(off.max()) if finite else np.nan,
        mean=float(off.mean()) if finite else np.nan,
        spread=float(every.max() - every.min()),
        agreement=None if same is None else float(same.reshape(len(same), -1).all(axis=1).mean()),
        original={} if judged is None else judge(expected, judged),
        variant={} if judged is None else judge(got, judged),
    )


def decisions(outputs: Tensors, thresholds: Mapping[str, float]) -> NDArray[np.int64] | None:
    """int64 [n]: how many thresholds a single score reaches, or which of several classes scores most; else None."""
    if len(outputs) != 1:
        return None
    scores = next(iter(outputs.values()))
    if scores.ndim == 1 or scores.shape[1:] == (1,):
        reached = [scores.ravel() >= scores.dtype.type(threshold) for threshold in thresholds.values()]
        return np.sum(reached, axis=0, dtype=np.int64) if reached else None
    return np.argmax(scores, axis=1) if scores.ndim == 2 else None


def infer_all(infer: Infer, rows: Tensors, size: int) -> dict[str, NDArray[Any]]:
    """All outputs for the rows, of which the network is given `size` at a time."""
    parts = [infer(group) for group in row_groups(rows, size)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def measure(original: Engine, variant: Engine, rows: Tensors, sizes: tuple[int, ...]) -> tuple[Speed, ...]:
    """Time both engines in turns on batches of these sizes; rows are repeated where there are too few."""
    found = []
    for size in sizes:
        taken = np.arange(size) % len(next(iter(rows.values())))
        batch = {name: values[taken] for name, values in rows.items()}
        calls = max(1, round(ROUND_S / min(_time(original, batch, 1) for _ in range(3))))
        timed = np.array([(_time(original, batch, calls), _time(variant, batch, calls)) for _ in range(ROUNDS)])
        medians = np.median(timed, axis=0) / calls
        ratio = float(np.median(timed[:, 0] / timed[:, 1]))
        found.append(Speed(size, float(medians[0]), float(medians[1]), ratio))
    return tuple(found)


def _time(engine: Engine, batch: Tensors, calls: int) -> float:
    begin = time.perf_counter()
    for _ in range(calls):
        engine.infer(batch)
    return time.perf_counter() - begin

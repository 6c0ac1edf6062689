"""Rows to calibrate a variant on, and to compare it with its original on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.engine import DerivationFailed, TensorSpec, check_tensors


@dataclass(frozen=True, eq=False)
class Rows:
    """Inputs of a network, first axes equal.

    Args:
        what: where they come from, for people and for the manifest.
        tensors: [n, ...] by input name.
        labels: bool [n], what the rows turned out to be; None where nobody knows.
    """

    what: str
    tensors: Mapping[str, NDArray[Any]]
    labels: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(next(iter(self.tensors.values()), ()))

    def take(self, rows: NDArray[np.int64] | slice) -> Rows:
        """Some of the rows."""
        labels = None if self.labels is None else self.labels[rows]
        return Rows(self.what, {name: values[rows] for name, values in self.tensors.items()}, labels)


def evenly(rows: Rows, count: int) -> Rows:
    """At most `count` of the rows, evenly over their order."""
    return rows.take(np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(np.int64)) if len(rows) else rows


def check(rows: Rows, inputs: Sequence[TensorSpec], reference: str, least: int = 1) -> None:
    """Raise unless a network of these inputs can be run on the rows.

    Raises:
        DerivationFailed: there are too few, first axes differ, or a value is not finite.
        ModelIncompatible: the tensors are not those that the network declares.
    """
    doing = f"deriving a variant of {reference} with {rows.what}"
    counts = {name: len(values) if values.ndim else 0 for name, values in rows.tensors.items()}
    if rows.labels is not None:
        counts["labels"] = len(rows.labels)
    if len(set(counts.values())) > 1:
        raise DerivationFailed(f"{doing}: expected tensors of as many rows each, got {counts!r}; nothing was derived")
    count = min(counts.values(), default=0)
    if count < least:
        raise DerivationFailed(f"{doing}: expected at least {least} rows, got {count}; nothing was derived")
    free = tuple(TensorSpec(spec.name, spec.dtype, (None, *spec.shape[1:])) for spec in inputs)
    check_tensors(reference, "input", free, rows.tensors)
    for name, values in rows.tensors.items():
        if np.issubdtype(values.dtype, np.floating) and not np.isfinite(values).all():
            bad = np.flatnonzero(~np.isfinite(values.reshape(len(values), -1)).all(axis=1))
            raise DerivationFailed(
                f"{doing}: expected finite values, got {len(bad)} rows of `{name}` with NaN or infinite ones, "
                f"the first is row {bad[0]}; nothing was derived"
            )


def row_groups(tensors: Mapping[str, NDArray[Any]], size: int) -> Iterator[dict[str, NDArray[Any]]]:
    """The rows, `size` at a time; what is left over at the end comes as it is."""
    count = len(next(iter(tensors.values())))
    for start in range(0, count, size):
        yield {name: values[start : start + size] for name, values in tensors.items()}

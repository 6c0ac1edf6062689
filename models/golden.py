"""golden.npz: one batch and the outputs that a model must give for it."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models import arrays
from models.engine import Engine, ModelCorrupt, ModelIncompatible
from models.manifest import Tolerance

MAX_GOLDEN_BYTES = 64 * 1024 * 1024  # unpacked: a golden batch is some rows, not a data set
INPUT, OUTPUT = "input.", "output."


@dataclass(frozen=True, eq=False)
class GoldenBatch:
    """Named input tensors and the named outputs that belong to them, first axis equal."""

    inputs: Mapping[str, NDArray[Any]]
    outputs: Mapping[str, NDArray[Any]]

    def encode(self) -> bytes:
        """The batch as an .npz; equal batches give equal bytes."""
        arrays = {INPUT + name: array for name, array in self.inputs.items()}
        arrays |= {OUTPUT + name: array for name, array in self.outputs.items()}
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **arrays)
        return buffer.getvalue()

    def replay(self, engine: Engine, tolerance: Tolerance, reference: str) -> None:
        """Run the batch, and its first row alone, on `engine` and compare.

        Raises: ModelIncompatible where an output is off by more than the tolerance, or has another shape.
        """
        got = engine.infer(self.inputs)
        for name, expected in self.outputs.items():
            _compare(reference, engine.name, name, expected, got.get(name), tolerance)
        first = engine.infer({name: array[:1] for name, array in self.inputs.items()})
        for name, expected in self.outputs.items():
            _compare(reference, engine.name, name, expected[:1], first.get(name), tolerance)


def decode(path: Path) -> GoldenBatch:
    """Read a golden batch; nothing in it is unpickled.

    Raises: ModelCorrupt.
    """
    found = arrays.decode(path, "golden batch", MAX_GOLDEN_BYTES)
    golden = GoldenBatch(
        {name.removeprefix(INPUT): array for name, array in found.items() if name.startswith(INPUT)},
        {name.removeprefix(OUTPUT): array for name, array in found.items() if name.startswith(OUTPUT)},
    )
    if not golden.inputs or not golden.outputs or any(array.ndim == 0 or not len(array) for array in found.values()):
        raise ModelCorrupt(
            f"reading golden batch {path}: expected rows of input.* and output.*, got {sorted(found)!r}; "
            "the model is not served"
        )
    return golden


def _compare(
    reference: str, engine: str, name: str, expected: NDArray[Any], got: NDArray[Any] | None, tolerance: Tolerance
) -> None:
    doing = f"replaying the golden batch of {reference} on {engine}: output `{name}`"
    if got is None or got.shape != expected.shape:
        shape = "nothing" if got is None else str(list(got.shape))
        raise ModelIncompatible(f"{doing}: expected {list(expected.shape)}, got {shape}; the model is not served")
    if not np.allclose(got, expected, rtol=tolerance.rtol, atol=tolerance.atol):
        off = np.abs(got.astype(np.float64) - expected.astype(np.float64)).max()
        raise ModelIncompatible(
            f"{doing}: expected to be within rtol {tolerance.rtol:g} and atol {tolerance.atol:g}, "
            f"got {off:.3g} off; the model is not served"
        )

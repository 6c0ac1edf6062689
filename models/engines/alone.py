"""A network that takes one picture a run, served as any other: a batch goes through it picture by picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from models.engine import Engine, TensorSpec, check_tensors

if TYPE_CHECKING:
    from models.repository import Model


class OneByOne:
    """Runs another engine once for each row, and puts the outputs together.

    An axis that differs from row to row, such as the number of objects, is as long as the longest row's; shorter ones
    end in zeros. Thread rule as for every Engine.

    Args:
        engine: what runs; it may be loaded or not.
        outputs: the outputs as they are served, with a free first axis. One that has an axis more than the network's
            has no batch axis there.
    """

    def __init__(self, engine: Engine, outputs: Sequence[TensorSpec]) -> None:
        self._engine = engine
        self._outputs = tuple(outputs)

    @property
    def name(self) -> str:
        return self._engine.name

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        return tuple(free(spec) for spec in self._engine.inputs)

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """As they are served; one of another rank than that is what the network itself says."""
        ranks = {spec.name: len(spec.shape) for spec in self._outputs}
        return tuple(
            free(spec) if ranks.get(spec.name) == len(spec.shape) else TensorSpec(spec.name, spec.dtype, _more(spec))
            for spec in self._engine.outputs
        )

    def load(self, model: Model) -> None:
        self._engine.load(model)

    def infer(self, tensors: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        check_tensors(self.name, "input", self.inputs, tensors)
        rows = len(next(iter(tensors.values())))
        parts = [
            self._engine.infer({name: each[row : row + 1] for name, each in tensors.items()}) for row in range(rows)
        ]
        return {spec.name: _together(spec, [part[spec.name] for part in parts]) for spec in self._outputs}

    def close(self) -> None:
        self._engine.close()


def free(spec: TensorSpec) -> TensorSpec:
    """The tensor with a free first axis."""
    return TensorSpec(spec.name, spec.dtype, (None, *spec.shape[1:]))


def _more(spec: TensorSpec) -> tuple[int | None, ...]:
    return None, *spec.shape


def _together(spec: TensorSpec, parts: list[NDArray[Any]]) -> NDArray[Any]:
    """One array of all rows."""
    rows = [part if part.ndim == len(spec.shape) else part[np.newaxis] for part in parts]
    shape = tuple(map(max, zip(*(row.shape[1:] for row in rows), strict=True)))
    if not rows:
        return np.zeros([axis or 0 for axis in spec.shape], spec.dtype)
    together = np.zeros((len(rows), *shape), rows[0].dtype)
    for place, row in enumerate(rows):
        together[(slice(place, place + 1), *map(slice, row.shape[1:]))] = row
    return together

"""What engines share that hand a whole network to a runtime: its tensors are checked, its errors become sentences."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from models.engine import EngineUnavailable, InferenceFailed, TensorSpec, check_tensors, describe, first_line

if TYPE_CHECKING:
    from models.repository import Model

Network = TypeVar("Network")


class RuntimeEngine(ABC, Generic[Network]):
    """An `Engine` for a runtime that makes a `Network` of an ONNX file.

    A kind of engine says how a network is made, in `load_bytes`, which keeps it by `_keep`, and how it is run.
    """

    name: str
    _failed: ClassVar[str] = "failed"
    """What an error says of the runtime, e.g. `torch failed`."""

    def __init__(self) -> None:
        self._reference = ""
        self._network: Network | None = None
        self._inputs: tuple[TensorSpec, ...] = ()
        self._outputs: tuple[TensorSpec, ...] = ()

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        return self._inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return self._outputs

    def load(self, model: Model) -> None:
        self.load_bytes(model.onnx_bytes(), model.reference)

    @abstractmethod
    def load_bytes(self, onnx: bytes, reference: str) -> None:
        """`load` for a network that is in no repository, or not yet; `reference` names it in errors."""

    def infer(self, tensors: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        network = self._network
        if network is None:
            raise EngineUnavailable(f"inferring with {self._reference or self.name}: the engine is not loaded")
        check_tensors(self._reference, "input", self._inputs, tensors)
        if self._has_no_rows(tensors):  # not every network can be asked: some shapes say -1 for what nothing tells then
            return {spec.name: np.empty([axis or 0 for axis in spec.shape], spec.dtype) for spec in self._outputs}
        try:
            return self._run(network, tensors)
        except Exception as error:  # the exceptions of runtimes share no base
            raise InferenceFailed(
                f"inferring with {self._reference} on {self.name}: {self._failed} on {describe(tensors)}: "
                f"{first_line(error)}; the batch has no predictions"
            ) from error

    def close(self) -> None:
        self._network = None
        self._inputs = self._outputs = ()

    def _has_no_rows(self, tensors: Mapping[str, NDArray[Any]]) -> bool:
        takes_any = all(spec.shape[:1] == (None,) for spec in (*self._inputs, *self._outputs))
        return takes_any and not any(map(len, tensors.values()))

    @abstractmethod
    def _run(self, network: Network, tensors: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """All outputs of one batch, whose tensors are as declared. Raises: whatever the runtime does."""

    def _keep(
        self, network: Network, reference: str, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]
    ) -> None:
        """This network serves from now on."""
        self._reference, self._inputs, self._outputs = reference, inputs, outputs
        self._network = network

    def _unavailable(self, reference: str, reason: str) -> EngineUnavailable:
        return EngineUnavailable(f"loading {reference} into {self.name}: {reason}; it is not served by this engine")

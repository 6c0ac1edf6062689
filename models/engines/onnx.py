"""ONNX Runtime on the CPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from models.engine import EngineUnavailable, InferenceFailed, ModelCorrupt, TensorSpec, check_tensors, describe

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, NodeArg, SessionOptions

    from models.repository import Model

DTYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
    "tensor(uint8)": "uint8",
    "tensor(int8)": "int8",
    "tensor(bool)": "bool",
}


SLICE_ROWS = 1024  # what a small network computes of so many rows stays in a core's own cache; of ten times as many not


class OnnxEngine:
    """Engine `onnx-cpu`: one ONNX Runtime session on the calling thread, at most `SLICE_ROWS` rows at a time.

    `threads` is how many threads share one operator. One suits small networks and many workers a machine: the batch is
    computed on the caller's thread, no pool is made, and nothing spins between batches. A large network may take more.

    Thread rule as for every Engine; `infer` releases the GIL while the session runs.
    """

    name = "onnx-cpu"

    def __init__(self, threads: int = 1) -> None:
        self._threads = threads
        self._reference = ""
        self._session: InferenceSession | None = None
        self._inputs: tuple[TensorSpec, ...] = ()
        self._outputs: tuple[TensorSpec, ...] = ()
        self._output_names: list[str] = []
        self._takes_any_rows = False

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        return self._inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return self._outputs

    def load(self, model: Model) -> None:
        self.load_bytes(model.onnx_bytes(), model.reference)

    def load_bytes(self, onnx: bytes, reference: str) -> None:
        """`load` for a network that is in no repository, or not yet; `reference` names it in errors.

        Raises: ModelCorrupt (ONNX Runtime cannot read it), EngineUnavailable (ONNX Runtime cannot be imported).
        """
        try:
            import onnxruntime
        except ImportError as error:
            raise EngineUnavailable(
                f"loading {reference} into {self.name}: importing onnxruntime failed ({error}); "
                "reinstall it with `pip install onnxruntime`"
            ) from error
        try:
            session = onnxruntime.InferenceSession(onnx, self._options(), providers=["CPUExecutionProvider"])
            inputs, outputs = _specs(session.get_inputs()), _specs(session.get_outputs())  # may be named in no UTF-8
        except Exception as error:  # ONNX Runtime's exceptions share no base of their own
            raise ModelCorrupt(
                f"loading {reference} into {self.name}: ONNX Runtime {onnxruntime.__version__} "
                f"cannot make a session of it: {_first_line(error)}; it is not served"
            ) from error
        self._reference = reference
        self._inputs, self._outputs = inputs, outputs
        self._output_names = [spec.name for spec in self._outputs]
        self._takes_any_rows = all(spec.shape and spec.shape[0] is None for spec in (*self._inputs, *self._outputs))
        self._session = session

    def infer(self, tensors: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        session = self._session
        if session is None:
            raise EngineUnavailable(f"inferring with {self._reference or self.name}: the engine is not loaded")
        check_tensors(self._reference, "input", self._inputs, tensors)
        try:
            outputs = self._run(session, tensors)
        except Exception as error:  # as above
            raise InferenceFailed(
                f"inferring with {self._reference} on {self.name}: ONNX Runtime failed on "
                f"{describe(tensors)}: {_first_line(error)}; the batch has no predictions"
            ) from error
        return dict(zip(self._output_names, outputs, strict=True))

    def close(self) -> None:
        self._session = None
        self._inputs = self._outputs = ()

    def _run(self, session: InferenceSession, tensors: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        rows = len(next(iter(tensors.values()))) if self._takes_any_rows else 0
        if rows <= SLICE_ROWS:
            return list(session.run(self._output_names, tensors))
        slices = [
            session.run(self._output_names, {name: each[start : start + SLICE_ROWS] for name, each in tensors.items()})
            for start in range(0, rows, SLICE_ROWS)
        ]
        return [np.concatenate(parts) for parts in zip(*slices, strict=True)]

    def _options(self) -> SessionOptions:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.enable_mem_pattern = False  # a pattern is kept per batch size, and dynamic batches have many sizes
        options.log_severity_level = 4  # what it would log comes as an exception
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        return options


def _specs(nodes: Sequence[NodeArg]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(
            node.name,
            DTYPES.get(node.type, node.type),
            tuple(axis if isinstance(axis, int) else None for axis in node.shape),
        )
        for node in nodes
    )


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__

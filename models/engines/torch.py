"""torch as the reference engine: the ONNX graph once more, by another implementation. Needs torch and onnx."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from models.engine import (
    EngineUnavailable,
    InferenceFailed,
    ModelCorrupt,
    TensorSpec,
    check_tensors,
    describe,
    first_line,
)
from models.engines.device import why_no_gpu

if TYPE_CHECKING:
    import onnx

    from models.engines.torch_graph import TorchGraph
    from models.repository import Model


class TorchEngine:
    """Engine `torch-cpu` or `torch-cuda`: exact in float32, for comparison; not tuned for speed.

    Thread rule as for every Engine.

    Args:
        device: `cpu` or `cuda`; never another one than was asked for.
    """

    def __init__(self, device: str = "cpu") -> None:
        self.name = f"torch-{device}"
        self._device = device
        self._reference = ""
        self._graph: TorchGraph | None = None
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

    def load_bytes(self, onnx: bytes, reference: str) -> None:
        """`load` for a network that is in no repository, or not yet; `reference` names it in errors.

        Raises: ModelCorrupt (no ONNX file), EngineUnavailable (no torch, no GPU, an operator that is not known).
        """
        doing = f"loading {reference} into {self.name}"
        reason = why_no_torch(self._device)
        if reason:
            raise EngineUnavailable(f"{doing}: {reason}; it is not served by this engine")
        import torch

        from models.engines.torch_graph import TorchGraph

        proto = _decode(onnx, doing)
        try:
            graph = TorchGraph(proto, torch.device(self._device))
        except EngineUnavailable as error:
            raise EngineUnavailable(f"{doing}: {error}") from error
        except Exception as error:  # torch's errors while it computes what depends on no input
            raise ModelCorrupt(f"{doing}: {first_line(error)}; it is not served") from error
        constants = {tensor.name for tensor in proto.graph.initializer}
        self._reference = reference
        self._inputs = tuple(_spec(each) for each in proto.graph.input if each.name not in constants)
        self._outputs = tuple(_spec(each) for each in proto.graph.output)
        self._graph = graph

    def infer(self, tensors: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        if self._graph is None:
            raise EngineUnavailable(f"inferring with {self._reference or self.name}: the engine is not loaded")
        check_tensors(self._reference, "input", self._inputs, tensors)
        try:
            return self._run(self._graph, tensors)
        except Exception as error:  # torch raises RuntimeError, IndexError, ...
            raise InferenceFailed(
                f"inferring with {self._reference} on {self.name}: torch failed on {describe(tensors)}: "
                f"{first_line(error)}; the batch has no predictions"
            ) from error

    def close(self) -> None:
        self._graph = None
        self._inputs = self._outputs = ()

    def _run(self, graph: TorchGraph, tensors: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        import torch

        # torch shares an array's memory: a copy, because it wants to write even where nothing does.
        given = {
            name: torch.from_numpy(np.array(tensor, order="C")).to(self._device) for name, tensor in tensors.items()
        }
        with torch.inference_mode():
            outputs = graph.run(given)
        arrays = [output.cpu().numpy() for output in outputs]
        return {spec.name: array for spec, array in zip(self._outputs, arrays, strict=True)}


def why_no_torch(device: str) -> str | None:
    """Why there is no torch engine on `device` here, as a clause; None where there is. Imports neither library."""
    missing = [name for name in ("torch", "onnx") if find_spec(name) is None]
    if missing:
        return f"{' and '.join(missing)} cannot be imported: pip install 'headrace[train]'"
    return why_no_gpu() if device == "cuda" else None


def _decode(onnx_bytes: bytes, doing: str) -> onnx.ModelProto:
    import onnx
    from google.protobuf.message import DecodeError

    try:
        proto = onnx.load_from_string(onnx_bytes)
        onnx.checker.check_model(proto)
    except (DecodeError, onnx.checker.ValidationError, TypeError) as error:
        raise ModelCorrupt(f"{doing}: {first_line(error)}; it is not served") from error
    return proto


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    import onnx

    kind = value.type.tensor_type
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name
    shape = tuple(axis.dim_value if axis.HasField("dim_value") else None for axis in kind.shape.dim)
    return TensorSpec(value.name, dtype, shape)

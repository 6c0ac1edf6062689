"""torch as the reference engine: the ONNX graph once more, by another implementation. Needs torch and onnx."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from models.engine import EngineUnavailable, ModelCorrupt, TensorSpec, first_line
from models.engines.device import why_no_gpu
from models.engines.runtime import RuntimeEngine

if TYPE_CHECKING:
    import onnx

    from models.engines.torch_graph import TorchGraph


class TorchEngine(RuntimeEngine["TorchGraph"]):
    """Engine `torch-cpu` or `torch-cuda`: exact in float32, for comparison; not tuned for speed.

    Thread rule as for every Engine.

    Args:
        device: `cpu` or `cuda`; never another one than was asked for.
    """

    _failed = "torch failed"

    def __init__(self, device: str = "cpu") -> None:
        super().__init__()
        self.name = f"torch-{device}"
        self._device = device

    def load_bytes(self, onnx: bytes, reference: str) -> None:
        """`load` for a network that is in no repository, or not yet; `reference` names it in errors.

        Raises: ModelCorrupt (no ONNX file), EngineUnavailable (no torch, no GPU, an operator that is not known).
        """
        doing = f"loading {reference} into {self.name}"
        reason = why_no_torch(self._device)
        if reason:
            raise self._unavailable(reference, reason)
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
        inputs = tuple(_spec(each) for each in proto.graph.input if each.name not in constants)
        outputs = tuple(_spec(each) for each in proto.graph.output)
        self._keep(graph, reference, inputs, outputs)

    def _run(self, network: TorchGraph, tensors: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        import torch

        # torch shares an array's memory: a copy, because it wants to write even where nothing does.
        given = {
            name: torch.from_numpy(np.array(tensor, order="C")).to(self._device) for name, tensor in tensors.items()
        }
        with torch.inference_mode():
            outputs = network.run(given)
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

"""What a network from elsewhere is, and whether it can serve here; nothing of it is run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from models import onnx_file
from models.engine import ModelCorrupt, ModelRefused, TensorSpec
from models.engines.onnx import DTYPES, OnnxEngine
from models.manifest import CONTROLS, MAX_AXIS
from models.onnx_file import STANDARD, Structure

MAX_ELEMENTS = 2**31
MAX_NAME = 256
DOMAINS = frozenset({STANDARD, "ai.onnx.ml", "com.microsoft"})  # those whose operators ONNX Runtime brings
NOTHING_ADDED = "nothing was added"


@dataclass(frozen=True, slots=True)
class Network:
    """An ONNX file that ONNX Runtime loads, and whose tensors Headrace can feed."""

    onnx: bytes
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    structure: Structure


def inspect(onnx: bytes, name: str, *, any_batch: bool = False) -> Network:
    """Check a network without running it.

    It must be one file that ONNX Runtime loads, with operators that ONNX Runtime brings, of plain tensors with a free
    first axis, and no declared axis above 2^20 nor tensor above 2^31 elements. Weights may have longer axes: their
    bytes are in the file.

    Args:
        name: what to call it in errors.
        any_batch: whether tensors may have a fixed first axis, or none: what serves them must know how.

    Raises: ModelCorrupt (no ONNX file, or not loadable), ModelRefused (all else).
    """
    try:
        structure = onnx_file.structure(onnx)
        outside = onnx_file.has_external_data(onnx)
    except ModelCorrupt as error:
        raise ModelCorrupt(f"inspecting {name}: expected an ONNX file: {error}; {NOTHING_ADDED}") from error
    if not structure.operators:
        raise ModelCorrupt(f"inspecting {name}: expected an ONNX file, got one without operators; {NOTHING_ADDED}")
    if outside:
        raise ModelRefused(f"inspecting {name}: expected all weights in one file; {NOTHING_ADDED}")
    _check_names(name, structure)
    _check_sizes(name, structure)
    _check_domains(name, structure)
    engine = OnnxEngine()
    engine.load_bytes(onnx, name)
    try:
        network = Network(onnx, engine.inputs, engine.outputs, structure)
    finally:
        engine.close()
    _check_tensors(name, "input", network.inputs, any_batch)
    _check_tensors(name, "output", network.outputs, any_batch)
    return network


def _check_names(name: str, structure: Structure) -> None:
    for text in (*structure.operators, *structure.opsets, *(each.name for each in structure.tensors)):
        if len(text) > MAX_NAME or CONTROLS.search(text):
            raise ModelRefused(
                f"inspecting {name}: expected names of at most {MAX_NAME} characters, none of them a control "
                f"character, got {text[:MAX_NAME]!r}; {NOTHING_ADDED}"
            )


def _check_sizes(name: str, structure: Structure) -> None:
    for tensor in structure.tensors:
        axes = [axis for axis in tensor.shape if axis is not None]
        if (not tensor.is_weight and max(axes, default=0) > MAX_AXIS) or math.prod(axes) > MAX_ELEMENTS:
            raise ModelRefused(
                f"inspecting {name}: expected axes of at most {MAX_AXIS} and tensors of at most {MAX_ELEMENTS} "
                f"elements, got {axes} for `{tensor.name}`; {NOTHING_ADDED}"
            )


def _check_domains(name: str, structure: Structure) -> None:
    foreign = sorted(
        operator for operator in structure.operators if operator not in structure.functions and _is_foreign(operator)
    )
    if foreign:
        raise ModelRefused(
            f"inspecting {name}: ONNX Runtime has no operator {', '.join(foreign)}: export the network without custom "
            f"operators; {NOTHING_ADDED}"
        )


def _is_foreign(operator: str) -> bool:
    """Whether ONNX Runtime does not bring it: one of another domain, or of TensorRT's plugins, which name none."""
    domain, named, _ = operator.partition(":")
    return (bool(named) and domain not in DOMAINS) or operator.endswith("_TRT")


def _check_tensors(name: str, role: str, specs: Sequence[TensorSpec], any_batch: bool) -> None:
    if not specs:
        raise ModelRefused(f"inspecting {name}: expected at least one {role}, got none; {NOTHING_ADDED}")
    for spec in specs:
        if spec.dtype not in DTYPES.values():
            hint = "; of scikit-learn, convert with zipmap=False" if "map(" in spec.dtype else ""
            raise ModelRefused(
                f"inspecting {name}: expected {role}s of {', '.join(DTYPES.values())}, got `{spec.name}` of "
                f"{spec.dtype}{hint}; {NOTHING_ADDED}"
            )
        if role == "input" and 0 in spec.shape:
            raise ModelRefused(
                f"inspecting {name}: expected inputs with something in them, got `{spec}`; {NOTHING_ADDED}"
            )
        if not any_batch and (not spec.shape or spec.shape[0] is not None):
            raise ModelRefused(
                f"inspecting {name}: expected a free first axis, the batch, of every {role}, got `{spec}`: export the "
                f"network with a dynamic batch axis; {NOTHING_ADDED}"
            )

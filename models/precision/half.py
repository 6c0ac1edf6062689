"""A network in float16, with what float16 would spoil left in float32. Needs the extra `optimise`."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from models.precision.stepwise import Stepwise, Tensors, bodies, parse, serialise, uses

LOSSY = 2.0**-8  # of a tensor's spread: what a dozen roundings to float16 (2^-12 each, on average) stay below
LARGEST = 65504 / 8  # float16's own, with room for rows that are to come
KEPT_OPERATORS = {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"}  # they take part in int8, not float16
SUFFIX = {np.dtype(np.float16): "_float16", np.dtype(np.float32): "_float32"}


@dataclass(frozen=True, eq=False)
class Half:
    """A float16 network.

    Args:
        network: The ONNX file.
        kept: Names of the nodes that float16 would have spoilt; others may be in float32 because their operator has no
            float16.
        nodes: How many there are.
    """

    network: bytes
    kept: tuple[str, ...]
    nodes: int


def to_fp16(network: bytes, calibration: Mapping[str, NDArray[Any]], reference: str = "the network") -> Half:
    """The network with float16 weights and tensors; inputs and outputs stay as they are.

    Nodes stay in float32 where float16 loses. First those whose values come within a factor of 8 of its largest. Then
    each tensor that the rows give in float16 is compared with the same one in float32, and where the difference passes
    1/256 of its spread, or is not finite, the node that begins it is put back, then those that feed it, until no tensor
    is off. Equal files and rows give equal files.

    The conversion is Headrace's own: onnxconverter-common 1.16 sends what a node in float32 gives to two others in
    float32 through float16, which is inf beyond 65504.

    Args:
        network: an ONNX file.
        calibration: rows by input name.
        reference: names the network in errors.

    Raises: ModelCorrupt, InferenceFailed.
    """
    model = parse(network, reference)
    original = Stepwise(model, reference)
    rows = original.affordable(calibration)
    expected = original.tensors_of(rows)
    large = {name for name, values in expected.items() if _is_large(values)}
    kept = {node.name for node in model.graph.node if large.intersection([*uses(node), *node.output])}
    while True:
        converted = _convert(model, kept, expected)
        begins = _begin_loss(model, kept, expected, Stepwise(converted, reference).tensors_of(rows))
        if not begins:
            return Half(serialise(converted), tuple(sorted(kept)), len(model.graph.node))
        kept |= begins


def _is_large(values: NDArray[Any]) -> bool:
    return values.dtype == np.float32 and bool((np.abs(values[np.isfinite(values)]) > LARGEST).any())


def _begin_loss(model: onnx.ModelProto, kept: Set[str], expected: Tensors, got: Tensors) -> set[str]:
    """The nodes that are to be put back next."""
    makers = {name: node.name for node in model.graph.node for name in node.output}
    lossy = {name for name in makers if name and not _loss(expected[name], got[name]) <= LOSSY}
    found: set[str] = set()
    for node in model.graph.node:
        if not lossy.intersection(node.output):
            continue
        if node.name in kept:
            found |= {makers[name] for name in uses(node) if name in makers}
        elif not lossy.intersection(uses(node)):
            found.add(node.name)
    return found - kept


def _loss(expected: NDArray[Any], got: NDArray[Any]) -> float:
    """Root mean square difference beside the spread; inf where a finite value became another."""
    if not np.issubdtype(expected.dtype, np.number) and expected.dtype != np.bool_:
        return 0.0 if np.array_equal(expected, got) else np.inf
    if expected.shape != got.shape:
        return np.inf
    wanted, found = expected.astype(np.float64).ravel(), got.astype(np.float64).ravel()
    finite = np.isfinite(wanted)
    if not np.isfinite(found[finite]).all():
        return np.inf
    off = float(np.sqrt(np.mean((wanted - found)[finite] ** 2))) if finite.any() else 0.0
    spread = float(wanted[finite].std()) if off else 0.0
    return off / (spread or float(np.abs(wanted[finite]).max())) if off else 0.0


def _convert(model: onnx.ModelProto, kept: Set[str], known: Tensors) -> onnx.ModelProto:
    """The model with all nodes but `kept` in float16 where the operator has it; `known` says what is a float32."""
    graph = _Graph(model, known)
    versions = {each.domain: each.version for each in model.opset_import}
    for node in model.graph.node:
        parameters = [] if node.name in kept else _float_parameters(node, versions)
        graph.add(node, parameters)
    return graph.finish()


def _float_parameters(node: onnx.NodeProto, versions: Mapping[str, int]) -> list[str]:
    """For each input of a node, then each output, the type variable that may be float16; "" where it may not."""
    if node.op_type in KEPT_OPERATORS or bodies(node) or node.domain not in versions:
        return []
    try:
        schema = onnx.defs.get_schema(node.op_type, versions[node.domain], node.domain)
    except onnx.defs.SchemaError:
        return []
    free = {each.type_param_str for each in schema.type_constraints if "tensor(float16)" in each.allowed_type_strs}
    found = []
    for given, declared in ((node.input, schema.inputs), (node.output, schema.outputs)):
        for place in range(len(given)):
            formal = declared[min(place, len(declared) - 1)]  # the last one may be repeated
            found.append(formal.type_str if formal.type_str in free else "")
    return found


class _Graph:
    """A copy of a model, node by node, with casts between float32 and float16 where they are needed."""

    def __init__(self, model: onnx.ModelProto, known: Tensors) -> None:
        self._model, self._known = model, known
        self._constants = {each.name for each in model.graph.initializer}
        inside = (name for node in model.graph.node if bodies(node) for name in uses(node))
        self._fixed = {each.name for each in model.graph.output} | set(inside)  # float32 under their own names
        self._half: dict[str, str] = {}  # a float32 tensor of the model -> the float16 one that is made instead
        self._casts: dict[tuple[str, np.dtype[Any]], str] = {}
        self._nodes: list[onnx.NodeProto] = []
        self._new: list[onnx.TensorProto] = []

    def add(self, node: onnx.NodeProto, parameters: list[str]) -> None:
        """Append a node, in float16 where its parameters may be."""
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        half = set()
        for place, name in enumerate(node.input):
            if name and self._is_float(name):
                variable = parameters[place] if parameters else ""
                half.add(variable)
                copy.input[place] = self._in(name, np.dtype(np.float16 if variable else np.float32))
        self._nodes.append(copy)
        for place, name in enumerate(node.output):
            variable = parameters[len(node.input) + place] if parameters else ""
            if name and variable and variable in half and self._is_float(name):
                self._make_half(copy, place, name)

    def finish(self) -> onnx.ModelProto:
        """The converted model; constants that nothing reads any more are gone."""
        model = onnx.ModelProto()
        model.CopyFrom(self._model)
        del model.graph.node[:], model.graph.value_info[:], model.graph.initializer[:]
        model.graph.node.extend(self._nodes)
        read = {name for node in self._nodes for name in uses(node)} | {each.name for each in model.graph.output}
        given = {each.name for each in model.graph.input}
        old = [each for each in self._model.graph.initializer if each.name in read or each.name in given]
        model.graph.initializer.extend([*old, *self._new])
        return model

    def _make_half(self, node: onnx.NodeProto, place: int, name: str) -> None:
        if name not in self._fixed:
            self._half[name] = name
            return
        node.output[place] = self._half[name] = name + SUFFIX[np.dtype(np.float16)]
        self._nodes.append(helper.make_node("Cast", [self._half[name]], [name], f"{name}_cast", to=TensorProto.FLOAT))
        self._casts[name, np.dtype(np.float32)] = name

    def _is_float(self, name: str) -> bool:
        return name in self._known and self._known[name].dtype == np.float32

    def _in(self, name: str, dtype: np.dtype[Any]) -> str:
        """The name of this tensor in float16 or float32, which is made on first use."""
        made = np.dtype(np.float16 if name in self._half else np.float32)
        if made == dtype:
            return self._half.get(name, name)
        if (name, dtype) not in self._casts:
            self._casts[name, dtype] = target = name + SUFFIX[dtype]
            if name in self._constants:
                with np.errstate(over="ignore"):  # becomes inf, which is seen as a loss
                    self._new.append(numpy_helper.from_array(self._known[name].astype(dtype), target))
            else:
                to = helper.np_dtype_to_tensor_dtype(dtype)
                self._nodes.append(
                    helper.make_node("Cast", [self._half.get(name, name)], [target], f"{target}_cast", to=to)
                )
        return self._casts[name, dtype]

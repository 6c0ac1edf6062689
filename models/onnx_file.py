"""A look into an ONNX file's protobuf, so that neither refusing nor describing one needs the onnx package."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from models.engine import ModelCorrupt

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5

# field number -> message type, for every way from the file to a tensor, a node or a declared shape (onnx.proto, IR 10)
CHILDREN = {
    "model": {7: "graph", 8: "opset", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 11: "value", 12: "value", 13: "value", 15: "sparse"},
    "function": {7: "node", 11: "attribute", 12: "value"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
    "value": {2: "type"},
    "type": {1: "dense", 4: "type in a type", 8: "dense", 9: "type in a type"},
    "type in a type": {1: "type"},
    "dense": {2: "shape"},
    "shape": {1: "axis"},
    "axis": {},
    "opset": {},
}
EXTERNAL_DATA = 13  # TensorProto.external_data
DIMS, TENSOR_NAME = 1, 8  # of TensorProto
SPARSE_DIMS = 3  # of SparseTensorProto
OP_TYPE, NODE_DOMAIN = 4, 7  # of NodeProto
FUNCTION_NAME, FUNCTION_DOMAIN = 1, 10  # of FunctionProto
PRODUCER, PRODUCER_VERSION, METADATA = 2, 3, 14  # of ModelProto
TEXTS = {
    "model": {2, 3, 4},
    "graph": {2},
    "function": {1, 4, 5, 10},
    "node": {1, 2, 3, 4, 7},
    "attribute": {1},
    "tensor": {8},
    "value": {1},
    "axis": {2},
    "opset": {1},
}
STANDARD = "ai.onnx"


class Field(NamedTuple):
    """One field of a message: its number, its number or bytes, and where it stands with its tag."""

    number: int
    value: int | memoryview
    start: int
    end: int


class Declared(NamedTuple):
    """What a tensor is declared to be: its axes, None where free, and whether its values are in the file."""

    name: str
    shape: tuple[int | None, ...]
    is_weight: bool


@dataclass(frozen=True, slots=True)
class Structure:
    """What a network is made of.

    Args:
        producer: what wrote the file, e.g. `pytorch 2.6`; empty where it does not say.
        opsets: the version of each operator set, by domain; the standard one is `ai.onnx`.
        operators: how often each operator stands in the graphs and functions; those of another domain as
            `com.microsoft:QuickGelu`.
        functions: the operators that the file itself defines, named likewise.
        parameters: how many numbers its tensors hold.
        tensors: every declared tensor.
        metadata: what the file says of itself beside that, such as Ultralytics' `names`.
    """

    producer: str
    opsets: dict[str, int]
    operators: Counter[str]
    functions: frozenset[str]
    parameters: int
    tensors: tuple[Declared, ...]
    metadata: Mapping[str, str]


def has_external_data(onnx: bytes) -> bool:
    """Whether any tensor keeps its values in another file.

    Raises: ModelCorrupt where the bytes are not a protobuf message.

    References: ONNX IR specification, section External Tensor Data; Protocol Buffers, section Encoding.
    """
    return any(
        field.number == EXTERNAL_DATA
        for kind, message in messages(onnx)
        if kind == "tensor"
        for field in fields(message)
    )


def structure(onnx: bytes) -> Structure:
    """Everything that can be said of a network without running it. Raises: ModelCorrupt."""
    opsets: dict[str, int] = {}
    operators: Counter[str] = Counter()
    functions: set[str] = set()
    tensors: list[Declared] = []
    producer, metadata = "", dict[str, str]()
    for kind, message in messages(onnx):
        _check_texts(kind, message)
        if kind == "model":
            producer = " ".join(filter(None, (text(message, PRODUCER), text(message, PRODUCER_VERSION))))
            metadata = dict(_metadata(message))
        elif kind == "opset":
            opsets[text(message, 1) or STANDARD] = next(_numbers(message, 2), 0)
        elif kind == "node":
            operators[_qualified(text(message, NODE_DOMAIN), text(message, OP_TYPE))] += 1
        elif kind == "function":
            functions.add(_qualified(text(message, FUNCTION_DOMAIN), text(message, FUNCTION_NAME)))
        elif kind == "tensor":
            tensors.append(Declared(text(message, TENSOR_NAME), tuple(_dims(message, DIMS)), True))
        elif kind == "sparse":
            tensors.append(Declared("a sparse tensor", tuple(_dims(message, SPARSE_DIMS)), False))
        elif kind == "value":
            tensors += [Declared(text(message, 1), shape, False) for shape in _shapes(message)]
    parameters = sum(math.prod(axis or 0 for axis in each.shape) for each in tensors if each.is_weight)
    return Structure(producer, opsets, operators, frozenset(functions), parameters, tuple(tensors), metadata)


def messages(onnx: bytes | memoryview, kind: str = "model") -> Iterator[tuple[str, memoryview]]:
    """The message and all below it that `CHILDREN` leads to, with their kinds. Raises: ModelCorrupt."""
    pending = [(kind, memoryview(onnx))]
    while pending:
        kind, message = pending.pop()
        yield kind, message
        children = CHILDREN[kind]
        if children:
            pending += [
                (children[field.number], field.value)
                for field in fields(message)
                if field.number in children and isinstance(field.value, memoryview)
            ]


def fields(message: memoryview) -> Iterator[Field]:
    """The fields of one message, in its order; those of a fixed width are left out. Raises: ModelCorrupt."""
    at, end = 0, len(message)
    while at < end:
        start = at
        tag, at = _varint(message, at)
        wire = tag & 7
        if wire == VARINT:
            value, at = _varint(message, at)
            yield Field(tag >> 3, value, start, at)
            continue
        if wire == LENGTH:
            size, at = _varint(message, at)
        elif wire in (FIXED64, FIXED32):
            size = 8 if wire == FIXED64 else 4
        else:
            raise ModelCorrupt(f"reading ONNX protobuf: expected a wire type of 0, 1, 2 or 5, got {wire}")
        if at + size > end:
            raise ModelCorrupt(f"reading ONNX protobuf: expected {size} bytes at {at}, got {end - at}")
        if wire == LENGTH:
            yield Field(tag >> 3, message[at : at + size], start, at + size)
        at += size


def parts(message: memoryview, number: int) -> Iterator[memoryview]:
    """The texts, bytes or messages that a field holds, in its order. Raises: ModelCorrupt."""
    for field in fields(message):
        if field.number == number and isinstance(field.value, memoryview):
            yield field.value


def text(message: memoryview, number: int) -> str:
    """A field's text; empty where there is none. Raises: ModelCorrupt, or UnicodeDecodeError before `structure`."""
    return next((bytes(each).decode() for each in parts(message, number)), "")


def encode_varint(value: int) -> bytes:
    """A number of 0 or more as protobuf writes it."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _metadata(model: memoryview) -> Iterator[tuple[str, str]]:
    """Each entry's key and value; nobody shows them, so they may be of any encoding."""
    for message in parts(model, METADATA):
        entry = {each.number: each.value for each in fields(message)}
        key, value = (entry.get(number, b"") for number in (1, 2))
        if not isinstance(key, int) and not isinstance(value, int):
            yield bytes(key).decode(errors="replace"), bytes(value).decode(errors="replace")


def _qualified(domain: str, name: str) -> str:
    return name if domain in ("", STANDARD) else f"{domain}:{name}"


def _check_texts(kind: str, message: memoryview) -> None:
    """Raise ModelCorrupt where a text is no UTF-8: whoever shows it would fail."""
    numbers = TEXTS.get(kind)
    if not numbers:
        return
    for field in fields(message):
        if field.number in numbers and isinstance(field.value, memoryview):
            try:
                bytes(field.value).decode()
            except UnicodeDecodeError as error:
                raise ModelCorrupt(f"reading ONNX protobuf: expected texts in UTF-8: {error}") from error


def _shapes(value: memoryview) -> Iterator[tuple[int | None, ...]]:
    """The shape of each tensor that a declared value is, or is a list of."""
    for kind, message in messages(value, "value"):
        if kind == "shape":
            axes = [field.value for field in fields(message) if isinstance(field.value, memoryview)]
            yield tuple(next(_numbers(axis, 1), None) for axis in axes)


def _dims(tensor: memoryview, number: int) -> Iterator[int]:
    for field in fields(tensor):
        if field.number == number:
            if isinstance(field.value, int):
                yield field.value
                continue
            at = 0
            while at < len(field.value):  # packed: one number behind the other
                dim, at = _varint(field.value, at)
                yield dim


def _numbers(message: memoryview, number: int) -> Iterator[int]:
    for field in fields(message):
        if field.number == number and isinstance(field.value, int):
            yield field.value


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at == len(message):
            break
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ModelCorrupt("reading ONNX protobuf: a number does not end")

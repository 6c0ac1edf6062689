"""A look into an ONNX file's protobuf, so that the runtime needs no onnx package to refuse one."""

from __future__ import annotations

from collections.abc import Iterator

from models.engine import ModelCorrupt

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5

# field number -> message type, for every way from the file to a tensor (onnx.proto, IR version 10)
CHILDREN = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
EXTERNAL_DATA = 13  # TensorProto.external_data


def has_external_data(onnx: bytes) -> bool:
    """Whether any tensor keeps its values in another file.

    Raises: ModelCorrupt where the bytes are not a protobuf message.

    References: ONNX IR specification, section External Tensor Data; Protocol Buffers, section Encoding.
    """
    pending = [("model", memoryview(onnx))]
    while pending:
        kind, message = pending.pop()
        children = CHILDREN[kind]
        for field, body in _length_fields(message):
            if kind == "tensor" and field == EXTERNAL_DATA:
                return True
            if field in children:
                pending.append((children[field], body))
    return False


def _length_fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    at, end = 0, len(message)
    while at < end:
        tag, at = _varint(message, at)
        wire = tag & 7
        if wire == VARINT:
            _, at = _varint(message, at)
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
            yield tag >> 3, message[at : at + size]
        at += size


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

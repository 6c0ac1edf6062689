"""Weights that an ONNX file keeps in other files, brought inside it; only from below the file's own folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from models import files, onnx_file
from models.engine import ModelRefused
from models.onnx_file import CHILDREN, EXTERNAL_DATA, LENGTH, encode_varint, fields

RAW_DATA, DATA_LOCATION = 9, 14  # of TensorProto
KEY, VALUE = 1, 2  # of StringStringEntryProto
DEEPEST = 100  # messages in messages, protobuf's own limit
NOTHING_ADDED = "nothing was added"


def inline(onnx: bytes, folder: Path, limit_bytes: int) -> bytes:
    """The same network with all of its weights inside.

    A location must be relative, lead nowhere but below `folder`, links followed, and to a regular file with one name:
    a hard link would show a file from elsewhere as if it lay here.

    Args:
        onnx: the file, which may keep weights outside.
        folder: where the file lies.
        limit_bytes: the most that the whole may hold.

    Raises: ModelRefused (a location is not allowed, not there, or too large), ModelCorrupt (no protobuf message).

    References: ONNX IR specification, section External Tensor Data; ONNX, External Data Security.
    """
    if not onnx_file.has_external_data(onnx):
        return onnx
    inlining = _Inlining(folder, limit_bytes - len(onnx))
    return bytes(inlining.rewrite("model", memoryview(onnx), 0))


class _Inlining:
    """One file's rewriting; `left_bytes` is what may still be read, however often a tensor names the same bytes."""

    def __init__(self, folder: Path, left_bytes: int) -> None:
        self._folder = folder
        self._left_bytes = left_bytes

    def rewrite(self, kind: str, message: memoryview, depth: int) -> bytes | memoryview:
        """The message, its external tensors' values inside; what has none stays as it is, byte for byte."""
        if depth > DEEPEST:
            raise ModelRefused(
                f"reading ONNX protobuf: expected at most {DEEPEST} messages in messages; {NOTHING_ADDED}"
            )
        if kind == "tensor":
            return self._tensor(message)
        children = CHILDREN[kind]
        parts: list[bytes | memoryview] = []
        for field in fields(message):
            if field.number in children and isinstance(field.value, memoryview):
                body = self.rewrite(children[field.number], field.value, depth + 1)
                parts += [encode_varint(field.number << 3 | LENGTH), encode_varint(len(body)), body]
            else:
                parts.append(message[field.start : field.end])
        return b"".join(parts)

    def _tensor(self, tensor: memoryview) -> bytes | memoryview:
        place: dict[str, str] = {}
        parts: list[bytes | memoryview] = []
        for field in fields(tensor):
            if field.number == EXTERNAL_DATA and isinstance(field.value, memoryview):
                entry = {each.number: each.value for each in fields(field.value)}
                place[_decode(entry.get(KEY))] = _decode(entry.get(VALUE))
            elif field.number != DATA_LOCATION:
                parts.append(tensor[field.start : field.end])
        if not place:
            return tensor
        values = self._read(place)
        return b"".join([*parts, encode_varint(RAW_DATA << 3 | LENGTH), encode_varint(len(values)), values])

    def _read(self, place: dict[str, str]) -> bytes:
        location = place.get("location", "")
        doing = f"reading weights from {location!r}"
        with self._open(location) as file:
            size = os.fstat(file.fileno()).st_size
            offset = _number(place.get("offset", "0"), doing)
            length = _number(place["length"], doing) if "length" in place else max(0, size - offset)
            if offset + length > size:
                raise ModelRefused(
                    f"{doing}: expected {length} bytes at {offset}, got a file of {size}; {NOTHING_ADDED}"
                )
            if length > self._left_bytes:
                raise ModelRefused(f"{doing}: the network would hold more bytes than allowed; {NOTHING_ADDED}")
            self._left_bytes -= length
            file.seek(offset)
            return file.read(length)

    @contextmanager
    def _open(self, location: str) -> Iterator[BinaryIO]:
        doing = f"reading weights from {location!r}"
        relative = Path(location)
        if not location or "\0" in location or relative.is_absolute() or ".." in relative.parts or "\\" in location:
            raise ModelRefused(f"{doing}: expected a place below the file's own folder; {NOTHING_ADDED}")
        try:
            base = self._folder.resolve(strict=True)
            path = (base / relative).resolve(strict=True)
            if not path.is_relative_to(base):
                raise ModelRefused(f"{doing}: a link leads out of the file's own folder; {NOTHING_ADDED}")
            with files.open_regular(path, through_links=False) as file:
                if os.fstat(file.fileno()).st_nlink > 1:
                    raise ModelRefused(f"{doing}: expected a file with one name, got a hard link; {NOTHING_ADDED}")
                yield file
        except FileNotFoundError as error:
            raise ModelRefused(
                f"{doing}: there is none; give the ONNX file with its weights beside it, or inside; {NOTHING_ADDED}"
            ) from error
        except (OSError, RuntimeError) as error:  # a RuntimeError is a ring of links
            raise ModelRefused(f"{doing}: {getattr(error, 'strerror', None) or error}; {NOTHING_ADDED}") from error


def _number(text: str, doing: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise ModelRefused(f"{doing}: expected a number of bytes, got {text!r}; {NOTHING_ADDED}")
    return int(text)


def _decode(value: int | memoryview | None) -> str:
    return bytes(value).decode("utf-8", "replace") if isinstance(value, memoryview) else ""

"""Named arrays from an .npz that somebody else may have made: nothing is unpickled, nor larger than it says."""

from __future__ import annotations

import math
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from models import files
from models.engine import ModelCorrupt

MAX_ARRAYS = 1024
NUMBERS = "biuf"  # kinds of dtype: truth values, integers, real numbers
TEXTS = "U"
LAST_CHARACTER = 0x10FFFF  # of Unicode
READ_BYTES = 1024 * 1024  # at a time
HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def decode(
    path: Path, what: str, limit_bytes: int, *, then: str = files.NOT_SERVED, own: bool = False
) -> dict[str, NDArray[Any]]:
    """All arrays of the file, by name; they hold numbers.

    Args:
        what: what the file is, for errors: `golden batch`.
        limit_bytes: the most that the arrays may take together, unpacked.
        then: the end of an error's sentence.
        own: the caller named the file, so that it may be a link.

    Raises: ModelCorrupt.
    """
    with files.opened(path, limit_bytes, then=then, through_links=own) as file:
        return unpack(file, f"{what} {path}", limit_bytes, then=then)


def unpack(
    file: IO[bytes],
    what: str,
    limit_bytes: int,
    *,
    then: str = files.NOT_SERVED,
    kinds: str = NUMBERS,
    each_bytes: int | None = None,
) -> dict[str, NDArray[Any]]:
    """`decode` for a file that is open already, or in memory.

    Args:
        what: what the file is and where, for errors: `golden batch fraud/2/golden.npz`.
        kinds: what the arrays may hold: `NUMBERS`, or `NUMBERS + TEXTS`.
        each_bytes: the most that one array may take; by default all of `limit_bytes`.

    Raises: ModelCorrupt.
    """
    doing = f"reading {what}"
    most_bytes = limit_bytes if each_bytes is None else each_bytes
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            unpacked = sum(entry.file_size for entry in entries)
            if unpacked > limit_bytes:
                raise ModelCorrupt(f"{doing}: expected at most {limit_bytes} bytes, got {unpacked}; {then}")
            if len(entries) > MAX_ARRAYS:
                raise ModelCorrupt(f"{doing}: expected at most {MAX_ARRAYS} arrays, got {len(entries)}; {then}")
            return {entry.filename.removesuffix(".npy"): _array(archive, entry, kinds, most_bytes) for entry in entries}
    except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error) as error:
        raise ModelCorrupt(f"{doing}: {error}; {then}") from error


def _array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, kinds: str, most_bytes: int) -> NDArray[Any]:
    """One array; its shape is believed only where that many bytes are there.

    Raises: ValueError.
    """
    name = entry.filename
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{name!r} is compressed in another way than numpy does it")
    with archive.open(entry) as stream:
        shape, by_column, dtype = _header(stream, name)
        if dtype.kind not in kinds:  # objects would have to be unpickled
            expected = "numbers or texts" if TEXTS in kinds else "numbers"
            raise ValueError(f"no plain arrays: expected {name!r} to hold {expected}, got {dtype}")
        size, held = math.prod(shape) * dtype.itemsize, entry.file_size - stream.tell()
        says = f"{name!r} says {list(shape)} of {dtype}, and holds {held} bytes"
        if size > most_bytes:
            raise ValueError(f"expected plain arrays of at most {most_bytes} bytes, but {says}")
        if size != held:
            raise ValueError(says)
        values = bytearray()
        while part := stream.read(READ_BYTES):
            values += part
    found = np.frombuffer(values, dtype)
    if dtype.kind == TEXTS and (found.view(np.dtype("u4").newbyteorder(dtype.byteorder)) > LAST_CHARACTER).any():
        raise ValueError(f"expected {name!r} to hold texts, got numbers that are no characters")
    return found.reshape(shape, order="F").copy() if by_column else found.reshape(shape)


def _header(stream: IO[bytes], name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = npy.read_magic(stream)
    if version not in HEADERS:
        raise ValueError(f"{name!r} is of .npy version {version}, which no plain array needs")
    try:
        found: tuple[tuple[int, ...], bool, np.dtype[Any]] = HEADERS[version](stream)
    except Exception as error:  # it is a Python expression: a damaged one raises whatever a parser may
        raise ValueError(f"the header of {name!r} is damaged: {error}") from error
    return found

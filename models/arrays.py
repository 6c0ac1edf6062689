"""Named arrays from an .npz that somebody else may have made: nothing is unpickled, nor larger than it says."""

from __future__ import annotations

import io
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
HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def decode(
    path: Path, what: str, limit_bytes: int, *, then: str = files.NOT_SERVED, own: bool = False
) -> dict[str, NDArray[Any]]:
    """All arrays of the file, by name.

    Args:
        what: what the file is, for errors: `golden batch`.
        limit_bytes: the most that the arrays may take together, unpacked.
        then: the end of an error's sentence.
        own: the caller named the file, so that it may be a link.

    Raises: ModelCorrupt.
    """
    doing = f"reading {what} {path}"
    data = files.read(path, limit_bytes, then=then, through_links=own)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            unpacked = sum(entry.file_size for entry in entries)
            if unpacked > limit_bytes:
                raise ModelCorrupt(f"{doing}: expected at most {limit_bytes} bytes, got {unpacked}; {then}")
            if len(entries) > MAX_ARRAYS:
                raise ModelCorrupt(f"{doing}: expected at most {MAX_ARRAYS} arrays, got {len(entries)}; {then}")
            return {entry.filename.removesuffix(".npy"): _array(archive, entry) for entry in entries}
    except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error) as error:
        raise ModelCorrupt(f"{doing}: {error}; {then}") from error


def _array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> NDArray[Any]:
    """One array; its shape is believed only where that many bytes are there.

    Raises: ValueError.
    """
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{entry.filename!r} is compressed in another way than numpy does it")
    with archive.open(entry) as stream:
        shape, by_column, dtype = _header(stream, entry.filename)
        if dtype.kind not in NUMBERS:  # objects would have to be unpickled, texts cannot be compared
            raise ValueError(f"expected {entry.filename!r} to hold numbers, got {dtype}")
        values = stream.read()
    if len(values) != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{entry.filename!r} says {list(shape)} of {dtype}, and holds {len(values)} bytes")
    return np.frombuffer(values, dtype).reshape(shape, order="F" if by_column else "C").copy()


def _header(stream: IO[bytes], name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = npy.read_magic(stream)
    if version not in HEADERS:
        raise ValueError(f"{name!r} is of .npy version {version}, which no plain array needs")
    found: tuple[tuple[int, ...], bool, np.dtype[Any]] = HEADERS[version](stream)
    return found

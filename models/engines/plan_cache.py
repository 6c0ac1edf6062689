"""What a build leaves on disk: sealed files that say what they were built from, for which device and by what."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import msgspec

from models import files
from models.engine import EngineUnavailable
from models.engines.sizes import Profile

MAGIC = b"headrace sealed file 1\n"
MAX_HEADER_BYTES = 64 * 1024
MAX_PAYLOAD_BYTES = 16 * 1024**3


class DeviceKey(msgspec.Struct, frozen=True):
    """What measured kernel times are valid for."""

    tensorrt: str
    gpu: str
    compute_capability: str


class PlanKey(msgspec.Struct, frozen=True):
    """Everything that a plan depends on; a plan with any other key is another plan.

    `sha256` is that of the ONNX file, `precision` what its weights and sums are kept in.
    """

    sha256: str
    precision: str
    profiles: tuple[Profile, ...]
    device: DeviceKey


class _Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    key: msgspec.Raw
    sha256: str
    size_bytes: int


def default_folder() -> Path:
    """Where plans are kept unless a caller says otherwise: they belong to a machine, not to a repository of models."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "headrace" / "engines"


def path_of(folder: Path, stem: str, key: PlanKey | DeviceKey) -> Path:
    """The file for `key`: different keys, different files, so that two GPUs can share a folder."""
    suffix = "plan" if isinstance(key, PlanKey) else "timing"
    return folder / f"{stem}-{hashlib.sha256(_encode(key)).hexdigest()[:16]}.{suffix}"


def write(path: Path, key: PlanKey | DeviceKey, payload: bytes) -> None:
    """Seal `payload` and put it in place: readers see the old file or the whole new one.

    Raises: EngineUnavailable where it cannot be written.
    """
    header = _Header(msgspec.Raw(_encode(key)), hashlib.sha256(payload).hexdigest(), len(payload))
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        files.write_atomically(path, MAGIC + msgspec.json.encode(header) + b"\n", payload, private=True)
    except OSError as error:
        raise EngineUnavailable(f"writing {path}: {error.strerror or error}; what was built is lost") from error


def read(path: Path, key: PlanKey | DeviceKey) -> bytes:
    """What was sealed for exactly this key; nothing else is ever returned.

    Raises: EngineUnavailable where there is no such file, or it is cut short, changed, or sealed for another key.
    """
    try:
        with path.open("rb") as file:
            header = _read_header(path, file.read(len(MAGIC)), file.readline(MAX_HEADER_BYTES))
            if bytes(header.key) != _encode(key):
                raise _unusable(path, f"a file for {_encode(key).decode()}", f"one for {bytes(header.key).decode()}")
            rest = os.fstat(file.fileno()).st_size - file.tell()
            if rest != header.size_bytes or rest > MAX_PAYLOAD_BYTES:
                raise _unusable(path, f"{header.size_bytes} bytes after the header", str(rest))
            payload = file.read()
    except FileNotFoundError:
        raise EngineUnavailable(f"reading {path}: it is not there; nothing was built for this yet") from None
    except OSError as error:
        raise EngineUnavailable(f"reading {path}: {error.strerror or error}; it is not loaded") from error
    digest = hashlib.sha256(payload).hexdigest()
    if digest != header.sha256:
        raise _unusable(path, f"sha256 {header.sha256}", digest)
    return payload


def _read_header(path: Path, magic: bytes, line: bytes) -> _Header:
    if magic != MAGIC:
        raise _unusable(path, "a file that Headrace sealed", "another one")
    try:
        return msgspec.json.decode(line, type=_Header)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _unusable(path, "a header", str(error)) from error


def _unusable(path: Path, expected: str, got: str) -> EngineUnavailable:
    return EngineUnavailable(f"reading {path}: expected {expected}, got {got}; it is not loaded: build it again")


def _encode(key: PlanKey | DeviceKey) -> bytes:
    return msgspec.json.encode(key)

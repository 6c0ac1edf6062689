"""The model repository: folders <name>/<version>/ with model.onnx, manifest.toml and golden.npz."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import msgspec

from models import golden as golden_file
from models import manifest as manifest_file
from models import selection
from models.engine import Engine, ModelCorrupt, ModelExists, ModelNotFound
from models.golden import GoldenBatch
from models.manifest import Manifest
from models.onnx_file import has_external_data
from models.selection import AUTO, EngineOptions

ZOO = Path(__file__).parent / "zoo"
"""The bundled, trained models."""

MAX_ONNX_BYTES = 2 * 1024**3  # protobuf's own limit: a larger file cannot be one message
MAX_MANIFEST_BYTES = 1024**2


@dataclass(frozen=True)
class Model:
    """One version of a model on disk, its manifest decoded and its network's sha256 verified."""

    name: str
    version: int
    path: Path
    manifest: Manifest

    @property
    def reference(self) -> str:
        """What predictions and metrics call it: `fraud/1`."""
        return f"{self.name}/{self.version}"

    @property
    def onnx_path(self) -> Path:
        return self.path / "model.onnx"

    def onnx_bytes(self) -> bytes:
        """The network, verified again on each read, so that what was hashed is what runs.

        Raises: ModelCorrupt.
        """
        onnx = _read(self.onnx_path, MAX_ONNX_BYTES)
        digest = hashlib.sha256(onnx).hexdigest()
        if digest != self.manifest.sha256:
            raise ModelCorrupt(
                f"verifying {self.onnx_path}: expected sha256 {self.manifest.sha256}, got {digest}; "
                f"{self.reference} is not served: restore the file or save a new version"
            )
        if has_external_data(onnx):
            raise ModelCorrupt(
                f"verifying {self.onnx_path}: expected all weights inside the file, got external data; "
                f"{self.reference} is not served: save the network as one file"
            )
        return onnx

    def golden(self) -> GoldenBatch:
        """The batch that every engine must reproduce. Raises: ModelCorrupt."""
        return golden_file.decode(self.path / "golden.npz")


def names(root: Path) -> list[str]:
    """The models that have at least one version, sorted."""
    if not root.is_dir():
        return []
    return sorted(
        path.name for path in root.iterdir() if manifest_file.NAME.fullmatch(path.name) and versions(root, path.name)
    )


def versions(root: Path, name: str) -> list[int]:
    """The versions of one model, ascending; folders that are not a positive number do not count."""
    if not manifest_file.NAME.fullmatch(name) or not (root / name).is_dir():
        return []
    found = (path.name for path in (root / name).iterdir() if path.is_dir())
    return sorted(int(each) for each in found if each.isascii() and each.isdigit() and not each.startswith("0"))


def load(root: Path, name: str, version: int | None = None) -> Model:
    """Find a model, decode its manifest, verify its sha256; the newest version unless one is given.

    Raises: ModelNotFound, ModelCorrupt.
    """
    known = versions(root, name)
    if not known:
        raise ModelNotFound(f"loading model {name!r} from {root}: no such model; there is {names(root) or 'none'}")
    if version is None:
        version = known[0]
    elif version not in known:
        raise ModelNotFound(f"loading model {name!r} from {root}: no version {version}; there is {known}")
    path = root / name / str(version)
    source = path / "manifest.toml"
    manifest = manifest_file.decode(_read(source, MAX_MANIFEST_BYTES), source)
    if (manifest.name, manifest.version) != (name, version):
        raise ModelCorrupt(
            f"checking manifest {source}: expected {name}/{version} as the folder says, "
            f"got {manifest.name}/{manifest.version}; the model is not served"
        )
    model = Model(name, version, path, manifest)
    model.onnx_bytes()
    return model


def open_engine(model: Model, engine: str = AUTO, *, threads: int = 1) -> Engine:
    """An engine that serves `model`: loaded, its tensors as the manifest says, warm, golden batch reproduced.

    `auto` is the first of TensorRT, ONNX Runtime with CUDA and ONNX Runtime on the CPU that serves it here;
    `selection.open_engine` also says why those before it do not.

    Raises: EngineUnavailable, ModelCorrupt, ModelIncompatible, InferenceFailed.
    """
    return selection.open_engine(model, engine, EngineOptions(threads=threads)).engine


def save(root: Path, onnx: bytes, manifest: Manifest, golden: GoldenBatch) -> Model:
    """Write a new version and return it, loaded; readers see all of its files or none. Fills in the sha256.

    Raises: ModelExists where the version is there already; ModelCorrupt where what was written cannot be loaded.
    """
    folder = root / manifest.name
    target = folder / str(manifest.version)
    manifest = msgspec.structs.replace(manifest, sha256=hashlib.sha256(onnx).hexdigest())
    text = manifest_file.encode(manifest)
    manifest_file.decode(text, target / "manifest.toml")
    refusal = ModelExists(f"saving {target}: the version is there already; nothing was written: save the next one")
    if target.exists():
        raise refusal
    folder.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{manifest.version}.", dir=folder))
    try:
        temporary.chmod(0o755)
        (temporary / "model.onnx").write_bytes(onnx)
        (temporary / "manifest.toml").write_bytes(text)
        (temporary / "golden.npz").write_bytes(golden.encode())
        try:
            temporary.rename(target)
        except OSError as error:
            raise (refusal if target.exists() else error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return load(root, manifest.name, manifest.version)


def _read(path: Path, limit_bytes: int) -> bytes:
    try:
        size = path.stat().st_size
        if size > limit_bytes:
            raise ModelCorrupt(
                f"reading {path}: expected at most {limit_bytes} bytes, got {size}; the model is not served"
            )
        return path.read_bytes()
    except OSError as error:
        raise ModelCorrupt(f"reading {path}: {error.strerror or error}; the model is not served") from error

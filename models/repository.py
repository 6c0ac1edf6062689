"""The model repository: folders <name>/<version>/ with model.onnx, manifest.toml, golden.npz and often sample.npz."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from models import golden as golden_file
from models import manifest as manifest_file
from models import reference as sample_file
from models.engine import (
    Engine,
    EngineUnavailable,
    ModelCorrupt,
    ModelError,
    ModelExists,
    ModelIncompatible,
    ModelNotFound,
)
from models.engines.onnx import OnnxEngine
from models.golden import GoldenBatch
from models.manifest import Manifest, TensorEntry
from models.onnx_file import has_external_data
from models.reference import Reference

ZOO = Path(__file__).parent / "zoo"
"""The bundled, trained models."""

MAX_ONNX_BYTES = 2 * 1024**3  # protobuf's own limit: a larger file cannot be one message
MAX_MANIFEST_BYTES = 1024**2
MAX_SAMPLE_BYTES = 16 * 1024**2
ENGINES: Mapping[str, type[OnnxEngine]] = {OnnxEngine.name: OnnxEngine}
AUTO = "auto"


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

    def sample(self) -> Reference | None:
        """What inputs and scores looked like in training; None where nobody stored it. Raises: ModelCorrupt."""
        if not self.manifest.sample:
            return None
        path = self.path / "sample.npz"
        data = _read(path, MAX_SAMPLE_BYTES)
        digest = hashlib.sha256(data).hexdigest()
        if digest != self.manifest.sample:
            raise ModelCorrupt(
                f"verifying {path}: expected sha256 {self.manifest.sample}, got {digest}; drift is not watched: "
                "restore the file"
            )
        return sample_file.decode(data, path)


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
        version = known[-1]
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

    `auto` is ONNX Runtime on the CPU.

    Raises: EngineUnavailable, ModelCorrupt, ModelIncompatible, InferenceFailed.
    """
    chosen = OnnxEngine.name if engine == AUTO else engine
    if chosen not in ENGINES:
        raise EngineUnavailable(f"opening {model.reference}: no engine {engine!r}; there is {[AUTO, *ENGINES]!r}")
    opened = ENGINES[chosen](threads=threads)
    opened.load(model)
    try:
        _check_specs(model, opened)
        model.golden().replay(opened, model.manifest.golden, model.reference)  # warms up, too
    except BaseException:
        opened.close()
        raise
    return opened


def save(root: Path, onnx: bytes, manifest: Manifest, golden: GoldenBatch, sample: Reference | None = None) -> Model:
    """Write a new version and return it, loaded; readers see all of its files or none. Fills in each sha256.

    Raises: ModelExists where the version is there already; ModelCorrupt where what was written cannot be loaded.
    """
    folder = root / manifest.name
    target = folder / str(manifest.version)
    stored = b"" if sample is None else sample.encode()
    manifest = msgspec.structs.replace(manifest, sha256=hashlib.sha256(onnx).hexdigest(), sample=_sha256(stored))
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
        if stored:
            (temporary / "sample.npz").write_bytes(stored)
        try:
            temporary.rename(target)
        except OSError as error:
            raise (refusal if target.exists() else error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return load(root, manifest.name, manifest.version)


def add_sample(model: Model, sample: Reference) -> Model:
    """Store a training sample with a version that has none, and return it, loaded; its network stays as it is.

    Raises: ModelExists where it has one; ModelError where the folder cannot be written.
    """
    if model.manifest.sample:
        raise ModelExists(
            f"storing the training sample of {model.reference}: {model.path} has one already; nothing was written"
        )
    data = sample.encode()
    manifest = msgspec.structs.replace(model.manifest, sample=_sha256(data))
    try:
        # What the manifest does not name is not read: readers see the sample with its sha256, or none.
        _replace(model.path / "sample.npz", data)
        _replace(model.path / "manifest.toml", manifest_file.encode(manifest))
    except OSError as error:
        raise ModelError(
            f"storing the training sample of {model.reference} in {model.path}: {error.strerror or error}; "
            f"{model.reference} is as it was"
        ) from error
    return load(model.path.parents[1], model.name, model.version)


def _replace(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(data)
        temporary.rename(path)
    finally:
        temporary.unlink(missing_ok=True)


def _sha256(data: bytes) -> str:
    """Empty where there is nothing."""
    return hashlib.sha256(data).hexdigest() if data else ""


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


def _check_specs(model: Model, engine: Engine) -> None:
    declared: tuple[tuple[str, tuple[TensorEntry, ...]], ...] = (
        ("inputs", model.manifest.inputs),
        ("outputs", model.manifest.outputs),
    )
    for role, entries in declared:
        expected = sorted(str(entry.spec()) for entry in entries)
        got = sorted(str(spec) for spec in getattr(engine, role))
        if expected != got:
            raise ModelIncompatible(
                f"checking the {role} of {model.reference} on {engine.name}: the manifest says {expected}, "
                f"the network has {got}; the model is not served"
            )

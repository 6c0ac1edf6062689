"""The model repository: folders <name>/<version>/ with model.onnx, manifest.toml, golden.npz and often sample.npz."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from models import files, selection, version_folder
from models import golden as golden_file
from models import manifest as manifest_file
from models import reference as sample_file
from models.engine import (
    Engine,
    ModelCorrupt,
    ModelError,
    ModelExists,
    ModelNotFound,
    ModelReadOnly,
    RepositoryUnusable,
)
from models.golden import GoldenBatch
from models.manifest import Manifest
from models.onnx_file import has_external_data
from models.reference import Reference
from models.selection import AUTO, EngineOptions

ZOO = Path(__file__).parent / "zoo"
"""The bundled, trained models."""

MAX_ONNX_BYTES = 2 * 1024**3  # protobuf's own limit: a larger file cannot be one message
MAX_MANIFEST_BYTES = 256 * 1024
MAX_SAMPLE_BYTES = 16 * 1024**2


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
        onnx = files.read(self.onnx_path, MAX_ONNX_BYTES)
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
        data = files.read(path, MAX_SAMPLE_BYTES)
        digest = hashlib.sha256(data).hexdigest()
        if digest != self.manifest.sample:
            raise ModelCorrupt(
                f"verifying {path}: expected sha256 {self.manifest.sample}, got {digest}; drift is not watched: "
                "restore the file"
            )
        return sample_file.decode(data, path)


class Repository:
    """Models in an ordered list of folders: the user's own first, the bundled ones, `ZOO`, last.

    A version that is in several folders is that of the first. What is added goes into the first; the bundled versions
    are never changed nor removed. Nothing is remembered between calls: what is in the folders now counts.

    Args:
        roots: one at least; folders that do not exist are empty.

    Example:
        >>> Repository([Path("my-models"), ZOO]).load("fraud").reference
        'fraud/2'
    """

    def __init__(self, roots: Sequence[Path] = (ZOO,)) -> None:
        self.roots = tuple(roots)

    @property
    def own(self) -> Path:
        """The folder that new versions go into."""
        return self.roots[0]

    def names(self) -> list[str]:
        """The models that have at least one version, sorted.

        Raises: RepositoryUnusable where a folder cannot be read.
        """
        names = {name for root in self.roots for name in _entries(root) if manifest_file.NAME.fullmatch(name)}
        return sorted(name for name in names if self.versions(name))

    def versions(self, name: str) -> list[int]:
        """The versions of one model, ascending; what is not named by a positive number does not count.

        Raises: RepositoryUnusable where a folder cannot be read.
        """
        return sorted(self._roots_of(name))

    def root_of(self, name: str, version: int) -> Path:
        """The folder that a version is in. Raises: ModelNotFound, RepositoryUnusable."""
        found = self._roots_of(name)
        if not found:
            there = ", ".join(self.names()) or "none"
            raise ModelNotFound(f"loading model {name!r} from {self}: no such model; there is {there}")
        if version not in found:
            there = ", ".join(map(str, sorted(found)))
            raise ModelNotFound(f"loading model {name!r} from {self}: no version {version}; there is {there}")
        return found[version]

    def default(self, name: str) -> int:
        """The version that serves where none is named: the newest bundled one, else the first that was added.

        So what is added serves when it is asked for, and not before.

        Raises: ModelNotFound, RepositoryUnusable.
        """
        found = self._roots_of(name)
        bundled = [version for version, root in found.items() if is_bundled(root)]
        version = max(bundled) if bundled else min(found, default=0)
        self.root_of(name, version)
        return version

    def next_version(self, name: str) -> int:
        """What the next version is called: one more than the largest. Raises: RepositoryUnusable."""
        return max(self._roots_of(name), default=0) + 1

    def manifest(self, name: str, version: int) -> Manifest:
        """A version's manifest, without a look at its network.

        Raises: ModelNotFound, ModelCorrupt, RepositoryUnusable.
        """
        root = self.root_of(name, version)
        for folder in (root / name, root / name / str(version)):
            if folder.is_symlink() or not folder.is_dir():
                what = files.kind(folder.lstat().st_mode)
                raise ModelCorrupt(f"reading {folder}: expected a folder, got {what}; the model is not served")
        source = root / name / str(version) / "manifest.toml"
        manifest = manifest_file.decode(files.read(source, MAX_MANIFEST_BYTES), source)
        if (manifest.name, manifest.version) != (name, version):
            raise ModelCorrupt(
                f"checking manifest {source}: expected {name}/{version} as the folder says, "
                f"got {manifest.name}/{manifest.version}; the model is not served"
            )
        return manifest

    def load(self, name: str, version: int | None = None) -> Model:
        """Find a model, decode its manifest, verify its sha256; the `default` version unless one is given.

        Raises: ModelNotFound, ModelCorrupt, RepositoryUnusable.
        """
        if version is None:
            version = self.default(name)
        manifest = self.manifest(name, version)
        model = Model(name, version, self.root_of(name, version) / name / str(version), manifest)
        model.onnx_bytes()
        return model

    def alike(self, name: str, sha256: str) -> Iterator[Manifest]:
        """Of each version whose network has this sha256, by its manifest, the newest first; corrupt ones are not it."""
        for version in reversed(self.versions(name)):
            try:
                manifest = self.manifest(name, version)
            except ModelError:
                continue
            if manifest.sha256 == sha256:
                yield manifest

    def save(self, onnx: bytes, manifest: Manifest, golden: GoldenBatch, sample: Reference | None = None) -> Model:
        """Write a new version and return it, loaded; readers see all of its files or none. Fills in each sha256.

        Raises: ModelExists where the version is there already; ModelCorrupt where what was written cannot be loaded;
            RepositoryUnusable where the folder cannot be written.
        """
        folder = self.own / manifest.name / str(manifest.version)
        version_folder.write(folder, onnx, manifest, golden, sample)
        return self.load(manifest.name, manifest.version)

    def check_writable(self, name: str) -> None:
        """For who is to work long on a new version. Raises: RepositoryUnusable where it could not be saved."""
        version_folder.check_writable(self.own / name / str(self.next_version(name)))

    def add_sample(self, model: Model, sample: Reference) -> Model:
        """Store a training sample with a version that has none, and return it, loaded; its network stays as it is.

        Raises: ModelExists where it has one; ModelReadOnly where it is a bundled one; RepositoryUnusable where the
            folder cannot be written.
        """
        if model.manifest.sample:
            raise ModelExists(
                f"storing the training sample of {model.reference}: {model.path} has one already; nothing was written"
            )
        if model.path.parents[1] != self.own:
            raise ModelReadOnly(
                f"storing the training sample of {model.reference}: it is in {model.path.parents[1]}, which is not to "
                "be changed; nothing was written"
            )
        version_folder.add_sample(model.path, model.manifest, sample)
        return self.load(model.name, model.version)

    def remove(self, name: str, version: int) -> Path:
        """Take a version of the user's own away, at once for whoever reads; returns where it was.

        Raises: ModelReadOnly where it is a bundled one; ModelNotFound; RepositoryUnusable where it cannot be removed.
        """
        root = self.root_of(name, version)
        if is_bundled(root):
            raise ModelReadOnly(
                f"removing {name}/{version}: it is bundled with Headrace, in {root}; nothing was removed"
            )
        folder = root / name / str(version)
        version_folder.remove(folder)
        return folder

    def _roots_of(self, name: str) -> dict[int, Path]:
        """Every version, and the first folder that has it."""
        found: dict[int, Path] = {}
        if manifest_file.NAME.fullmatch(name):
            for root in self.roots:
                for entry in _entries(root / name):
                    if manifest_file.VERSION.fullmatch(entry):
                        found.setdefault(int(entry), root)
        return found

    def __str__(self) -> str:
        return " and ".join(map(str, self.roots))


def is_bundled(root: Path) -> bool:
    """Whether a root is that of the bundled models."""
    return root.resolve() == ZOO.resolve()


def open_engine(model: Model, engine: str = AUTO, *, threads: int = 1) -> Engine:
    """An engine that serves `model`: loaded, its tensors as the manifest says, warm, golden batch reproduced.

    `auto` is the first of TensorRT, ONNX Runtime with CUDA and ONNX Runtime on the CPU that serves it here;
    `selection.open_engine` also says why those before it do not.

    Raises: EngineUnavailable, ModelCorrupt, ModelIncompatible, InferenceFailed.
    """
    return selection.open_engine(model, engine, EngineOptions(threads=threads)).engine


def _entries(folder: Path) -> list[str]:
    """The names in a folder; none where there is no such folder."""
    try:
        return [path.name for path in folder.iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise RepositoryUnusable(f"reading {folder}: {error.strerror or error}; its models are not served") from error

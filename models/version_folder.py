"""The folder of one version, written, completed and removed: whoever reads it sees all of that or nothing."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import msgspec

from models import files
from models import manifest as manifest_file
from models.engine import ModelExists, RepositoryUnusable
from models.golden import GoldenBatch
from models.manifest import Manifest
from models.reference import Reference

NOTHING_WRITTEN = "nothing was written"


def write(folder: Path, onnx: bytes, manifest: Manifest, golden: GoldenBatch, sample: Reference | None = None) -> None:
    """Write a new version. Fills in each sha256 of the manifest.

    Raises: ModelExists where the folder is there already; ModelCorrupt where the manifest says what none may;
        RepositoryUnusable where it cannot be written.
    """
    _check_name(folder)
    stored = b"" if sample is None else sample.encode()
    manifest = msgspec.structs.replace(manifest, sha256=hashlib.sha256(onnx).hexdigest(), sample=_sha256(stored))
    manifest_file.check(manifest, folder / "manifest.toml", then=NOTHING_WRITTEN)
    text = manifest_file.encode(manifest)
    manifest_file.decode(text, folder / "manifest.toml", then=NOTHING_WRITTEN)
    contents = {"model.onnx": onnx, "manifest.toml": text, "golden.npz": golden.encode()}
    if stored:
        contents["sample.npz"] = stored
    try:
        _write(folder, contents)
    except OSError as error:
        raise RepositoryUnusable(f"saving {folder}: {error.strerror or error}; {NOTHING_WRITTEN}") from error


def check_writable(folder: Path) -> None:
    """Raise RepositoryUnusable where `write` would find that it cannot; nothing is made."""
    _check_name(folder)
    there = next(each for each in folder.absolute().parents if os.path.lexists(each))
    if not there.is_dir():
        raise RepositoryUnusable(f"saving {folder}: expected a folder, got a file, {there}; nothing was begun")
    if not os.access(there, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        raise RepositoryUnusable(f"saving {folder}: {there} cannot be written to; nothing was begun")


def add_sample(folder: Path, manifest: Manifest, sample: Reference) -> None:
    """Store a training sample with a version that has none.

    Raises: RepositoryUnusable where the folder cannot be written.
    """
    data = sample.encode()
    text = manifest_file.encode(msgspec.structs.replace(manifest, sample=_sha256(data)))
    try:
        # What the manifest does not name is not read: readers see the sample with its sha256, or none.
        files.write_atomically(folder / "sample.npz", data)
        files.write_atomically(folder / "manifest.toml", text)
    except OSError as error:
        reference = f"{manifest.name}/{manifest.version}"
        raise RepositoryUnusable(
            f"storing the training sample of {reference} in {folder}: {error.strerror or error}; "
            f"{reference} is as it was"
        ) from error


def remove(folder: Path) -> None:
    """Take a version away; where its folder is a link, the link alone.

    Raises: RepositoryUnusable where it cannot be removed.
    """
    _check_name(folder)
    try:
        aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.removed.", dir=folder.parent))
        folder.rename(aside / "model")
        if (aside / "model").is_symlink():
            (aside / "model").unlink()
        shutil.rmtree(aside)
    except OSError as error:
        raise RepositoryUnusable(f"removing {folder}: {error.strerror or error}") from error


def _check_name(folder: Path) -> None:
    """Raise RepositoryUnusable where the folder of the model's name, which all its versions are in, is a link."""
    if folder.parent.is_symlink():
        raise RepositoryUnusable(
            f"changing {folder.parent}: expected a folder, got a link; nothing was changed behind it"
        )


def _write(folder: Path, contents: Mapping[str, bytes]) -> None:
    refusal = ModelExists(f"saving {folder}: the version is there already; {NOTHING_WRITTEN}: save the next one")
    if os.path.lexists(folder):
        raise refusal
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        temporary.chmod(0o755)
        for name, data in contents.items():
            files.write_new(temporary / name, data)
        try:
            temporary.rename(folder)
        except OSError as error:
            raise (refusal if folder.exists() else error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _sha256(data: bytes) -> str:
    """Empty where there is nothing."""
    return hashlib.sha256(data).hexdigest() if data else ""

"""manifest.toml: what a model is, how it was made, and how good it is."""

from __future__ import annotations

import datetime
import math
import re
from codecs import BOM_UTF8
from collections.abc import Iterator
from typing import Any

import msgspec
from numpy.typing import NDArray

from models.engine import ModelCorrupt, TensorSpec
from models.files import NOT_SERVED
from models.vision import specs
from models.vision.specs import Head, Picture, Task

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
SHA256 = re.compile(r"[0-9a-f]{64}")
VERSION = re.compile(r"[1-9][0-9]{0,8}")
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # what a terminal would obey instead of showing it
SURROGATES = re.compile(r"[\ud800-\udfff]")  # bytes of a command line or of a file's name that are not UTF-8
DEEP_KEY = re.compile(rb"(?:[\w\"'-]+[ \t]*\.[ \t]*){16}")  # a minute's work for the TOML parser in some 100 kB
MAX_AXIS = 2**20
FREE_AXIS = -1  # TOML has no null; -1 is also what Triton writes for a free axis


class TensorEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One tensor as the manifest writes it: `shape = [-1, 13]`, -1 for the batch."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    def spec(self) -> TensorSpec:
        return TensorSpec(self.name, self.dtype, tuple(None if axis == FREE_AXIS else axis for axis in self.shape))

    @classmethod
    def of(cls, spec: TensorSpec) -> TensorEntry:
        return cls(spec.name, spec.dtype, tuple(FREE_AXIS if axis is None else axis for axis in spec.shape))

    @classmethod
    def batch(cls, name: str, tensor: NDArray[Any]) -> TensorEntry:
        """The entry of which `tensor` is one batch: its first axis is free."""
        return cls(name, tensor.dtype.name, (FREE_AXIS, *tensor.shape[1:]))


class Tolerance(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How far the golden batch may be off: |got - expected| <= atol + rtol * |expected|."""

    rtol: float = 1e-4
    atol: float = 1e-5


class Trained(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Where the weights come from: the command, the data, the seed."""

    how: str
    on: str
    seed: int
    date: datetime.date | None = None


class Derived(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How a version was made from another one's network.

    `parent` is the other one's reference, e.g. `fraud/2`; `how` the command; `precision` what its weights and sums are
    kept in, e.g. `int8`; `calibrated_on` the rows that its scales come from.
    """

    parent: str
    how: str
    precision: str
    calibrated_on: str = ""


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Everything known about one version of a model.

    `thresholds`, `baseline` and `quality` are free tables of numbers: which keys they hold is the model's own business.
    `sha256` is that of model.onnx, in lower-case hexadecimal. `state` names what the model expects of its pipeline's
    state, e.g. `terminal-history/1`: a model with another name does not replace it while a worker runs. `source` says
    where a network that was not trained here comes from. `sample` is the sha256 of sample.npz, empty where there is
    none. `task` is what a network of vision does; `picture` and `head` say how it is fed and read.
    """

    name: str
    version: int
    description: str
    licence: str
    sha256: str
    inputs: tuple[TensorEntry, ...]
    outputs: tuple[TensorEntry, ...]
    trained: Trained | None = None
    derived: Derived | None = None
    source: str = ""
    state: str = ""
    sample: str = ""
    labels: tuple[str, ...] = ()
    thresholds: dict[str, float] = {}
    baseline: dict[str, float] = {}
    quality: dict[str, float] = {}
    golden: Tolerance = Tolerance()
    task: Task = ""
    picture: Picture | None = None
    head: Head | None = None


def decode(text: bytes, source: object, *, then: str = NOT_SERVED) -> Manifest:
    """Decode and check one manifest; `source` names it in errors, which end with `then`.

    Raises: ModelCorrupt.
    """
    if DEEP_KEY.search(text):
        raise ModelCorrupt(f"decoding manifest {source}: a key has 16 parts or more; {then}")
    try:
        manifest = msgspec.toml.decode(text.removeprefix(BOM_UTF8), type=Manifest)
    except RecursionError:
        raise ModelCorrupt(f"decoding manifest {source}: tables in tables too deep; {then}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ModelCorrupt(f"decoding manifest {source}: {error}; {then}") from error
    check(manifest, source, then=then)
    return manifest


def check(manifest: Manifest, source: object, *, then: str = NOT_SERVED) -> None:
    """Raise ModelCorrupt where a manifest says what none may; arguments as those of `decode`."""
    for complaint in _complaints(manifest):
        raise ModelCorrupt(f"checking manifest {source}: {complaint}; {then}")


def encode(manifest: Manifest) -> bytes:
    """The manifest as TOML; needs tomli-w, which msgspec writes TOML with."""
    return msgspec.toml.encode(manifest)


def _complaints(manifest: Manifest) -> list[str]:
    found = []
    if not NAME.fullmatch(manifest.name):
        found.append(f"expected `name` of lower-case letters, digits, _ and -, got {manifest.name!r}")
    if not VERSION.fullmatch(str(manifest.version)):
        found.append(f"expected `version` of 1 or more, at most 9 digits, got {manifest.version}")
    if not SHA256.fullmatch(manifest.sha256):
        found.append(f"expected `sha256` of 64 hexadecimal digits, got {manifest.sha256!r}")
    if manifest.sample and not SHA256.fullmatch(manifest.sample):
        found.append(f"expected `sample` of 64 hexadecimal digits, or none, got {manifest.sample!r}")
    if not manifest.inputs or not manifest.outputs:
        found.append("expected at least one entry in `inputs` and in `outputs`")
    axes = [axis for entry in (*manifest.inputs, *manifest.outputs) for axis in entry.shape]
    if not all(FREE_AXIS <= axis <= MAX_AXIS for axis in axes):
        found.append(f"expected axes of `shape` of -1 (free) or more, at most {MAX_AXIS}, got {axes}")
    for place, text in _texts(msgspec.to_builtins(manifest)):
        if CONTROLS.search(text):
            found.append(f"expected texts without control characters, got {text!r} in `{place}`")
        if SURROGATES.search(text):
            found.append(f"expected texts in UTF-8, got {text!r} in `{place}`")
    for table in ("thresholds", "baseline", "quality"):
        values: dict[str, float] = getattr(manifest, table)
        found += [
            f"expected a finite `{table}.{key}`, got {value}"
            for key, value in values.items()
            if not math.isfinite(value)
        ]
    for key in ("rtol", "atol"):
        allowed = getattr(manifest.golden, key)
        if not 0 <= allowed < math.inf:
            found.append(f"expected a finite `golden.{key}` of 0 or more, got {allowed}")
    for key in ("score", "iou") if manifest.task == "detect" else ():
        if not 0 <= (threshold := manifest.thresholds.get(key, 0.0)) <= 1:
            found.append(f"expected `thresholds.{key}` of 0 to 1 with the task 'detect', got {threshold}")
    if manifest.task and (manifest.picture is None or manifest.head is None):
        found.append(f"expected the tables `picture` and `head` with the task {manifest.task!r}")
    if manifest.task and not manifest.labels:
        found.append(f"expected `labels` with the task {manifest.task!r}, got none")
    return [*found, *specs.complaints(manifest.picture, manifest.head, len(manifest.labels))]


def _texts(value: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Every text in it, keys of tables included, behind the field that it stands in: `head.family`."""
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, dict):
        for key, each in value.items():
            yield place, key
            yield from _texts(each, f"{place}.{key}" if place else key)
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _texts(each, place)

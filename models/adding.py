"""A user's own network becomes a version of a model: run on a golden batch, written, opened once as proof."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models import arrays, files, repository
from models.engine import (
    Engine,
    InferenceFailed,
    ModelCorrupt,
    ModelIncompatible,
    ModelRefused,
    TensorSpec,
    check_tensors,
)
from models.engines.onnx import OnnxEngine
from models.external_data import inline
from models.golden import INPUT, MAX_GOLDEN_BYTES, OUTPUT, GoldenBatch
from models.inspection import NOTHING_ADDED, Network
from models.manifest import Manifest, TensorEntry, Tolerance
from models.other_files import described
from models.repository import Model, Repository
from models.vision.specs import Head, Picture, Task

SEED = 0
MOST_ROWS, FEWEST_ROWS = 8, 2  # one row alone could not show that rows do not depend on each other
MOST_INPUT_BYTES = 8 * 1024 * 1024
FREE_AXIS_SIZE = 16  # of an axis that is free beside the batch

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class About:
    """What a network cannot say of itself, for its manifest."""

    description: str
    licence: str
    source: str = ""
    state: str = ""
    labels: tuple[str, ...] = ()
    thresholds: dict[str, float] = field(default_factory=dict)
    baseline: dict[str, float] = field(default_factory=dict)
    golden: Tolerance = field(default_factory=Tolerance)
    task: Task = ""
    picture: Picture | None = None
    head: Head | None = None


def read_network(path: Path, sha256: str | None = None) -> bytes:
    """A user's ONNX file, weights that lie beside it brought inside.

    Args:
        sha256: what the file itself must have.

    Raises: ModelCorrupt, ModelRefused.
    """
    onnx = files.read(path, repository.MAX_ONNX_BYTES, then=NOTHING_ADDED, through_links=True)
    digest = hashlib.sha256(onnx).hexdigest()
    if sha256 is not None and digest != sha256:
        raise ModelRefused(f"reading {path}: expected sha256 {sha256}, got {digest}; {NOTHING_ADDED}")
    if not onnx:
        raise ModelCorrupt(f"reading {path}: expected an ONNX file: {described(onnx)}; {NOTHING_ADDED}")
    try:
        return inline(onnx, path.parent, repository.MAX_ONNX_BYTES)
    except ModelCorrupt as error:
        why = described(onnx) or f"{error}, so it is another file, or was cut off or damaged"
        raise ModelCorrupt(f"reading {path}: expected an ONNX file: {why}; {NOTHING_ADDED}") from error
    except ModelRefused as error:
        raise ModelRefused(f"reading {path}: {error}") from error


def read_golden(path: Path, network: Network) -> tuple[Arrays, Arrays]:
    """Inputs, and expected outputs where there are any, from a user's .npz: arrays named as the tensors are.

    Raises: ModelCorrupt, ModelRefused.
    """
    found = arrays.decode(path, "golden batch", MAX_GOLDEN_BYTES, then=NOTHING_ADDED, own=True)
    sides: list[dict[str, NDArray[Any]]] = []
    for prefix, specs in ((INPUT, network.inputs), (OUTPUT, network.outputs)):
        names = {spec.name for spec in specs}
        side = {name: found.pop(key) for name in names for key in (prefix + name, name) if key in found}
        sides.append(side)
    if found:
        expected = sorted(spec.name for spec in (*network.inputs, *network.outputs))
        raise ModelRefused(
            f"reading golden batch {path}: expected arrays named {expected}, got {sorted(found)} as well; "
            f"{NOTHING_ADDED}"
        )
    return sides[0], sides[1]


def seeded_batch(specs: Sequence[TensorSpec]) -> Arrays:
    """A batch that suits the specs, the same whenever it is made.

    Real numbers are from the standard normal distribution, unsigned bytes are any, other integers 0 or 1: an index
    into a table of unknown length.

    Raises: ModelRefused where a row is absurdly large.
    """
    shapes = {spec.name: tuple(FREE_AXIS_SIZE if axis is None else axis for axis in spec.shape[1:]) for spec in specs}
    row_bytes = sum(int(np.prod(shapes[spec.name])) * np.dtype(spec.dtype).itemsize for spec in specs)
    rows = min(MOST_ROWS, max(FEWEST_ROWS, MOST_INPUT_BYTES // max(1, row_bytes)))
    if rows * row_bytes > MAX_GOLDEN_BYTES:
        raise ModelRefused(
            f"making a golden batch: expected rows of at most {MAX_GOLDEN_BYTES // FEWEST_ROWS} bytes, "
            f"got {row_bytes}; {NOTHING_ADDED}"
        )
    random = np.random.default_rng(SEED)
    return {spec.name: _random(random, spec.dtype, (rows, *shapes[spec.name])) for spec in specs}


def golden_batch(
    network: Network,
    name: str,
    given: tuple[Arrays, Arrays] | None = None,
    engine: Engine | None = None,
    tolerance: Tolerance | None = None,
) -> GoldenBatch:
    """The inputs given, or seeded ones, and the outputs that belong to them.

    Outputs that are given must come out within the tolerance, and are kept; the rest is what the network computes on
    ONNX Runtime. The first row alone must give what it gives in the batch, and all numbers must be finite.

    Args:
        engine: what runs the network, loaded, and is closed; default: ONNX Runtime on the CPU.

    Raises: ModelRefused.
    """
    inputs, expected = given or (seeded_batch(network.inputs), {})
    hint = "" if given else "; give a batch that it can take with --golden FILE.npz"
    if engine is None:
        engine = onnx = OnnxEngine()
        onnx.load_bytes(network.onnx, name)
    try:
        outputs = _run(engine, inputs, name, hint)
        golden = GoldenBatch(inputs, outputs | dict(expected))
        try:
            golden.replay(engine, tolerance or Tolerance(), name)
        except ModelIncompatible as error:
            why = "the network gives something else than the batch says, or its rows depend on each other"
            raise ModelRefused(f"{error}: {why}, or it is not the same twice; {NOTHING_ADDED}") from error
    finally:
        engine.close()
    size = sum(array.nbytes for array in (*golden.inputs.values(), *golden.outputs.values()))
    if size > MAX_GOLDEN_BYTES:
        raise ModelRefused(
            f"making the golden batch of {name}: expected at most {MAX_GOLDEN_BYTES} bytes, got {size}: "
            f"give fewer rows with --golden FILE.npz; {NOTHING_ADDED}"
        )
    return golden


def add(models: Repository, name: str, network: Network, golden: GoldenBatch, about: About) -> Model:
    """Write the network as the next version of `name`, and open it once; a version that cannot be opened goes again.

    Raises: ModelError.
    """
    manifest = Manifest(
        name=name,
        version=models.next_version(name),
        description=about.description,
        licence=about.licence,
        sha256="0" * 64,
        inputs=tuple(map(TensorEntry.of, network.inputs)),
        outputs=tuple(map(TensorEntry.of, network.outputs)),
        source=about.source,
        state=about.state,
        labels=about.labels,
        thresholds=about.thresholds,
        baseline=about.baseline,
        golden=about.golden,
        task=about.task,
        picture=about.picture,
        head=about.head,
    )
    model = models.save(network.onnx, manifest, golden)
    try:
        repository.open_engine(model).close()
    except BaseException:
        models.remove(name, model.version)
        raise
    return model


def _run(engine: Engine, inputs: Arrays, name: str, hint: str) -> dict[str, NDArray[Any]]:
    doing = f"running the golden batch of {name}"
    try:
        check_tensors(name, "input", engine.inputs, inputs)
    except ModelIncompatible as error:
        raise ModelRefused(f"{error}; {NOTHING_ADDED}") from error
    rows = {len(array) for array in inputs.values()}
    if len(rows) != 1 or 0 in rows:
        raise ModelRefused(
            f"{doing}: expected as many rows in every input, one at least, got {sorted(rows)}; {NOTHING_ADDED}"
        )
    try:
        outputs = engine.infer(inputs)
    except InferenceFailed as error:
        raise ModelRefused(f"{doing}: {error}{hint}; {NOTHING_ADDED}") from error
    for output, array in outputs.items():
        if array.shape[:1] != (*rows,):
            raise ModelRefused(
                f"{doing}: expected {rows.pop()} rows of `{output}`, one for each of the input, "
                f"got {list(array.shape)}; {NOTHING_ADDED}"
            )
        if not np.isfinite(array).all():
            raise ModelRefused(
                f"{doing}: expected finite numbers in `{output}`, got NaN or infinity{hint}; {NOTHING_ADDED}"
            )
    return outputs


def _random(random: np.random.Generator, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    if dtype.startswith("float"):
        return random.standard_normal(shape).astype(dtype)
    return random.integers(0, 256 if dtype == "uint8" else 2, shape).astype(dtype)

"""A version of a model in a lower precision: derived, compared with its original, refused or saved."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np

from models import repository
from models.engine import DerivationFailed
from models.engines.onnx import SLICE_ROWS, OnnxEngine
from models.golden import GoldenBatch
from models.manifest import Derived, Tolerance
from models.precision.compare import Comparison, Judge, Speed, Tensors, compare, infer_all, measure
from models.precision.rows import Rows, check
from models.repository import Model, Repository

if TYPE_CHECKING:
    from models.precision.int8 import Target

Precision = Literal["fp16", "int8"]
GOLDEN = "golden batch"
SIZES = (1, 64, SLICE_ROWS)
MOST_LOSS = 0.005  # of a figure of quality, such as average precision
LEAST_AGREEMENT = 0.999  # of decisions on held-out rows; on the golden batch one row may be more than that
MOST_MEAN = 0.01  # mean difference, beside the spread of the original's outputs
LEAST_SPEED_UP = 1.02  # at the largest batch, which is what a worker under load has; below is within the noise
WOBBLE = 1e-5  # of an input's value: more than float32 arithmetic differs by from engine to engine
MARGIN = 4  # another engine, with kernels unknown here, may be so much further off than this one is from itself
LEAST_ROWS = 16


@dataclass(frozen=True, eq=False)
class Variant:
    """A network in another precision, and what was measured of it.

    Args:
        parent: The float32 model.
        precision: `fp16` or `int8`.
        network: The ONNX file.
        made: How, in words.
        golden: The parent's inputs with the variant's own outputs.
        tolerance: How far an engine may be off those.
        comparisons: On the golden batch, then on held-out rows.
        speeds: By batch size, ascending.
    """

    parent: Model
    precision: Precision
    network: bytes
    made: str
    golden: GoldenBatch
    tolerance: Tolerance
    comparisons: tuple[Comparison, ...]
    speeds: tuple[Speed, ...]

    @property
    def faster(self) -> bool:
        """Whether it is on this machine, with as many rows as an engine takes at once."""
        return self.speeds[-1].speed_up >= LEAST_SPEED_UP

    def refusals(self, most_loss: float = MOST_LOSS) -> list[str]:
        """What speaks against it: more loss than is allowed, in words; speed does not count."""
        return [reason for each in self.comparisons for reason in _complaints(each, most_loss)]

    def save(self, models: Repository, how: str, calibrated_on: str) -> Model:
        """Write it as the next version of its model; thresholds, labels, state, baseline and training sample are the
        parent's.

        Args:
            how: The command.
            calibrated_on: The rows.

        Raises: ModelError where it cannot be written, or does not serve once it is.
        """
        old = self.parent.manifest
        manifest = msgspec.structs.replace(
            old,
            version=models.next_version(old.name),
            derived=Derived(self.parent.reference, how, self.precision, calibrated_on),
            quality=self._quality(),
            golden=self.tolerance,
        )
        model = models.save(self.network, manifest, self.golden, self.parent.sample())
        repository.open_engine(model).close()
        return model

    def _quality(self) -> dict[str, float]:
        held_out = self.comparisons[-1]
        figures = dict(held_out.variant) | {f"float32_{name}": value for name, value in held_out.original.items()}
        if held_out.agreement is not None:
            figures["decision_agreement"] = held_out.agreement
        figures |= {"largest_difference": held_out.largest, "mean_difference": held_out.mean}
        figures |= {f"speed_up_{speed.rows}": speed.speed_up for speed in self.speeds}
        return {name: round(value, 6) for name, value in figures.items()}


def original(models: Repository, name: str, version: int | None = None) -> Model:
    """The model to derive from: the version, or the one that serves, or else the newest that is not derived itself.

    Raises: ModelNotFound, ModelCorrupt; DerivationFailed where it is derived from another, or a tool is missing.
    """
    _tools(name)  # said before minutes of work
    chosen = models.load(name, version)
    for number in reversed(models.versions(name) if version is None else []):
        if chosen.manifest.derived is not None:
            chosen = models.load(name, number)
    _check_original(chosen)
    return chosen


def derive(
    parent: Model,
    precision: Precision,
    calibration: Rows,
    held_out: Sequence[Rows],
    judge: Judge,
    target: Target = "cpu",
    on_step: Callable[[str], None] = lambda _: None,
) -> Variant:
    """Make a variant and measure all that decides whether it is kept; nothing is written.

    A variant in float16 is judged node by node, each tensor rounded as a GPU would round it, since ONNX Runtime on a
    CPU rounds only at the end of a chain. The golden batch holds what the variant gives on `onnx-cpu`, so that it
    catches an engine that is broken for this variant; its tolerance is `MARGIN` times what outputs differ by on the
    golden batch and the calibration rows if the same file is run node by node, or if its inputs move by `WOBBLE`: a
    value that another engine rounds the other way moves outputs by much more than float32 does.

    Args:
        calibration: Rows that scales and precisions are chosen on.
        held_out: Others, to judge on; the last of them are those that the manifest's figures are of.
        judge: Figures of quality, for rows with labels.
        target: What an int8 variant is for.
        on_step: Called with what begins, as often as `steps` says.

    Raises: DerivationFailed, ModelError.
    """
    make = _tools(parent.reference)
    _check_original(parent)
    specs = [entry.spec() for entry in parent.manifest.inputs]
    for rows in (calibration, *held_out):
        check(rows, specs, parent.reference, max([LEAST_ROWS, *(spec.shape[0] or 0 for spec in specs if spec.shape)]))
    fixed = specs[0].shape[0]
    calibration, *judged = (_whole(rows, fixed) if fixed else rows for rows in (calibration, *held_out))
    golden = Rows(GOLDEN, parent.golden().inputs)
    network = parent.onnx_bytes()
    on_step("deriving")
    derived, made = make(network, precision, calibration, target, parent.reference)
    with _Pair(parent.reference, network, derived, fixed or SLICE_ROWS) as pair:
        comparisons = []
        for rows in (golden, *judged):
            on_step("comparing")
            got = pair.by_node(rows) if precision == "fp16" else pair.fused(rows)
            comparisons.append(compare(rows, pair.expected(rows), got, parent.manifest.thresholds, judge))
        on_step("comparing")
        off = max(pair.unsteadiness(rows) for rows in (golden, calibration))
        on_step("measuring speed")
        speeds = measure(pair.original, pair.variant, calibration.tensors, (fixed,) if fixed else SIZES)
        outputs = pair.fused(golden)
    default = parent.manifest.golden
    return Variant(
        parent=parent,
        precision=precision,
        network=derived,
        made=made,
        golden=GoldenBatch(golden.tensors, outputs),
        tolerance=Tolerance(default.rtol, max(default.atol, float(f"{MARGIN * off:.2g}"))),
        comparisons=tuple(comparisons),
        speeds=speeds,
    )


def steps(held_out: Sequence[Rows]) -> int:
    """How often `derive` calls its `on_step`."""
    return len(held_out) + 4


def _complaints(found: Comparison, most_loss: float) -> list[str]:
    if not np.isfinite(found.largest):
        return [f"an output is not finite on {found.what}"]
    complaints = []
    if found.mean > MOST_MEAN * found.spread:
        complaints.append(
            f"outputs are off by {found.mean:.3g} on average on {found.what}, "
            f"allowed are {MOST_MEAN:.0%} of their spread: {MOST_MEAN * found.spread:.3g}"
        )
    if found.what != GOLDEN and found.agreement is not None and found.agreement < LEAST_AGREEMENT:
        complaints.append(
            f"{found.agreement:.2%} of the decisions agree on {found.what}, at least {LEAST_AGREEMENT:.1%} must"
        )
    complaints += [
        f"{name} is {loss:.4f} lower on {found.what}, allowed are {most_loss:g}"
        for name, loss in found.losses.items()
        if loss > most_loss
    ]
    return complaints


def _check_original(parent: Model) -> None:
    if parent.manifest.derived is not None:
        raise DerivationFailed(
            f"deriving a variant of {parent.reference}: expected an original, got one that is itself derived from "
            f"{parent.manifest.derived.parent}; derive from that one"
        )
    if parent.manifest.picture is not None and parent.manifest.picture.batch == 1:
        raise DerivationFailed(
            f"deriving a variant of {parent.reference}: expected a network that takes any number of pictures a "
            "run, got one that takes one; export it with a dynamic batch axis and add it again"
        )


def _whole(rows: Rows, size: int) -> Rows:
    """As many rows as fill batches of a fixed size."""
    return rows.take(slice(len(rows) // size * size))


def _largest(first: Tensors, second: Tensors) -> float:
    """The largest difference between finite outputs."""
    off = [np.abs(first[name].astype(np.float64) - second[name]) for name in first]
    return max(float(np.nan_to_num(each, nan=0.0, posinf=0.0).max()) for each in off)


def _wobbled(rows: Rows) -> Rows:
    """The rows with float values up or down a little, always in the same way."""
    up = np.random.default_rng(0)
    moved = {
        name: values * (1 + WOBBLE * up.choice([-1, 1], values.shape)).astype(values.dtype)
        if np.issubdtype(values.dtype, np.floating)
        else values
        for name, values in rows.tensors.items()
    }
    return Rows(rows.what, moved, rows.labels)


class _Pair:
    """The original and the variant, loaded: the variant as the engine runs it, and node by node."""

    def __init__(self, reference: str, original: bytes, variant: bytes, size: int) -> None:
        from models.precision.stepwise import Stepwise

        self.original, self.variant, self._size = OnnxEngine(), OnnxEngine(), size
        self.original.load_bytes(original, reference)
        self.variant.load_bytes(variant, f"a variant of {reference}")
        self._steps = Stepwise(variant, f"a variant of {reference}")

    def __enter__(self) -> _Pair:
        return self

    def __exit__(self, *_: object) -> None:
        self.original.close()
        self.variant.close()

    def expected(self, rows: Rows) -> Tensors:
        return infer_all(self.original.infer, rows.tensors, self._size)

    def fused(self, rows: Rows) -> Tensors:
        return infer_all(self.variant.infer, rows.tensors, self._size)

    def by_node(self, rows: Rows) -> Tensors:
        return infer_all(self._steps.infer, rows.tensors, self._size)

    def unsteadiness(self, rows: Rows) -> float:
        """By how much the variant's outputs differ from its own, run and fed a little differently."""
        own = self.fused(rows)
        return max(_largest(own, self.by_node(rows)), _largest(own, self.fused(_wobbled(rows))))


def _tools(reference: str) -> Callable[[bytes, Precision, Rows, Target, str], tuple[bytes, str]]:
    """What derives a network; raises where it is not installed."""
    try:
        from models.precision.half import to_fp16
        from models.precision.int8 import to_int8
    except ImportError as error:
        raise DerivationFailed(
            f"deriving a variant of {reference}: importing {error.name} failed; install what it needs: "
            "pip install 'headrace[optimise]'"
        ) from error

    def make(network: bytes, precision: Precision, rows: Rows, target: Target, reference: str) -> tuple[bytes, str]:
        if precision == "fp16":
            half = to_fp16(network, rows.tensors, reference)
            return half.network, f"{len(half.kept)} of {half.nodes} nodes stay in float32 for their values"
        quantised = to_int8(network, rows.tensors, target, reference)
        return quantised.network, f"{len(quantised.products)} products in int8, scales by {quantised.method}"

    return make

"""What every engine promises: named tensors in, named tensors out, and one tree of errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from numpy.typing import NDArray

if TYPE_CHECKING:
    from models.repository import Model


class ModelError(Exception):
    """Root of everything that can go wrong with a model or its engine."""

    retriable = False


class ModelNotFound(ModelError):
    """The repository holds no such model or version."""


class ModelExists(ModelError):
    """A version is written once: saving over it is refused."""


class ModelReadOnly(ModelError):
    """A bundled version: it is neither changed nor removed."""


class RepositoryUnusable(ModelError):
    """A folder of the repository cannot be read, or not be written."""


class ModelRefused(ModelError):
    """A network that cannot become a model here: its tensors, operators or sizes, or what it computes."""


class ModelCorrupt(ModelError):
    """The files are not what the manifest says: sha256, manifest, golden batch, size."""


class ModelIncompatible(ModelError):
    """A tensor's name, dtype or shape is not what the model declares."""


class EngineUnavailable(ModelError):
    """No engine of that name, its runtime is not installed, or it is not loaded."""


class InferenceFailed(ModelError):
    """The runtime raised while it ran a batch whose tensors were as declared."""


class TrainingFailed(ModelError):
    """The training data or the trained network are not fit to become a model."""


class DerivationFailed(ModelError):
    """A variant cannot be derived: the rows are not fit to calibrate or judge it on, or what derives it is missing."""


class VariantRefused(ModelError):
    """A derived variant loses more than is allowed, or gains nothing."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Name, dtype and shape of one input or output; `None` in the shape is a free axis, the batch.

    >>> str(TensorSpec("features", "float32", (None, 13)))
    'features: float32 [n, 13]'
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype} {_brackets(self.shape)}"

    def accepts(self, array: NDArray[Any]) -> bool:
        """Whether `array` has this dtype, this rank and every fixed axis; costs under a microsecond."""
        shape = array.shape
        return (
            array.dtype.name == self.dtype
            and len(shape) == len(self.shape)
            and all(want is None or want == got for want, got in zip(self.shape, shape, strict=True))
        )


class Engine(Protocol):
    """What runs a network: load once, infer often, close.

    Thread rule: `infer` may be called from any thread, and from several at once; where the runtime serves one call at a
    time, the others wait. It releases the GIL while it computes. `load` and `close` belong to one thread, and come when
    nothing is inferred.
    Nothing is cast or padded: a tensor that is not as declared raises ModelIncompatible.
    """

    @property
    def name(self) -> str:
        """What served, as metrics, logs and predictions show it: "onnx-cpu", "tensorrt-fp16"."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The loaded network's own inputs; empty before `load`."""

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The loaded network's own outputs; empty before `load`."""

    def load(self, model: Model) -> None:
        """Make the network ready to run.

        Raises: ModelCorrupt, EngineUnavailable.
        """

    def infer(self, tensors: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run one batch; the first axis of every output is the first axis of the inputs.

        Raises: ModelIncompatible, InferenceFailed; EngineUnavailable before `load` and after `close`.
        """

    def close(self) -> None:
        """Release the network; may be called more than once."""


def check_tensors(reference: str, role: str, specs: Sequence[TensorSpec], tensors: Mapping[str, NDArray[Any]]) -> None:
    """Raise ModelIncompatible unless `tensors` are exactly those that `specs` declare."""
    for spec in specs:
        tensor = tensors.get(spec.name)
        if tensor is None:
            raise ModelIncompatible(
                f"checking the {role}s of {reference}: expected `{spec}`, got {_names(tensors)}; the batch was not run"
            )
        if not spec.accepts(tensor):
            raise ModelIncompatible(
                f"checking the {role}s of {reference}: expected `{spec}`, "
                f"got {tensor.dtype.name} {_brackets(tensor.shape)}; the batch was not run"
            )
    if len(tensors) != len(specs):
        extra = sorted(set(tensors) - {spec.name for spec in specs})
        raise ModelIncompatible(
            f"checking the {role}s of {reference}: expected only {[spec.name for spec in specs]!r}, "
            f"got {extra!r} as well; the batch was not run"
        )


def describe(tensors: Mapping[str, NDArray[Any]]) -> str:
    """Names, dtypes and shapes for an error: `features: float32 [512, 13]`."""
    return ", ".join(f"{name}: {tensor.dtype.name} {_brackets(tensor.shape)}" for name, tensor in tensors.items())


def first_line(error: BaseException) -> str:
    """What a runtime's error says, without its trace: its first line, or its type where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _names(tensors: Mapping[str, NDArray[Any]]) -> str:
    return f"only {sorted(tensors)!r}" if tensors else "no tensors"


def _brackets(shape: Sequence[int | None]) -> str:
    return "[" + ", ".join("n" if axis is None else str(axis) for axis in shape) + "]"

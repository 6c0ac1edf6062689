"""Which engine serves a model: those that there are, the choice among them, and why the better ones were not taken."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from models.engine import Engine, EngineUnavailable, ModelError, ModelIncompatible
from models.engines.alone import OneByOne
from models.engines.onnx import OnnxCudaEngine, OnnxEngine, why_no_cuda
from models.engines.tensorrt import TensorRtEngine, tensorrt_name, why_no_tensorrt
from models.engines.tensorrt_build import DEFAULT_MAX_BATCH_SIZE, precision_of
from models.engines.torch import TorchEngine, why_no_torch
from models.manifest import TensorEntry

if TYPE_CHECKING:
    from models.golden import GoldenBatch
    from models.repository import Model

log = logging.getLogger(__name__)

AUTO = "auto"
ORDER = ("tensorrt", OnnxCudaEngine.name, OnnxEngine.name)
"""What `auto` tries, best first."""


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How an engine is made.

    Args:
        threads: how many compute a batch on the CPU; 0: one a core.
        max_batch_size: the largest micro-batch; a TensorRT plan is built for it.
        plans: the folder of TensorRT plans; default: the user's cache.
        build: whether a TensorRT plan that is not on disk is built while the engine opens, which takes up to minutes.
    """

    threads: int = 1
    max_batch_size: int = DEFAULT_MAX_BATCH_SIZE
    plans: Path | None = None
    build: bool = False


@dataclass(frozen=True, slots=True)
class Availability:
    """An engine's name, and why it cannot run here, as a clause; None where it may."""

    name: str
    reason: str | None


@dataclass(frozen=True, slots=True)
class Passed:
    """An engine that would have come first, and the sentence why it was not taken."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Selected:
    """The engine that serves, and those that were passed over for it, best first."""

    engine: Engine
    passed: tuple[Passed, ...]

    @property
    def reason(self) -> str:
        """Why no better engine serves, in one line; empty where the best one does."""
        return "; ".join(f"{each.name}: {each.reason}" for each in self.passed)


@dataclass(frozen=True, slots=True)
class EngineKind:
    """Why an engine cannot run here, if it cannot, and what makes one."""

    why_not: Callable[[], str | None]
    make: Callable[[EngineOptions], Engine]


ENGINES: Mapping[str, EngineKind] = MappingProxyType(
    {
        "tensorrt": EngineKind(why_no_tensorrt, lambda o: TensorRtEngine(o.max_batch_size, o.plans, o.build)),
        OnnxCudaEngine.name: EngineKind(why_no_cuda, lambda o: OnnxCudaEngine(o.threads)),
        OnnxEngine.name: EngineKind(lambda: None, lambda o: OnnxEngine(o.threads)),
        "torch-cuda": EngineKind(lambda: why_no_torch("cuda"), lambda _: TorchEngine("cuda")),
        "torch-cpu": EngineKind(lambda: why_no_torch("cpu"), lambda _: TorchEngine("cpu")),
    }
)


def available() -> list[Availability]:
    """Every engine there is, and why not where it cannot run here; imports no runtime that a cheap look rules out."""
    return [Availability(name, kind.why_not()) for name, kind in ENGINES.items()]


def served_name(engine: str, model: Model) -> str:
    """What an engine of `ENGINES` calls itself once it serves `model`: `tensorrt-fp16` for `tensorrt`."""
    return tensorrt_name(precision_of(model)) if engine == TensorRtEngine.name else engine


def open_engine(model: Model, engine: str = AUTO, options: EngineOptions | None = None) -> Selected:
    """An engine that serves `model`: loaded, its tensors as the manifest says, warm, golden batch reproduced.

    `auto` takes the first of `ORDER` that does all that here; whatever keeps one from it becomes its reason. An engine
    that is asked for by name is opened, or its error is raised: nothing takes its place.

    Raises: EngineUnavailable, ModelCorrupt, ModelIncompatible, InferenceFailed.
    """
    options = options or EngineOptions()
    if engine != AUTO:
        return Selected(open_by_name(model, engine, options), ())
    passed: list[Passed] = []
    for name in ORDER[:-1]:
        try:
            return Selected(open_by_name(model, name, options), tuple(passed))
        except ModelError as error:
            log.debug("opening %s on %s: %s", model.reference, name, error)
            passed.append(Passed(name, str(error)))
    return Selected(open_by_name(model, ORDER[-1], options), tuple(passed))


def open_by_name(model: Model, engine: str, options: EngineOptions) -> Engine:
    """`open_engine` for one engine of `ENGINES`, which is closed again where it does not serve the model."""
    kind = ENGINES.get(engine)
    if kind is None:
        raise EngineUnavailable(
            f"opening {model.reference}: no engine {engine!r}; there is {', '.join([AUTO, *ENGINES])}"
        )
    reason = kind.why_not()
    if reason:
        raise EngineUnavailable(f"opening {model.reference} on {engine}: {reason}; it is not served by this engine")
    opened = kind.make(options)
    if model.manifest.picture is not None and model.manifest.picture.batch == 1:
        opened = OneByOne(opened, [entry.spec() for entry in model.manifest.outputs])
    try:
        opened.load(model)
        check_specs(model, opened)
        golden = model.golden()
        golden.replay(opened, model.manifest.golden, model.reference)  # warms up, too
        _check_reading(model, golden)
    except BaseException:
        opened.close()
        raise
    return opened


def _check_reading(model: Model, golden: GoldenBatch) -> None:
    """Raise ModelIncompatible where the network is one of vision, and not read as its manifest says."""
    if model.manifest.task:
        from models.vision import trial  # loads what compiles, which other networks do without

        trial.check(model.manifest, golden)


def check_specs(model: Model, engine: Engine) -> None:
    """Raise ModelIncompatible unless the loaded network's tensors are those of the manifest."""
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

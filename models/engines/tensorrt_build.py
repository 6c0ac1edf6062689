"""From an ONNX file to a TensorRT plan on disk. Needs tensorrt 11 and torch (extra `gpu`), and a GPU."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.engine import EngineUnavailable, ModelIncompatible
from models.engines import plan_cache
from models.engines.aside import Aside, Report
from models.engines.build_progress import BuildProgress
from models.engines.plan_cache import DeviceKey, PlanKey
from models.engines.sizes import profiles

if TYPE_CHECKING:
    from models.repository import Model

log = logging.getLogger(__name__)

DEFAULT_MAX_BATCH_SIZE = 16384  # what a micro-batch holds unless the settings say otherwise
WORKSPACE_BYTES = 1024**3  # scratch memory of a build: another model may be serving on the same device
FLOAT32 = "fp32"


def precision_of(model: Model) -> str:
    """What the network computes in. TensorRT 11 takes it from the ONNX graph; it is no option of a build."""
    return model.manifest.derived.precision if model.manifest.derived else FLOAT32


def plan_key(onnx: bytes, precision: str, max_batch_size: int) -> PlanKey:
    """What a plan of this network for this machine's GPU depends on."""
    import tensorrt
    import torch

    capability = ".".join(map(str, torch.cuda.get_device_capability()))
    device = DeviceKey(tensorrt.__version__, torch.cuda.get_device_name(), capability)
    return PlanKey(hashlib.sha256(onnx).hexdigest(), precision, profiles(max_batch_size), device)


def plan_path(folder: Path, reference: str, key: PlanKey) -> Path:
    """Where the plan for `key` is, or will be: `fraud-2-<digest of the key>.plan`."""
    return plan_cache.path_of(folder, reference.replace("/", "-"), key)


def build(onnx: bytes, reference: str, key: PlanKey, folder: Path, report: Report) -> bytes:
    """Build the plan for `key` and write it, and the kernel times that were measured, into `folder`.

    Takes seconds to minutes, of which kernel times that are on disk already save most.

    Raises: EngineUnavailable where TensorRT cannot build it, or the plan cannot be written.
    """
    import tensorrt

    messages = TensorRtLog()
    logger, monitor = messages.as_logger(), _monitor(BuildProgress(report))
    builder = tensorrt.Builder(logger)
    network = builder.create_network()  # strongly typed: TensorRT 11 knows no other kind
    parser = tensorrt.OnnxParser(network, logger)
    if not parser.parse(onnx):
        reasons = "; ".join(parser.get_error(index).desc() for index in range(parser.num_errors))
        raise EngineUnavailable(f"building {reference} for tensorrt: its parser refuses the network: {reasons}")
    config = builder.create_builder_config()
    config.clear_flag(tensorrt.BuilderFlag.TF32)  # float32 is to mean float32, as on every other engine
    config.set_memory_pool_limit(tensorrt.MemoryPoolType.WORKSPACE, WORKSPACE_BYTES)
    config.progress_monitor = monitor
    for profile in _profiles(builder, network, reference, key):
        config.add_optimization_profile(profile)
    timing_path = plan_cache.path_of(folder, "kernels", key.device)
    timing = _known_timing(config, timing_path, key.device)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineUnavailable(f"building {reference} for tensorrt: {messages.last or 'it gave no reason'}")
    plan_cache.write(timing_path, key.device, bytes(timing.serialize()))
    plan_cache.write(plan_path(folder, reference, key), key, bytes(plan))
    return bytes(plan)


def build_aside(model: Model, max_batch_size: int, folder: Path | None = None) -> Aside:
    """Build a model's plan in a process of its own; what serves goes on meanwhile.

    A plan that is there already is done at once. The result is on disk: `TensorRtEngine` finds it.
    """
    where = folder or plan_cache.default_folder()
    return Aside(f"building {model.reference} for tensorrt", build_plan, model, max_batch_size, where)


def build_plan(report: Report, model: Model, max_batch_size: int, folder: Path) -> None:
    """Build a model's plan here and now, unless it is on disk already.

    Raises: as `build`; ModelCorrupt where the network is not what its manifest says.
    """
    onnx = model.onnx_bytes()
    key = plan_key(onnx, precision_of(model), max_batch_size)
    try:
        plan_cache.read(plan_path(folder, model.reference, key), key)
    except EngineUnavailable as reason:
        log.info("building %s for tensorrt: %s", model.reference, reason)
        build(onnx, model.reference, key, folder, report)


def _known_timing(config: Any, path: Path, key: DeviceKey) -> Any:
    """The kernel times of earlier builds on this device, attached to `config`; none where the file is of no use."""
    try:
        known = plan_cache.read(path, key)
    except EngineUnavailable as reason:
        log.info("timing all kernels: %s", reason)
        known = b""
    timing = config.create_timing_cache(known)
    if not config.set_timing_cache(timing, False):  # False: refused where it was measured on another device
        timing = config.create_timing_cache(b"")
        config.set_timing_cache(timing, False)
    return timing


def _profiles(builder: Any, network: Any, reference: str, key: PlanKey) -> list[Any]:
    made = []
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    for each in inputs:
        check_batch_axis(reference, each.name, tuple(each.shape))
    for rows in key.profiles:
        profile = builder.create_optimization_profile()
        for each in inputs:
            rest = tuple(each.shape)[1:]
            profile.set_shape(each.name, (rows.smallest, *rest), (rows.best, *rest), (rows.largest, *rest))
        made.append(profile)
    return made


def check_batch_axis(reference: str, name: str, shape: tuple[int, ...]) -> None:
    """Raise ModelIncompatible unless the first axis, and no other, is free (-1, as TensorRT writes it)."""
    if not shape or shape[0] != -1 or -1 in shape[1:]:
        raise ModelIncompatible(
            f"opening {reference} on tensorrt: expected tensor `{name}` whose first axis, the batch, is free and no "
            f"other, got {list(shape)}; another engine may serve it"
        )


class TensorRtLog:
    """What TensorRT has to say: its last error, for who raises it; warnings go to the log."""

    def __init__(self) -> None:
        self.last = ""

    def write(self, severity: str, message: str) -> None:
        if severity in ("INTERNAL_ERROR", "ERROR"):
            self.last = message
        elif severity == "WARNING":
            log.warning("TensorRT: %s", message)

    def as_logger(self) -> Any:
        """This log as TensorRT wants it."""
        import tensorrt

        write: Callable[[str, str], None] = self.write

        class Logger(tensorrt.ILogger):
            def __init__(self) -> None:
                tensorrt.ILogger.__init__(self)

            def log(self, severity: Any, msg: str) -> None:
                write(severity.name, msg)

        return Logger()


def _monitor(progress: BuildProgress) -> Any:
    import tensorrt

    class Monitor(tensorrt.IProgressMonitor):
        def __init__(self) -> None:
            tensorrt.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            progress.start(phase_name, parent_phase, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            progress.step(phase_name, step)
            return True

        def phase_finish(self, phase_name: str) -> None:
            progress.finish(phase_name)

    return Monitor()

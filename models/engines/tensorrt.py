"""TensorRT on an NVIDIA GPU: a plan from disk, one CUDA graph a batch size. Needs the extra `gpu`."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from models.engine import EngineUnavailable, InferenceFailed, ModelError, TensorSpec, first_line
from models.engines import plan_cache, tensorrt_build
from models.engines.aside import Progress
from models.engines.device import why_no_gpu
from models.engines.runtime import RuntimeEngine
from models.engines.sizes import fixed_sizes, infer_in_slots, profile_of, profiles
from models.engines.tensorrt_build import DEFAULT_MAX_BATCH_SIZE, TensorRtLog, check_batch_axis

if TYPE_CHECKING:
    from models.repository import Model

log = logging.getLogger(__name__)

MAJOR = "11"  # the first whose networks are all strongly typed
# TensorRT's name of a type -> numpy's and torch's
DTYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "INT64": "int64",
    "INT32": "int32",
    "INT8": "int8",
    "UINT8": "uint8",
    "BOOL": "bool",
}


class TensorRtEngine(RuntimeEngine["list[_Slot]"]):
    """Engine `tensorrt-<precision>`: batches are padded to the next power of two, each of which is one CUDA graph.

    Rows beyond `max_batch_size` are run as further batches. The network's first axis must be the batch, and free; no
    other may be. Device memory, pinned host buffers, contexts and graphs are made by `load`; `infer` allocates nothing
    on the device.

    Thread rule as for every Engine; stream, contexts and buffers serve one call at a time, so that others wait.

    Args:
        max_batch_size: the largest batch that kernels are chosen for; part of the plan's key.
        folder: where plans are kept.
        build: whether `load` builds a plan that is not on disk, which takes seconds to minutes; else it is unavailable.
    """

    name = "tensorrt"

    def __init__(
        self, max_batch_size: int = DEFAULT_MAX_BATCH_SIZE, folder: Path | None = None, build: bool = True
    ) -> None:
        super().__init__()
        self._max_batch_size = max_batch_size
        self._folder = folder or plan_cache.default_folder()
        self._build = build
        self._held: list[Any] = []  # what the slots point into, and what must outlive them
        self._turn = threading.Lock()

    def load(self, model: Model) -> None:
        self.load_bytes(model.onnx_bytes(), model.reference, tensorrt_build.precision_of(model))

    def load_bytes(self, onnx: bytes, reference: str, precision: str = tensorrt_build.FLOAT32) -> None:
        """`load` for a network that is in no repository, or not yet; `reference` names it in errors.

        Raises: EngineUnavailable (no GPU, no plan, TensorRT fails), ModelIncompatible (axes that it does not serve).
        """
        self.close()
        self._reference = reference
        reason = why_no_tensorrt()
        if reason:
            raise self._unavailable(reference, reason)
        try:
            self._open(onnx, reference, precision)
        except ModelError:
            self.close()
            raise
        except Exception as error:  # TypeError where a TensorRT object cannot be made, RuntimeError from torch, ...
            self.close()
            raise EngineUnavailable(
                f"loading {reference} into {self.name}: {type(error).__name__}: {first_line(error)}; it is not served"
            ) from error
        self.name = tensorrt_name(precision)

    def close(self) -> None:
        loaded = bool(self._held)
        super().close()
        self._held = []
        if loaded:
            with contextlib.suppress(Exception):  # a lost device refuses even this
                import torch

                torch.cuda.empty_cache()  # to the device, for the engine that comes next

    def _run(self, network: list[_Slot], tensors: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        with self._turn:
            return infer_in_slots(network, tensors, self._outputs)

    def _open(self, onnx: bytes, reference: str, precision: str) -> None:
        import tensorrt
        import torch

        messages = TensorRtLog()
        logger = messages.as_logger()
        plan = self._plan(onnx, reference, precision)
        runtime = tensorrt.Runtime(logger)
        engine = runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise EngineUnavailable(f"loading {reference} into {self.name}: {messages.last or 'the plan is refused'}")
        stream = torch.cuda.Stream()
        scratch = torch.empty(max(engine.device_memory_size_v2, 1), dtype=torch.uint8, device="cuda")
        self._held = [logger, runtime, engine, stream, scratch]
        inputs = _specs(engine, tensorrt.TensorIOMode.INPUT, reference)
        outputs = _specs(engine, tensorrt.TensorIOMode.OUTPUT, reference)
        buffers = {spec.name: _Buffer(spec, self._max_batch_size) for spec in (*inputs, *outputs)}
        ranges = profiles(self._max_batch_size)
        slots: list[_Slot] = []
        for rows in fixed_sizes(self._max_batch_size):
            # A captured graph is bound to its context's state, so each has a context; all share the scratch memory,
            # because one call runs at a time.
            context = engine.create_execution_context(tensorrt.ExecutionContextAllocationStrategy.USER_MANAGED)
            if context is None:
                raise EngineUnavailable(f"loading {reference} into {self.name}: {messages.last or 'no context'}")
            context.set_device_memory(scratch.data_ptr(), engine.device_memory_size_v2)
            chosen = context.set_optimization_profile_async(profile_of(rows, ranges), stream.cuda_stream)
            _require(chosen, f"the profile of {rows} rows", messages)
            stream.synchronize()
            slot = _Slot(rows, context, stream, messages, buffers, inputs, outputs)
            slot.capture()
            slots.append(slot)
        self._keep(slots, reference, inputs, outputs)

    def _plan(self, onnx: bytes, reference: str, precision: str) -> bytes:
        key = tensorrt_build.plan_key(onnx, precision, self._max_batch_size)
        try:
            return plan_cache.read(tensorrt_build.plan_path(self._folder, reference, key), key)
        except EngineUnavailable as reason:
            if not self._build:
                name = reference.partition("/")[0]
                raise EngineUnavailable(
                    f"{reason}; `headrace models build {name} --max-batch-size {self._max_batch_size}` builds it"
                ) from reason
            log.warning("building a TensorRT plan of %s, which takes a while: %s", reference, reason)
        return tensorrt_build.build(onnx, reference, key, self._folder, _log_progress(reference))


def tensorrt_name(precision: str) -> str:
    """What the engine calls itself once it serves a network of this precision: `tensorrt-fp16`."""
    return f"{TensorRtEngine.name}-{precision}"


def why_no_tensorrt() -> str | None:
    """Why there is no TensorRT engine here, as a clause; None where it may start. Imports nothing heavy."""
    missing = [name for name in ("tensorrt", "torch") if find_spec(name) is None]
    reason = why_no_gpu()
    if reason or missing:
        return reason or f"{' and '.join(missing)} cannot be imported: pip install 'headrace[gpu]'"
    found = _installed()
    if found is not None and found.partition(".")[0] != MAJOR:
        return f"expected TensorRT {MAJOR}, got {found}: pip install 'headrace[gpu]'"
    return None


def _installed() -> str | None:
    """The version that pip installed, without importing it; None where it came another way."""
    from importlib import metadata  # 20 ms, which a machine without a GPU need not spend

    try:
        return metadata.version("tensorrt")
    except metadata.PackageNotFoundError:
        return None


class _Buffer:
    """One tensor's memory for the largest batch: pinned on the host, and on the device."""

    def __init__(self, spec: TensorSpec, rows: int) -> None:
        import torch

        shape = (rows, *(axis or 0 for axis in spec.shape[1:]))
        dtype = getattr(torch, spec.dtype)
        self.host = torch.zeros(shape, dtype=dtype, pin_memory=True)
        self.device = torch.zeros(shape, dtype=dtype, device="cuda")
        self.array: NDArray[Any] = self.host.numpy()


class _Slot:
    """Implements `sizes.Slot`: the first `rows` rows of every buffer, and one context set to that shape."""

    def __init__(
        self,
        rows: int,
        context: Any,
        stream: Any,
        messages: TensorRtLog,
        buffers: Mapping[str, _Buffer],
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
    ) -> None:
        self.rows = rows
        self.inputs: Mapping[str, NDArray[Any]] = {spec.name: buffers[spec.name].array[:rows] for spec in inputs}
        self.outputs: Mapping[str, NDArray[Any]] = {spec.name: buffers[spec.name].array[:rows] for spec in outputs}
        self._context, self._stream, self._messages = context, stream, messages
        self._to_device = [(each.device[:rows], each.host[:rows]) for each in (buffers[spec.name] for spec in inputs)]
        self._to_host = [(each.host[:rows], each.device[:rows]) for each in (buffers[spec.name] for spec in outputs)]
        self._graph: Any = None
        for spec in inputs:
            taken = context.set_input_shape(spec.name, (rows, *spec.shape[1:]))
            _require(taken, f"{rows} rows of `{spec.name}`", messages)
        for name, buffer in buffers.items():
            _require(context.set_tensor_address(name, buffer.device.data_ptr()), f"memory for `{name}`", messages)

    def run(self) -> None:
        import torch

        with torch.cuda.stream(self._stream):
            for device, host in self._to_device:
                device.copy_(host, non_blocking=True)
            if self._graph is None:
                self._enqueue()
            else:
                self._graph.replay()
            for host, device in self._to_host:
                host.copy_(device, non_blocking=True)
        self._stream.synchronize()

    def capture(self) -> None:
        """Make the launch one CUDA graph; a network that cannot be captured, one with branches say, stays without.

        References: NVIDIA TensorRT Developer Guide, section CUDA Graphs (one run before the capture, so that TensorRT
        has finished its own work for the new shape; one context a graph).
        """
        import torch

        self.run()
        graph = torch.cuda.CUDAGraph()
        try:
            # "thread_local": what other threads do on the device meanwhile is none of this capture's business.
            with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
                self._enqueue()
        except (RuntimeError, InferenceFailed) as error:
            log.info("running %d rows without a CUDA graph: %s", self.rows, first_line(error))
            return
        self._graph = graph

    def _enqueue(self) -> None:
        self._messages.last = ""
        if not self._context.execute_async_v3(self._stream.cuda_stream):
            raise InferenceFailed(self._messages.last or "TensorRT refused the batch and gave no reason")


def _require(done: bool, what: str, messages: TensorRtLog) -> None:
    if not done:
        raise EngineUnavailable(f"TensorRT refuses {what}: {messages.last or 'it gave no reason'}; it is not served")


def _specs(engine: Any, mode: Any, reference: str) -> tuple[TensorSpec, ...]:
    found = []
    for name in (engine.get_tensor_name(index) for index in range(engine.num_io_tensors)):
        if engine.get_tensor_mode(name) != mode:
            continue
        shape, dtype = tuple(engine.get_tensor_shape(name)), engine.get_tensor_dtype(name).name
        check_batch_axis(reference, name, shape)
        if dtype not in DTYPES:
            raise EngineUnavailable(
                f"loading {reference} into tensorrt: expected tensor `{name}` of one of {sorted(DTYPES.values())}, "
                f"got {dtype}; it is not served"
            )
        found.append(TensorSpec(name, DTYPES[dtype], (None, *shape[1:])))
    return tuple(found)


def _log_progress(reference: str) -> Any:
    """A report that logs each tenth of a build once."""
    told = np.zeros(11, bool)

    def report(progress: Progress) -> None:
        tenth = int(progress.share * 10)
        if not told[tenth]:
            told[tenth] = True
            log.info("building a TensorRT plan of %s: %d %%, %s", reference, tenth * 10, progress.doing)

    return report

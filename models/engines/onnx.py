"""ONNX Runtime, on the CPU and through its CUDA provider."""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from models.engine import EngineUnavailable, ModelCorrupt, TensorSpec, first_line
from models.engines.device import device_fault, why_no_gpu
from models.engines.runtime import RuntimeEngine

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, NodeArg, SessionOptions

DTYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
    "tensor(uint8)": "uint8",
    "tensor(int8)": "int8",
    "tensor(bool)": "bool",
}

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
CUDA_OPTIONS = {
    "device_id": "0",
    "arena_extend_strategy": "kSameAsRequested",  # the device is shared with what else serves
    "cudnn_conv_algo_search": "HEURISTIC",  # the default measures again for every new batch size
    "use_tf32": "0",  # float32 is to mean float32, as on every other engine
}
QUIET, WARNINGS = 4, 2  # severities of ONNX Runtime's log

SLICE_ROWS = 1024  # what a small network computes of so many rows stays in a core's own cache; of ten times as many not
SLICE_BYTES = 2 << 20  # likewise, of an input whose rows are large: pictures go through one by one


class OnnxEngine(RuntimeEngine["InferenceSession"]):
    """Engine `onnx-cpu`: ONNX Runtime on the CPU, at most `SLICE_ROWS` rows, or `SLICE_BYTES` of them, at a time.

    One of `threads` suits small networks and many workers a machine: the batch is computed on the caller's thread, no
    pool is made, and nothing spins between batches. A large network may take more: these share the rows of a batch,
    which costs a core half of what sharing each operator does, and share the operators where there are fewer rows than
    threads. The network is then in memory twice. 0 means one a core.

    Thread rule as for every Engine; `infer` releases the GIL while a session runs.
    """

    name = "onnx-cpu"
    _failed = "ONNX Runtime failed"

    def __init__(self, threads: int = 1) -> None:
        super().__init__()
        self._threads = threads or os.cpu_count() or 1
        self._lone: InferenceSession | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._output_names: list[str] = []
        self._takes_any_rows = False

    def load_bytes(self, onnx: bytes, reference: str) -> None:
        """`load` for a network that is in no repository, or not yet; `reference` names it in errors.

        Raises: ModelCorrupt (ONNX Runtime cannot read it), EngineUnavailable (ONNX Runtime cannot be imported).
        """
        try:
            import onnxruntime
        except ImportError as error:
            raise EngineUnavailable(
                f"loading {reference} into {self.name}: importing onnxruntime failed ({error}); "
                "reinstall it with `pip install onnxruntime`"
            ) from error
        try:
            session = self._session_of(onnx, reference)
            lone = self._lone_session_of(onnx)
            inputs, outputs = _specs(session.get_inputs()), _specs(session.get_outputs())  # may be named in no UTF-8
        except EngineUnavailable:
            raise
        except Exception as error:  # ONNX Runtime's exceptions share no base of their own
            kind = EngineUnavailable if device_fault(error) else ModelCorrupt
            raise kind(
                f"loading {reference} into {self.name}: ONNX Runtime {onnxruntime.__version__} "
                f"cannot make a session of it: {first_line(error)}; it is not served"
            ) from error
        self._output_names = [spec.name for spec in outputs]
        self._takes_any_rows = all(spec.shape and spec.shape[0] is None for spec in (*inputs, *outputs))
        if lone is not None and self._takes_any_rows:
            self._lone, self._pool = lone, ThreadPoolExecutor(self._threads, "onnx-cpu")
        self._keep(session, reference, inputs, outputs)

    def close(self) -> None:
        super().close()
        self._lone = None
        if self._pool is not None:
            self._pool.shutdown(wait=False)
            self._pool = None

    def _session_of(self, onnx: bytes, reference: str) -> InferenceSession:
        import onnxruntime

        return onnxruntime.InferenceSession(onnx, self._options(self._threads), providers=[CPU])

    def _lone_session_of(self, onnx: bytes) -> InferenceSession | None:
        """The session that each thread runs rows of its own on; None where there is one thread only."""
        import onnxruntime

        if self._threads == 1:
            return None
        return onnxruntime.InferenceSession(onnx, self._options(1), providers=[CPU])

    def _run(self, network: InferenceSession, tensors: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        return dict(zip(self._output_names, self._arrays(network, tensors), strict=True))

    def _arrays(self, session: InferenceSession, tensors: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        rows = len(next(iter(tensors.values()))) if self._takes_any_rows else 0
        most, pool = _slice_rows(tensors, rows), None
        if self._lone is not None and rows >= self._threads:
            session, pool = self._lone, self._pool
            most = min(most, -(-rows // self._threads))
        if rows <= most:
            return list(session.run(self._output_names, tensors))

        def run(start: int) -> list[NDArray[Any]]:
            part = {name: each[start : start + most] for name, each in tensors.items()}
            return list(session.run(self._output_names, part))

        starts = range(0, rows, most)
        slices = map(run, starts) if pool is None else pool.map(run, starts)
        return [np.concatenate(parts) for parts in zip(*slices, strict=True)]

    def _options(self, threads: int) -> SessionOptions:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.enable_mem_pattern = False  # a pattern is kept per batch size, and dynamic batches have many sizes
        options.log_severity_level = 4  # what it would log comes as an exception
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        return options


class OnnxCudaEngine(OnnxEngine):
    """Engine `onnx-cuda`: ONNX Runtime's CUDA provider, inputs and outputs bound to the device.

    Operators that the provider lacks run on the CPU, as ONNX Runtime places them; a provider that does not start at all
    makes the engine unavailable, although ONNX Runtime itself would go on with the CPU and say nothing to the caller.
    """

    name = "onnx-cuda"

    def _session_of(self, onnx: bytes, reference: str) -> InferenceSession:
        reason = why_no_cuda()
        if reason:
            raise self._unavailable(reference, reason)
        import onnxruntime

        _preload_cuda_libraries()
        with _quiet():
            session = onnxruntime.InferenceSession(
                onnx, self._options(self._threads), providers=[(CUDA, CUDA_OPTIONS), CPU], enable_fallback=0
            )
        if CUDA not in session.get_providers():
            version = onnxruntime.__version__
            raise self._unavailable(reference, f"ONNX Runtime {version} left out its CUDA provider: {_why_left_out()}")
        return session

    def _lone_session_of(self, onnx: bytes) -> None:
        return None

    def _arrays(self, session: InferenceSession, tensors: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        return run_bound(session, tensors, self._output_names, "cuda")


def run_bound(
    session: InferenceSession, tensors: Mapping[str, NDArray[Any]], outputs: Sequence[str], device: str
) -> list[NDArray[Any]]:
    """One run whose inputs are copied to `device` as they are bound, and whose outputs are copied back at once."""
    binding = session.io_binding()
    for name, tensor in tensors.items():
        binding.bind_cpu_input(name, np.ascontiguousarray(tensor))
    for name in outputs:
        binding.bind_output(name, device)
    session.run_with_iobinding(binding)
    return list(binding.copy_outputs_to_cpu())


def why_no_cuda() -> str | None:
    """Why there is no `onnx-cuda` here, as a clause; None where it may start. Imports ONNX Runtime only with a GPU."""
    if find_spec("onnxruntime") is None:
        return "onnxruntime is not installed; install onnxruntime-gpu in its place"
    reason = why_no_gpu()
    if reason:
        return reason
    import onnxruntime

    if CUDA not in onnxruntime.get_available_providers():
        return "the installed onnxruntime is built for the CPU alone; install onnxruntime-gpu in its place"
    return None


def _preload_cuda_libraries() -> None:
    """Load CUDA and cuDNN from their wheels, where no system-wide ones are; newer ONNX Runtimes can."""
    import onnxruntime

    if hasattr(onnxruntime, "preload_dlls"):
        with contextlib.redirect_stdout(io.StringIO()):  # it prints what it misses; a session says it better
            onnxruntime.preload_dlls()


def _why_left_out() -> str:
    """What the dynamic linker says to the provider's library: ONNX Runtime keeps it to its own log."""
    import onnxruntime

    folder = Path(onnxruntime.__file__).parent / "capi"
    try:
        ctypes.CDLL(str(folder / "libonnxruntime_providers_shared.so"), mode=ctypes.RTLD_GLOBAL)
        ctypes.CDLL(str(folder / "libonnxruntime_providers_cuda.so"))
    except OSError as error:
        return f"{first_line(error)} (`pip install 'onnxruntime-gpu[cuda,cudnn]'` brings the libraries it needs)"
    return "its library loads, but it does not start on this GPU and driver"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep ONNX Runtime's own log off standard error: what goes wrong here is raised."""
    import onnxruntime

    onnxruntime.set_default_logger_severity(QUIET)
    try:
        yield
    finally:
        onnxruntime.set_default_logger_severity(WARNINGS)


def _slice_rows(tensors: Mapping[str, NDArray[Any]], rows: int) -> int:
    """How many rows a session is given at a time."""
    row_bytes = sum(each.nbytes for each in tensors.values()) // max(1, rows)
    return max(1, min(SLICE_ROWS, SLICE_BYTES // max(1, row_bytes)))


def _specs(nodes: Sequence[NodeArg]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(
            node.name,
            DTYPES.get(node.type, node.type),
            tuple(axis if isinstance(axis, int) else None for axis in node.shape),
        )
        for node in nodes
    )

"""A stand-in for `tensorrt` and for torch's CUDA where there is no GPU: networks are run by ONNX Runtime.

It is as strict as the real one is documented to be (a shape inside the context's profile, an address for every tensor,
scratch memory, one run before a capture), so that what Headrace asks of TensorRT, and in which order, is tested. What
TensorRT makes of it, only a GPU can tell: tests/models/test_engine_conformance.py runs there.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from types import ModuleType
from typing import Any

import numpy as np
import onnxruntime
import pytest

GPU, CAPABILITY, VERSION = "Stand-in GPU", (9, 0), "11.4.0.106"
MAGIC = b"plan of a stand-in\n"


class Severity(IntEnum):
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)


class DataType(Enum):
    FLOAT, HALF, INT64, BF16 = "float32", "float16", "int64", "bfloat16"


class Mode(Enum):
    INPUT, OUTPUT = "input", "output"


@dataclass
class Device:
    """What happened on the device, and what shall go wrong."""

    builds: int = 0
    launches: int = 0
    replays: int = 0
    timing_given: list[bytes] = field(default_factory=list)
    fail_launch: str = ""
    fail_capture: bool = False
    refuse_build: str = ""
    capturing: list[Callable[[], None]] | None = None


class Logger:
    def __init__(self) -> None: ...

    def log(self, severity: Severity, msg: str) -> None:
        raise NotImplementedError


class Monitor:
    def __init__(self) -> None: ...


@dataclass
class Named:
    name: str
    shape: tuple[int, ...]
    dtype: str


def _tensors(session: onnxruntime.InferenceSession) -> tuple[list[Named], list[Named]]:
    kinds = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(int64)": "int64"}
    roles = (session.get_inputs(), session.get_outputs())
    inputs, outputs = (
        [Named(n.name, tuple(a if isinstance(a, int) else -1 for a in n.shape), kinds[n.type]) for n in each]
        for each in roles
    )
    return inputs, outputs


class Network:
    session: onnxruntime.InferenceSession
    onnx = b""

    @property
    def num_inputs(self) -> int:
        return len(_tensors(self.session)[0])

    def get_input(self, index: int) -> Named:
        return _tensors(self.session)[0][index]


class Parser:
    def __init__(self, network: Network, logger: Logger) -> None:
        self._network, self._errors = network, [""]
        self.num_errors = 1

    def parse(self, onnx: bytes) -> bool:
        try:
            self._network.session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
        except Exception as error:
            self._errors = [str(error)]
            return False
        self._network.onnx = onnx
        return True

    def get_error(self, index: int) -> Any:
        text = self._errors[index]
        return type("Error", (), {"desc": lambda self: text})()


class OptimisationProfile:
    def __init__(self) -> None:
        self.ranges: dict[str, list[tuple[int, ...]]] = {}

    def set_shape(self, name: str, low: tuple[int, ...], best: tuple[int, ...], high: tuple[int, ...]) -> None:
        assert all(a <= b <= c for a, b, c in zip(low, best, high, strict=True))
        self.ranges[name] = [low, best, high]


class Config:
    def __init__(self, device: Device) -> None:
        self.device = device
        self.profiles: list[OptimisationProfile] = []
        self.tf32 = True
        self.progress_monitor: Any = None

    def clear_flag(self, flag: str) -> None:
        assert flag == "TF32"
        self.tf32 = False

    def set_memory_pool_limit(self, pool: str, size: int) -> None:
        assert pool == "WORKSPACE"
        assert size > 0

    def add_optimization_profile(self, profile: OptimisationProfile) -> int:
        self.profiles.append(profile)
        return len(self.profiles) - 1

    def create_timing_cache(self, data: bytes) -> Any:
        self.device.timing_given.append(data)
        return type("Timing", (), {"serialize": lambda self: b"kernel times"})()

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        return not ignore_mismatch


class Builder:
    device: Device

    def __init__(self, logger: Logger) -> None:
        self._logger = logger

    def create_network(self) -> Network:
        return Network()

    def create_builder_config(self) -> Config:
        return Config(self.device)

    def create_optimization_profile(self) -> OptimisationProfile:
        return OptimisationProfile()

    def build_serialized_network(self, network: Network, config: Config) -> bytes | None:
        self.device.builds += 1
        if self.device.refuse_build:
            self._logger.log(Severity.ERROR, self.device.refuse_build)
            return None
        assert not config.tf32
        config.progress_monitor.phase_start("Building Engine", None, 2)
        for step in range(2):
            assert config.progress_monitor.step_complete("Building Engine", step)
        config.progress_monitor.phase_finish("Building Engine")
        ranges = json.dumps([profile.ranges for profile in config.profiles]).encode()
        return MAGIC + ranges + b"\n" + network.onnx


class Runtime:
    device: Device

    def __init__(self, logger: Logger) -> None:
        self._logger = logger

    def deserialize_cuda_engine(self, plan: bytes) -> Engine | None:
        if not plan.startswith(MAGIC):
            self._logger.log(Severity.ERROR, "Error Code 1: Serialization (magic tag does not match)")
            return None
        ranges, _, onnx = plan[len(MAGIC) :].partition(b"\n")
        return Engine(self.device, self._logger, json.loads(ranges), onnx)


class Engine:
    device_memory_size_v2 = 4096

    def __init__(self, device: Device, logger: Logger, ranges: list[dict[str, Any]], onnx: bytes) -> None:
        self.session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
        self.device, self.logger, self.ranges = device, logger, ranges
        self.inputs, self.outputs = _tensors(self.session)
        self._all = {each.name: each for each in (*self.inputs, *self.outputs)}
        self.num_io_tensors = len(self._all)

    def get_tensor_name(self, index: int) -> str:
        return list(self._all)[index]

    def get_tensor_mode(self, name: str) -> Mode:
        return Mode.INPUT if self._all[name] in self.inputs else Mode.OUTPUT

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self._all[name].shape

    def get_tensor_dtype(self, name: str) -> DataType:
        return DataType(self._all[name].dtype)

    def create_execution_context(self, strategy: str) -> Context:
        assert strategy == "USER_MANAGED"
        return Context(self)


class Context:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._profile, self._memory, self._runs = -1, 0, 0
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}

    def set_device_memory(self, address: int, size: int) -> None:
        assert address
        assert size >= self._engine.device_memory_size_v2
        self._memory = address

    def set_optimization_profile_async(self, index: int, stream: int) -> bool:
        self._profile = index
        return 0 <= index < len(self._engine.ranges)

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        low, _, high = self._engine.ranges[self._profile][name]
        inside = all(a <= b <= c for a, b, c in zip(low, shape, high, strict=True))
        if inside:
            self._shapes[name] = shape
        return inside

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return bool(address)

    def execute_async_v3(self, stream: int) -> bool:
        device = self._engine.device
        assert self._memory
        assert len(self._shapes) == len(self._engine.inputs)
        assert len(self._addresses) == self._engine.num_io_tensors
        if device.fail_launch:
            self._engine.logger.log(Severity.ERROR, device.fail_launch)
            return False
        device.launches += 1
        if device.capturing is None:
            self._runs += 1
            self._run()
        else:
            assert self._runs, "a context runs once before it is captured"
            device.capturing.append(self._run)
        return True

    def _run(self) -> None:
        engine = self._engine
        given = {each.name: _at(self._addresses[each.name], self._shapes[each.name], each) for each in engine.inputs}
        for each, found in zip(engine.outputs, engine.session.run(None, given), strict=True):
            _at(self._addresses[each.name], found.shape, each)[...] = found


def _at(address: int, shape: tuple[int, ...], tensor: Named) -> np.ndarray[Any, Any]:
    """The memory at an address as an array."""
    dtype = np.dtype(tensor.dtype)
    size = int(np.prod(shape)) * dtype.itemsize
    return np.frombuffer((ctypes.c_char * size).from_address(address), dtype).reshape(shape)


class Stream:
    cuda_stream = 7

    def synchronize(self) -> None: ...


def install(patch: pytest.MonkeyPatch) -> Device:
    """Put the stand-ins in place until the test is over."""
    torch = pytest.importorskip("torch")
    device = Device()
    for cls in (Builder, Runtime):
        patch.setattr(cls, "device", device, raising=False)
    module = ModuleType("tensorrt")
    module.__dict__.update(
        __version__=VERSION,
        ILogger=Logger,
        IProgressMonitor=Monitor,
        Builder=Builder,
        OnnxParser=Parser,
        Runtime=Runtime,
        TensorIOMode=Mode,
        BuilderFlag=type("BuilderFlag", (), {"TF32": "TF32"}),
        MemoryPoolType=type("MemoryPoolType", (), {"WORKSPACE": "WORKSPACE"}),
        ExecutionContextAllocationStrategy=type("Strategy", (), {"USER_MANAGED": "USER_MANAGED"}),
    )
    patch.setitem(__import__("sys").modules, "tensorrt", module)

    class Graph:
        def __init__(self) -> None:
            self.work: list[Callable[[], None]] = []

        def replay(self) -> None:
            device.replays += 1
            for each in self.work:
                each()

    @contextlib.contextmanager
    def graph(into: Graph, stream: Stream, capture_error_mode: str) -> Iterator[None]:
        assert capture_error_mode == "thread_local"
        if device.fail_capture:
            raise RuntimeError("operation not permitted when stream is capturing")
        device.capturing = into.work
        try:
            yield
        finally:
            device.capturing = None

    def on_the_host(make: Callable[..., Any]) -> Callable[..., Any]:
        def made(*arguments: Any, **options: Any) -> Any:
            options = {name: value for name, value in options.items() if name not in ("device", "pin_memory")}
            return make(*arguments, **options)

        return made

    for name in ("zeros", "empty"):
        patch.setattr(torch, name, on_the_host(getattr(torch, name)))
    for name, stand_in in {
        "Stream": Stream,
        "stream": lambda stream: contextlib.nullcontext(),
        "CUDAGraph": Graph,
        "graph": graph,
        "get_device_name": lambda: GPU,
        "get_device_capability": lambda: CAPABILITY,
        "empty_cache": lambda: None,
    }.items():
        patch.setattr(torch.cuda, name, stand_in)
    patch.setattr("models.engines.tensorrt.why_no_tensorrt", lambda: None)
    return device

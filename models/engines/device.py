"""The NVIDIA device: whether there is one, and which errors mean that it is lost or its memory exhausted."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator
from enum import Enum

EXHAUSTED_BY_TYPE = {"OutOfMemoryError"}  # torch.cuda's
EXHAUSTED = re.compile(
    r"out of memory|failed to allocate memory|OutOfMemory|ErrorMemoryAllocation|CUDA_ERROR_OUT_OF_MEMORY"
    r"|CU(?:BLAS|DNN|SOLVER|SPARSE)_STATUS_ALLOC_FAILED|CUDA failure 2\b",
    re.IGNORECASE,
)
# The device refused a call whose arguments were wrong: it goes on with the next one.
REFUSED = re.compile(
    r"invalid (?:argument|configuration argument|value|device function|resource handle)"
    r"|CUDA_ERROR_INVALID_VALUE|cudaErrorInvalid(?:Value|Configuration)"
    r"|CU(?:BLAS|DNN)_STATUS_(?:INVALID_VALUE|BAD_PARAM|NOT_SUPPORTED)|CUDA failure (?:1|9|98|400)\b",
    re.IGNORECASE,
)
LOST = re.compile(
    r"CUDA (?:error|failure|driver|initialization)|Cuda (?:Runtime|Driver) \(|CUDA_ERROR_|cudaError"
    r"|CU(?:BLAS|DNN|SOLVER|SPARSE)_STATUS_"
    r"|illegal memory access|unspecified launch failure|device-side assert|misaligned address"
    r"|no CUDA-capable device|fallen off the bus|uncorrectable ECC|hardware stack error",
    re.IGNORECASE,
)


class DeviceFault(Enum):
    """What an error says about the device that an engine runs on."""

    EXHAUSTED = "its memory is exhausted"
    LOST = "it is lost"
    """Every later CUDA call of this process may fail, whichever runtime makes it."""


def why_no_gpu() -> str | None:
    """Why no NVIDIA GPU can be used, as a clause; None where one can.

    Asks the driver itself, which respects CUDA_VISIBLE_DEVICES; without a driver this costs a failed `dlopen`.
    """
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "there is no NVIDIA driver (libcuda.so.1 cannot be loaded)"
    count = ctypes.c_int(0)
    status = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    if status:
        return f"the NVIDIA driver finds no usable GPU (CUDA error {status})"
    return None if count.value else "the NVIDIA driver shows no GPU to this process"


def device_fault(error: BaseException) -> DeviceFault | None:
    """What `error`, or an error that it was raised from, says about the device; None where nothing.

    Runtimes have no common type for this, so that the message decides: ONNX Runtime raises `Fail` and
    `RuntimeException`, torch `AcceleratorError` and `RuntimeError`, TensorRT logs. An error that only says that an
    argument was wrong is the batch's own.
    """
    for each in _chain(error):
        text = str(each)
        if type(each).__name__ in EXHAUSTED_BY_TYPE or EXHAUSTED.search(text):
            return DeviceFault.EXHAUSTED
        if LOST.search(text) and not REFUSED.search(text):
            return DeviceFault.LOST
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__

from __future__ import annotations

import subprocess
import sys

import pytest

from models.engine import InferenceFailed, ModelIncompatible
from models.engines.device import DeviceFault, device_fault, why_no_gpu

EXHAUSTED = [
    "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Non-zero status code returned while running Conv node. Name:'fc1' "
    "Status Message: bfc_arena.cc:376 void* onnxruntime::BFCArena::AllocateRawInternal(size_t, bool, "
    "onnxruntime::Stream*) Failed to allocate memory for requested buffer of size 939524096",
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 15.77 GiB of which 1.1 GiB is free.",
    "CUDA error: out of memory",
    "CUDA failure 2: out of memory ; GPU=0 ; hostname=w1 ; file=cuda_call.cc ; line=123 ; expr=cudaMalloc(&p, size);",
    "IExecutionContext::enqueueV3: Error Code 1: Cuda Runtime (out of memory)",
    "[virtualMemoryBuffer.cpp::resizePhysical::145] Error Code 2: OutOfMemory (Requested size was 4294967296 bytes.)",
    "CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED ; GPU=0 ; expr=cublasCreate(&cublas_handle_);",
]
LOST = [
    "[ONNXRuntimeError] : 1 : FAIL : CUDA failure 719: unspecified launch failure ; GPU=0 ; hostname=w1 ; "
    "file=gpu_data_transfer.cc ; line=73 ; expr=cudaMemcpyAsync(dst_data, src_data, bytes, cudaMemcpyDeviceToHost);",
    "[checkMacros.cpp::catchCudaError::212] Error Code 1: Cuda Runtime (an illegal memory access was encountered)",
    "CUDA error: device-side assert triggered",
    "CUDA error: an illegal memory access was encountered",
    "CUDA failure 100: no CUDA-capable device is detected ; GPU=-1 ; expr=cudaSetDevice(info_.device_id);",
    "CUDA failure 999: unknown error ; GPU=0 ; expr=cudaSetDevice(info_.device_id);",
    "CUDA error: uncorrectable ECC error encountered",
    "CUDNN failure 5000: CUDNN_STATUS_EXECUTION_FAILED ; GPU=0 ; expr=cudnnConvolutionForward(handle);",
    "CUDA driver version is insufficient for CUDA runtime version",
]
NEITHER = [
    "Non-zero status code returned while running Reshape node. Name:'r' Status Message: The input tensor cannot be "
    "reshaped to the requested shape. Input shape:{3,4}, requested shape:{2,4}",
    "CUDA error: invalid argument",
    "CUDA failure 9: invalid configuration argument ; GPU=0 ; expr=cudaGetLastError();",
    "CUDNN_STATUS_BAD_PARAM; Reason: the filter has more channels than the input",
    "IExecutionContext::setInputShape: Error Code 3: API Usage Error (Parameter check failed, condition: inRange)",
    "mat1 and mat2 shapes cannot be multiplied (3x4 and 5x2)",
    "",
]


@pytest.mark.parametrize("message", EXHAUSTED)
def test_exhausted_memory_is_known_by_its_message(message: str) -> None:
    assert device_fault(RuntimeError(message)) is DeviceFault.EXHAUSTED


@pytest.mark.parametrize("message", LOST)
def test_a_lost_device_is_known_by_its_message(message: str) -> None:
    assert device_fault(RuntimeError(message)) is DeviceFault.LOST


@pytest.mark.parametrize("message", NEITHER)
def test_what_is_the_batchs_own_fault_says_nothing_about_the_device(message: str) -> None:
    assert device_fault(InferenceFailed(message)) is None


def test_the_error_behind_an_engines_own_counts() -> None:
    error = InferenceFailed("inferring with fraud/2 on onnx-cuda: failed; the batch has no predictions")
    error.__cause__ = RuntimeError(LOST[0])
    assert device_fault(error) is DeviceFault.LOST
    error.__cause__ = ModelIncompatible("expected float32")
    assert device_fault(error) is None
    error.__cause__ = error  # a chain that bites its tail ends
    assert device_fault(error) is None


def test_torchs_own_type_is_enough() -> None:
    torch = pytest.importorskip("torch")
    assert device_fault(torch.cuda.OutOfMemoryError("allocation of 2 GiB failed")) is DeviceFault.EXHAUSTED


def test_without_a_driver_the_reason_says_so() -> None:
    reason = why_no_gpu()
    if reason is None:
        pytest.skip("there is a GPU here")
    assert "NVIDIA driver" in reason


def test_asking_for_all_engines_imports_no_runtime_that_a_cheap_look_rules_out() -> None:
    if why_no_gpu() is None:
        pytest.skip("there is a GPU here: what runs on it is imported to be asked")
    code = (
        "import sys; from models import selection; selection.available();"
        "print(sorted({'onnxruntime', 'torch', 'onnx', 'tensorrt'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

"""Out of memory in the words of each library, and a remedy that the run accepts."""

import pytest

from sppo_ray.config import TrainingSettings
from sppo_ray.training.memory import memory_remedy, out_of_memory


class OutOfMemoryError(RuntimeError):
    """torch and Ray each have one of this name."""


WORDS = [
    OutOfMemoryError("Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.11 GiB"),
    RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB"),
    RuntimeError(
        "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported at some other API call"
    ),
    RuntimeError("CUDA driver error: out of memory"),
    RuntimeError("HIP out of memory. Tried to allocate 1.00 GiB"),
    RuntimeError("HIP error: hipErrorOutOfMemory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
    RuntimeError("NCCL error in: ProcessGroupNCCL.cpp:3690\nLast error:\nFailed to CUDA calloc async 4194304 bytes"),
    RuntimeError("NCCL error\nLast error:\nFailed to CUDA host alloc 9637888 bytes"),
    RuntimeError("NCCL error\nncclUnhandledCudaError: Call to CUDA function failed.\nCuda failure 2 'out of memory'"),
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to"
    ),
    RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 4398046511104 bytes."),
    RuntimeError("Unable to allocate page-locked memory"),
    RuntimeError("std::bad_alloc"),
    MemoryError("std::bad_alloc"),
    MemoryError(),
    OSError(12, "Cannot allocate memory"),
    RuntimeError("Task was killed due to the node running low on memory."),
]


@pytest.mark.parametrize("error", WORDS, ids=str)
def test_out_of_memory_is_recognised(error: Exception) -> None:
    assert out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED"),
        RuntimeError("NCCL error: remote process exited or there was a network error"),
        ValueError("the model has no memory"),
        OSError(28, "No space left on device"),
    ],
    ids=str,
)
def test_other_errors_are_not_taken_for_it(error: Exception) -> None:
    assert not out_of_memory(error)


def test_the_remedy_leaves_out_what_is_already_done() -> None:
    assert "gradient_checkpointing" not in memory_remedy(TrainingSettings(gradient_checkpointing=True))
    assert "training.gradient_checkpointing=true" in memory_remedy(TrainingSettings(gradient_checkpointing=False))

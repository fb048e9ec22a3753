"""The parts of `jobs/gpu_bench.py`: one module per part, or per two that share a model.

In: a folder for files, whether shapes are small, the device. Out: numbers by their names, as JSON.
"""

import torch

PEAK = 989e12  # dense bf16 FLOP/s of an H100 or H200, as its maker gives it


def synchronize(device: torch.device) -> None:
    """Wait for the work that was given to a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize()

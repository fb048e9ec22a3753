"""GPUs by name, with the figures of their data sheets; whether this CPU is slow in bfloat16.

In: a name or an amount of memory. Out: a `Device`.
"""

import platform
from dataclasses import dataclass, replace
from pathlib import Path

from sppo_ray.errors import ConfigError

CPUINFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Device:
    """teraflops: dense bf16 matrix products. bandwidth: of its memory. link: to its node's other GPUs, one way. Both in TB/s."""

    name: str
    memory_gib: float
    teraflops: float
    bandwidth: float
    link: float


HOST_SHARE = 2  # host memory of cloud machines to the memory of their GPUs: 1.8 (p4de), 3.2 (p5), 4 (g5.48xlarge), 2 (g5.12xlarge)

# From NVIDIA's data sheets, without sparsity; A10G: AWS's g5 table. link: NVLink's bidirectional figure halved, or PCIe.
# --gpu-memory alone selects the first of its size.
DEVICES = [
    Device("A10G", 24, 70, 0.600, 0.016),
    Device("L4", 24, 121, 0.300, 0.016),
    Device("RTX-3090", 24, 71, 0.936, 0.016),
    Device("RTX-4090", 24, 165, 1.008, 0.016),
    Device("A100-40GB", 40, 312, 1.555, 0.300),
    Device("L40S", 48, 362, 0.864, 0.032),
    Device("A100-80GB", 80, 312, 2.039, 0.300),
    Device("H100-80GB", 80, 989, 3.350, 0.450),
    Device("H200", 141, 989, 4.800, 0.450),
    Device("B200", 180, 2250, 8.000, 0.900),
]


def device(memory_gib: float, name: str | None = None) -> Device:
    """The GPU of that name, or the one with the closest memory, with its memory set to `memory_gib`."""
    if name is None:
        found = min(DEVICES, key=lambda one: abs(one.memory_gib - memory_gib))
    else:
        named = {one.name.lower(): one for one in DEVICES}
        if name.lower() not in named:
            raise ConfigError(f"no GPU {name!r} in the table; it has {', '.join(d.name for d in DEVICES)}")
        found = named[name.lower()]
    return replace(found, memory_gib=memory_gib)


def slow_in_bf16() -> str | None:
    """The vector instructions of this CPU where PyTorch is slow in bfloat16 with them: "AVX2" or "SSE"; None elsewhere.

    On x86 oneDNN computes in bfloat16 with AVX-512 and more. Read from Linux: PyTorch, which knows too, takes seconds to import.
    """
    if platform.machine() != "x86_64":
        return None
    has = set(CPUINFO.read_text().split())
    if {"avx512f", "avx512bw", "avx512dq", "avx512vl"} <= has:  # what PyTorch asks for
        return None
    return "AVX2" if "avx2" in has else "SSE"

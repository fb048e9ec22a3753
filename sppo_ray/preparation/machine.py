"""What a machine offers beneath the Python packages: driver, compilers, limits of the system, memory, disk.

In: nothing. Out: a `Machine`, measured on the node; lines that say what a run misses there and what will slow it.
"""

import os
import re
import resource
import shutil
import subprocess
import sysconfig
from dataclasses import dataclass, replace
from pathlib import Path

from sppo_ray.config import Config
from sppo_ray.errors import ConfigError
from sppo_ray.models import model_shape
from sppo_ray.planning.devices import slow_in_bf16
from sppo_ray.planning.memory import GIB, HOST_PROCESSES, trainer_states
from sppo_ray.planning.work import kept_bytes
from sppo_ray.run_folder import remote
from sppo_ray.sampling import has_flashinfer_sampler

DRIVERS = {12: 525, 13: 580}  # the oldest of NVIDIA's drivers that runs a CUDA version, from the release notes of CUDA
LEAST_CAPABILITY, BF16_CAPABILITY = 7.5, 8.0  # of CUDA 13, and of vLLM for bfloat16
OPEN_FILES = 4096  # Ray raises the soft limit to 65,536 or the hard one
SHARED_GIB = 1.0  # NCCL's and vLLM's segments between the processes of a node; Docker gives 64 MiB if not asked
GB = 1e9


@dataclass(frozen=True)
class Machine:
    """cuda: that PyTorch was built for. Whatever concerns GPUs is only looked up where nvidia-smi answers.

    slow_bf16: the CPU's instructions, where PyTorch is slow in bfloat16 with them.
    gpu_gib: memory of the smallest GPU.  sampler: whether FlashInfer's sampler is there or can be compiled.
    """

    host_gib: float
    shared_gib: float
    open_files: int
    slow_bf16: str | None = None
    gpus: int = 0
    gpu_gib: float | None = None
    driver: str = ""
    capability: float | None = None
    cuda: str | None = None
    compiler: bool = True
    headers: bool = True
    sampler: bool = True
    wants_sampler: bool = False


def machine() -> Machine:
    """Runs on the node."""
    shared = shutil.disk_usage("/dev/shm").total / GIB
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    system = Machine(host_gib(), shared, files, slow_in_bf16())
    smallest = gpu_gib()
    if smallest is None:
        return system
    import torch

    drivers = _nvidia_smi("driver_version")
    capabilities = _nvidia_smi("compute_cap")  # old drivers do not know it
    return replace(
        system,
        gpus=len(drivers),
        gpu_gib=smallest,
        driver=drivers[0],
        capability=min(map(float, capabilities)) if capabilities else None,
        cuda=torch.version.cuda,
        compiler=any(shutil.which(name) for name in (os.environ.get("CC", "gcc"), "gcc", "clang")),
        headers=(Path(sysconfig.get_path("include")) / "Python.h").exists(),
        sampler=has_flashinfer_sampler(),
        wants_sampler=os.environ.get("VLLM_USE_FLASHINFER_SAMPLER") == "1",
    )


def host_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB


def gpu_gib() -> float | None:
    """Memory of the smallest GPU; None where nvidia-smi does not answer."""
    memory = _nvidia_smi("memory.total")
    return min(map(int, memory)) / 1024 if memory else None


def _nvidia_smi(field: str) -> list[str]:
    """One value per GPU; none where there is no GPU or the field is unknown."""
    command = ["nvidia-smi", f"--query-gpu={field}", "--format=csv,noheader,nounits"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    except (OSError, subprocess.CalledProcessError):
        return []


def missing(config: Config, roles: list[str], found: Machine, workers: int) -> list[str]:
    """What a run cannot do without. workers: train workers that this node may hold."""
    lines = []
    if 0 <= found.open_files < OPEN_FILES:
        lines.append(
            f"a process may open {found.open_files} files: start Ray after `ulimit -n 65536`, or its container with "
            "--ulimit nofile=65536"
        )
    if not found.gpus or not any(_gpus(config, role) for role in roles):
        return lines
    if found.cuda is None:
        lines.append("PyTorch is a CPU build: pip install -r requirements/gpu.txt there")
    elif int(re.split(r"\D", found.driver)[0]) < (least := DRIVERS.get(int(found.cuda.split(".")[0]), 0)):
        lines.append(
            f"NVIDIA's driver is {found.driver}, PyTorch's CUDA {found.cuda} needs {least}: install a newer driver"
        )
    least_capability = BF16_CAPABILITY if config.policy.dtype == "bfloat16" else LEAST_CAPABILITY
    if found.capability is not None and found.capability < least_capability:
        remedy = ", or policy.dtype=float32 in a new run" if found.capability >= LEAST_CAPABILITY else ""
        lines.append(
            f"a GPU has compute capability {found.capability:g}, {config.policy.dtype} needs {least_capability:g}: "
            f"use a newer GPU{remedy}"
        )
    if not found.compiler:
        lines.append("no C compiler, with which Triton builds its launchers: install gcc")
    if not found.headers:
        lines.append("no Python.h, which Triton's launchers include: install python3-dev of this Python")
    if "generators" in roles and found.wants_sampler and not found.sampler:
        lines.append(
            "VLLM_USE_FLASHINFER_SAMPLER=1, but no nvcc and ninja to compile it with: install them or flashinfer-jit-cache, "
            "or unset it"
        )
    if found.gpus > 1 and found.shared_gib < SHARED_GIB:
        lines.append(
            f"/dev/shm has {found.shared_gib:.2f} GiB, NCCL and vLLM need {SHARED_GIB:g}: start the container with --shm-size=16g"
        )
    offloaded = _offloaded_gib(config, roles, workers)
    if offloaded > found.host_gib:
        lines.append(
            f"{workers} train workers keep {offloaded:.0f} GiB in host memory, it has {found.host_gib:.0f}: use more nodes, "
            "or training.adapter.rank=16 in a new run"
        )
    return lines


def slowing(config: Config, roles: list[str], found: Machine, workers: int, objects: float) -> list[str]:
    """What a run can do without, but slower. objects: bytes of Ray's object store on this node."""
    lines = []
    if found.shared_gib < objects / GIB:
        lines.append(
            f"/dev/shm has {found.shared_gib:.1f} GiB, Ray's objects may take {objects / GIB:.1f} and then go to the disk: "
            "start the container with a larger --shm-size"
        )
    on_cpu = [role for role in roles if role in ("generators", "trainers") and not _gpus(config, role)]
    if on_cpu and config.policy.dtype == "bfloat16" and found.slow_bf16:
        lines.append(
            f"its CPU has {found.slow_bf16} and no more, with which PyTorch multiplies in bfloat16 at a tenth of float32's speed "
            "and less: policy.dtype=float32 in a new run"
        )
    if not found.gpus:
        return lines
    if "generators" in roles and not found.sampler and not found.wants_sampler:
        lines.append(
            "no nvcc and ninja to compile FlashInfer's sampler with, nor flashinfer-jit-cache: PyTorch's kernels take its "
            "place where top_p is below 1"
        )
    expected = _offloaded_gib(config, roles, workers) + HOST_PROCESSES / GIB * found.gpus
    if expected > found.host_gib >= _offloaded_gib(config, roles, workers):
        lines.append(f"the plan expects {expected:.0f} GiB in host memory, it has {found.host_gib:.0f}: it may run out")
    return lines


def _gpus(config: Config, role: str) -> float:
    return float(getattr(config, {"trainers": "training"}.get(role, role)).gpus)


def _offloaded_gib(config: Config, roles: list[str], workers: int) -> float:
    if "trainers" not in roles or config.training.offload == "none":
        return 0.0
    shape = model_shape(config.policy.model, "policy.model")
    return workers * sum(trainer_states(config, shape, config.training.workers)[1].values()) / GIB


def disk(config: Config, root: Path, checkpoints: Path) -> tuple[list[str], list[str]]:
    """What is missing and what is scarce on the disk of a run folder, by the plan's bytes.

    Nothing is known of a URI's, nor of a model that the plan has no shape of.
    """
    try:
        kept = kept_bytes(config, model_shape(config.policy.model, "policy.model"))
    except ConfigError:
        return [], []
    if remote(root):
        return [], []
    free = shutil.disk_usage(next(path for path in (root, *root.parents) if path.exists())).free
    there = sum(file.stat().st_size for file in checkpoints.rglob("*") if file.is_file()) if checkpoints.exists() else 0
    return enough(kept, config.iterations, str(root), free + there)


def enough(kept: dict[str, float], iterations: int, where: str, free: float) -> tuple[list[str], list[str]]:
    """The same of a disk with this many bytes for checkpoints and policies. kept: bytes that they take."""
    least = kept["checkpoints"] + kept["masters"] + kept["policies"] / iterations
    have = f"{where} has {free / GB:,.1f} GB free"
    remedy = "choose a --run-dir with more, or storage.keep_checkpoints=1"
    if free < least:
        return [f"{have}, checkpoints and one policy take {least / GB:,.1f}: {remedy}"], []
    if free < (whole := sum(kept.values())):
        return [], [
            f"{have}, checkpoints and all policies take {whole / GB:,.1f}: {remedy} and storage.keep_snapshots=1"
        ]
    return [], []

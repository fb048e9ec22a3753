"""What a node must be able to do before a run starts on it, and what to say where it cannot.

In: the configuration, the run folder. Out: a `NodeReport`, made on the node; lines that name the node and the remedy.
"""

import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from sppo_ray.config import Config
from sppo_ray.errors import StorageError, UserError
from sppo_ray.judging import judge_kind
from sppo_ray.planning.memory import GIB, role_memory
from sppo_ray.preparation.base_model import read_model
from sppo_ray.preparation.provenance import versions
from sppo_ray.run_folder import files

FOLDER = "preflight"  # of the run folder, for as long as the check takes
QUERY = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]


@dataclass(frozen=True)
class NodeReport:
    """What a node found. gpu_gib: memory of its smallest GPU. failures: of storage and model, in words."""

    node: str
    versions: dict[str, str]
    gpu_gib: float | None = None
    failures: list[str] = field(default_factory=list)


def report(node: str, config: Config, folder: Path, elsewhere: bool, gpus: bool) -> NodeReport:
    """Runs on the node. elsewhere: it is not the driver's, which has read the model already."""
    failures = [*_storage(folder, node), *_models(config)] if elsewhere else []
    return NodeReport(node, versions(), _smallest_gpu() if gpus else None, failures)


def problems(config: Config, roles: list[str], expected: dict[str, str], found: NodeReport) -> list[str]:
    """Lines that say what is wrong with a node on which these roles may run."""
    lines = list(found.failures)
    for package, version in expected.items():
        # The builds of one version differ by what follows the plus: +cpu, +cu128.
        there = found.versions.get(package, "missing").split("+")[0]
        # A node has one of the two builds of vLLM.
        if there != version.split("+")[0] and not (there == "missing" and package.startswith("vllm")):
            lines.append(f"{package} is {there}, the driver has {version}: pip install '{package}=={version}' there")
    if found.gpu_gib is not None:
        workers, single = config.training.workers, config.takes_turns
        memory = role_memory(config, found.gpu_gib * GIB, workers, colocated(config), single=single)
        for role in roles:
            if not memory[role].fits:
                lines.append(
                    f"{role} need {memory[role].total / GIB:.1f} GiB per GPU, {memory[role].limit / GIB:.1f} are available: "
                    f"jobs/plan.py --gpu-memory {found.gpu_gib:.0f} says which setting helps"
                )
    return [f"node {found.node}: {line}" for line in lines]


def colocated(config: Config) -> bool:
    return config.placement == "colocated"


def _storage(folder: Path, node: str) -> list[str]:
    """Read what the driver wrote, and write what the driver will read."""
    try:
        files.read_bytes(folder / "driver")
        files.write_bytes(folder / node, node.encode())
    except (StorageError, OSError) as error:
        return [
            f"does not reach the run folder ({error}): mount the storage there, or choose a --run-dir all nodes reach"
        ]
    return []


def _models(config: Config) -> list[str]:
    """Policy and judge: a folder that only the driver's machine has is the usual fault."""
    lines = []
    checks: list[Callable[[], object]] = [partial(read_model, config.policy)]
    for check in checks + [judge_kind(judge).check for judge in config.judges]:
        try:
            check()
        except UserError as error:
            lines.append(f"{error}; each node needs it under this path, or give a hub name")
    return lines


def memory() -> tuple[float | None, float]:
    """Memory of this node's smallest GPU and of the node itself, in GiB."""
    return _smallest_gpu(), os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB


def _smallest_gpu() -> float | None:
    try:
        done = subprocess.run(QUERY, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None  # no NVIDIA GPU: its memory is unknown
    return min(int(line) for line in done.stdout.split()) / 1024

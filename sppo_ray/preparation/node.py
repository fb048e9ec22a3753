"""What a node must be able to do before a run starts on it, and what to say where it cannot.

In: the configuration, the run folder. Out: a `NodeReport`, made on the node; lines that name the node and the remedy.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from sppo_ray.config import Config
from sppo_ray.errors import StorageError, UserError
from sppo_ray.judging import judge_kind
from sppo_ray.planning.memory import GIB, role_memory
from sppo_ray.preparation.base_model import read_model
from sppo_ray.preparation.machine import Machine, gpu_gib, host_gib, machine, missing
from sppo_ray.preparation.provenance import versions
from sppo_ray.run_folder import files

FOLDER = "preflight"  # of the run folder, for as long as the check takes


@dataclass(frozen=True)
class NodeReport:
    """What a node found. failures: of storage and model, in words."""

    node: str
    versions: dict[str, str]
    machine: Machine
    failures: list[str] = field(default_factory=list)


def report(node: str, config: Config, folder: Path, elsewhere: bool) -> NodeReport:
    """Runs on the node. elsewhere: it is not the driver's, which has read the model already."""
    failures = [*_storage(folder, node), *_models(config)] if elsewhere else []
    return NodeReport(node, versions(), machine(), failures)


def problems(
    config: Config, roles: list[str], expected: dict[str, str], found: NodeReport, workers: int = 1
) -> list[str]:
    """Lines that say what is wrong with a node on which these roles may run. workers: train workers that it may hold."""
    lines = list(found.failures)
    for package, version in expected.items():
        # The builds of one version differ by what follows the plus: +cpu, +cu128.
        there = found.versions.get(package, "missing").split("+")[0]
        # A node has one of the two builds of vLLM.
        if there != version.split("+")[0] and not (there == "missing" and package.startswith("vllm")):
            lines.append(f"{package} is {there}, the driver has {version}: pip install '{package}=={version}' there")
    lines += missing(config, roles, found.machine, workers)
    if (gib := found.machine.gpu_gib) is not None:
        memory = role_memory(config, gib * GIB, config.training.workers, colocated(config), single=config.takes_turns)
        for role in roles:
            if not memory[role].fits:
                lines.append(
                    f"{role} need {memory[role].total / GIB:.1f} GiB per GPU, {memory[role].limit / GIB:.1f} are available: "
                    f"jobs/plan.py --gpu-memory {gib:.0f} says which setting helps"
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
    return gpu_gib(), host_gib()

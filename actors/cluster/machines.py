"""The devices of the cluster at hand, as its nodes see them.

In: nothing but the cluster that this process is connected to. Out: `Machines`.
"""

from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from sppo_ray.errors import ClusterError
from sppo_ray.planning.placing import Machines
from sppo_ray.preparation import node as checks


def machines(resources: dict[str, float]) -> Machines:
    """resources: the cluster's, with those that its autoscaler may add.

    Raises `ClusterError` if no node with a GPU is up yet, or none says how much memory its GPUs have.
    """
    cpus, gpus = resources.get("CPU", 0.0), int(resources.get("GPU", 0))
    if not gpus:
        return Machines(cpus)
    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("GPU")]
    report: Any = ray.remote(checks.memory)
    calls = [
        report.options(
            num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        ).remote()
        for node in nodes
    ]
    found = [(gpu, host / node["Resources"]["GPU"]) for node, (gpu, host) in zip(nodes, ray.get(calls), strict=True)]
    if not found or any(gpu is None for gpu, _ in found):
        raise ClusterError(
            "placement=auto: the memory of the cluster's GPUs is not known (nvidia-smi does not answer, or no node with one "
            "is up yet): set placement, training.workers, generators.max and rankers.max; `sppo-ray plan` prints them"
        )
    return Machines(cpus, gpus, min(gpu for gpu, _ in found), min(host for _, host in found))

"""Where Ray puts the roles of a colocated run, on a cluster of two nodes of two GPUs. Ray only counts them: none is needed.

    python -m tests.cluster.colocated

Prints JSON: the node and the GPU of each engine and of each train worker, and the room for each pool.
A process of its own, because it has a Ray of its own.
"""

import json
from typing import Any

import ray
from ray.cluster_utils import Cluster
from ray.util.placement_group import placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from actors.cluster.placement import role_options, trainer_scaling
from actors.engines import most_resources
from actors.engines.pools import room
from sppo_ray.config import load_config
from sppo_ray.planning.splits import Split
from sppo_ray.preparation import check_cluster

SPLIT = Split("colocated", generators=3, rankers=1, trainers=4, devices=4)
SECONDS = 60.0


@ray.remote
class Process:
    """Stands where an engine or a train worker stands."""

    def place(self) -> tuple[str, list[int]]:
        return ray.get_runtime_context().get_node_id(), ray.get_gpu_ids()


def main() -> dict[str, Any]:
    config = load_config("gemma-2-9b-it", overrides=SPLIT.settings(load_config("gemma-2-9b-it")))
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 8, "num_gpus": 2})
    try:
        cluster.add_node(num_cpus=8, num_gpus=2)
        ray.init(address=cluster.address, log_to_driver=False)
        check_cluster(config, most_resources())
        rankers = [Process.options(**role_options(config, "rankers")).remote()]
        options = role_options(config, "generators") | {"scheduling_strategy": "SPREAD"}
        engines = rankers + [Process.options(**options).remote() for _ in range(SPLIT.generators)]
        found = {"engines": places(engines)}
        scaling = trainer_scaling(config)
        group = placement_group(
            [scaling.resources_per_worker] * scaling.num_workers, strategy=scaling.placement_strategy
        )
        options = role_options(config, "trainers")
        workers = [
            Process.options(**options, scheduling_strategy=PlacementGroupSchedulingStrategy(group, bundle)).remote()
            for bundle in range(scaling.num_workers)
        ]
        rooms = {"generators": room(config, "generators"), "rankers": room(config, "rankers")}
        return found | {"workers": places(workers), "room": rooms}
    finally:
        ray.shutdown()
        cluster.shutdown()


def places(processes: list[Any]) -> Any:
    return ray.get([process.place.remote() for process in processes], timeout=SECONDS)


if __name__ == "__main__":
    print(json.dumps(main()))

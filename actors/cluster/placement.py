"""What a process of each role runs on: CPUs, GPUs and the labels of its nodes.

In: the configuration. Out: options of a Ray actor or task, the train workers' `ScalingConfig`.
"""

from typing import TYPE_CHECKING, Any, Literal

import ray

from sppo_ray.config import Config

if TYPE_CHECKING:
    from ray.train import ScalingConfig

Role = Literal["generators", "rankers", "trainers"]


def here() -> dict[str, str]:
    """Label selector of the calling process's node, for actors that hold no resources: coordinator, pools, gateway.

    Ray would place them on any node, spot machines included, and all engines of a pool end with it.
    """
    return {"ray.io/node-id": ray.get_runtime_context().get_node_id()}


def role_options(config: Config, role: Role) -> dict[str, Any]:
    """num_cpus, num_gpus, label_selector and environment of one process of a role."""
    section = config.training if role == "trainers" else getattr(config, role)
    gpus = config.generator_gpus if role == "generators" else section.gpus
    return {
        "num_cpus": section.cpus,
        "num_gpus": gpus,
        "label_selector": section.labels,
        "runtime_env": _environment(config, role),
    }


def _environment(config: Config, role: Role) -> dict[str, dict[str, str]]:
    """The threads of a process, where they are not as many as its CPUs, which is what Ray sets.

    Where training waits for an iteration's last judgement, engines and trainers work in turn: on CPUs each have those of both.
    """
    training, pool = config.training, config.generators
    in_turn = training.min_margin > 0 and config.placement != "colocated"
    if role == "rankers" or training.gpus or pool.gpus or not in_turn:
        return {}
    cpus = training.workers * training.cpus + pool.max * pool.cpus
    threads = int(cpus / (training.workers if role == "trainers" else pool.max))
    return {"env_vars": {"OMP_NUM_THREADS": str(threads)}} if threads > 1 else {}


def trainer_scaling(config: Config) -> "ScalingConfig":
    """The train workers, on as few nodes as hold them: their collectives are the run's heaviest traffic."""
    from ray.train import ScalingConfig  # engines and pools have no use for its 70 MiB

    training = config.training
    labels: dict[str, Any] = {"label_selector": training.labels} if training.labels else {}
    return ScalingConfig(
        num_workers=training.workers,
        use_gpu=training.gpus > 0,
        resources_per_worker={"CPU": training.cpus} | ({"GPU": training.gpus} if training.gpus else {}),
        placement_strategy="PACK",
        **labels,
    )

"""On what a process of each role runs: its CPUs, GPUs and the labels of its nodes.

In: the configuration. Out: options of a Ray actor or task.
"""

from typing import Any, Literal

from sppo_ray.config import Config
from sppo_ray.preparation import generator_gpus

Role = Literal["generators", "rankers", "trainers"]


def role_options(config: Config, role: Role) -> dict[str, Any]:
    """num_cpus, num_gpus and label_selector of one process of a role."""
    section = config.training if role == "trainers" else getattr(config, role)
    gpus = generator_gpus(config) if role == "generators" else section.gpus
    return {"num_cpus": section.cpus, "num_gpus": gpus, "label_selector": section.labels}

"""The pools of a run: real engines on the resources that the configuration names.

In: a configuration, a model and its stop tokens, the ledger. Out: `Pool` actors, not opened yet.
They live as long as the process that started them.
"""

from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import ray

from actors.cluster.placement import here, role_options
from actors.engines import generator, ranker
from actors.engines.pool import Pool
from sppo_ray.config import Config
from sppo_ray.judging import judge_kind
from sppo_ray.records import Snapshot
from sppo_ray.run_folder import Ledger

if TYPE_CHECKING:
    from sppo_ray.preparation import Preparation


def start_pools(preparation: "Preparation", ledger: Ledger) -> tuple[Any, Any]:
    """The generators and the rankers of a run."""
    config = preparation.config
    generators = start_generators(config, preparation.base, preparation.stop_token_ids, ledger)
    return generators, start_rankers(config, ledger)


def start_generators(config: Config, model: Snapshot, stop_token_ids: list[int], ledger: Ledger) -> Any:
    """A pool of vLLM engines that can hold this model and others of its shape."""
    from sppo_ray.sampling import VLLMGenerator

    build = partial(VLLMGenerator, config, model, stop_token_ids)
    start = partial(generator.start, config, build, ledger)
    return start_pool("generator", start, config.generators, partial(room, config, "generators"))


def start_rankers(config: Config, ledger: Ledger) -> Any:
    """A pool of judges, each member with all judges of the configuration."""
    device = "cuda" if config.rankers.gpus else "cpu"
    # Not checked again, as the driver has: an endpoint that is down when a ranker restarts is no reason to give the ranker up.
    build, *others = [partial(judge_kind(judge).load, device) for judge in config.judges]
    start = partial(ranker.start, config, build, ledger, build_evaluation=others[0] if others else None)
    return start_pool("ranker", start, config.rankers, partial(room, config, "rankers"))


def start_pool(*arguments: Any) -> Any:
    """A pool on this node. arguments: as for `Pool`."""
    return Pool.options(label_selector=here()).remote(*arguments)


def room(config: Config, pool: Literal["generators", "rankers"]) -> int:
    """How many members of a pool the cluster can hold beside the trainers and the other pool's smallest size.

    A larger pool would leave a trainer that starts or restarts waiting forever.
    """
    own = role_options(config, pool)
    other = role_options(config, "rankers" if pool == "generators" else "generators")
    others = config.rankers.min if pool == "generators" else config.generators.min
    training, resources = config.training, most_resources()
    rooms = [config.generators.max if pool == "generators" else config.rankers.max]
    for resource, key, trainer in (("CPU", "num_cpus", training.cpus), ("GPU", "num_gpus", training.gpus)):
        if own[key]:
            taken = training.workers * trainer + others * other[key]
            rooms.append(int((resources.get(resource, 0.0) - taken) / own[key] + 1e-6))
    return min(rooms)


def most_resources() -> dict[str, float]:
    """The cluster's largest resources: those it has now, or those that its autoscaler may add."""
    now: dict[str, float] = ray.cluster_resources()
    later = ray._private.state.state.get_max_resources_from_cluster_config() or {}
    return {name: max(now.get(name, 0.0), later.get(name, 0.0)) for name in {*now, *later}}

"""The pools of a run: real engines behind them, on the resources that the configuration gives.

In: a configuration, a model and its stop tokens, the ledger. Out: `Pool` actors, not opened yet.
They live as long as the process that made them.
"""

from functools import partial
from typing import Any

from actors import generator, ranker
from actors.pool import Pool
from sppo_ray.config import Config
from sppo_ray.ledger import Ledger
from sppo_ray.preparation import Preparation
from sppo_ray.records import Snapshot


def start_pools(preparation: Preparation, ledger: Ledger) -> tuple[Any, Any]:
    """The generators and the rankers of a run."""
    config = preparation.config
    generators = start_generators(config, preparation.base, preparation.stop_token_ids, ledger)
    return generators, start_rankers(config, ledger)


def start_generators(config: Config, model: Snapshot, stop_token_ids: list[int], ledger: Ledger) -> Any:
    """A pool of vLLM engines that can hold this model and others of its shape."""
    from sppo_ray.generation import VLLMGenerator

    build = partial(VLLMGenerator, config, model, stop_token_ids)
    start = partial(generator.start, config, build, ledger)
    return Pool.remote("generator", start, config.generators.max, config.generators.blocks)


def start_rankers(config: Config, ledger: Ledger) -> Any:
    """A pool of PairRM judges."""
    from sppo_ray.judging import PairRM

    judge = config.judge
    build = partial(
        PairRM,
        judge.model,
        device="cuda" if config.rankers.gpus else "cpu",
        batch_tokens=judge.batch_tokens,
        source_max_length=judge.source_max_length,
        candidate_max_length=judge.candidate_max_length,
    )
    start = partial(ranker.start, config, build, ledger)
    return Pool.remote("ranker", start, config.rankers.max, config.rankers.blocks)

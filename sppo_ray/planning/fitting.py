"""What may be varied to run a configuration on given devices, and the smallest changes with which a role fits.

In: a configuration. Out: its variants, and configurations in which a role fits. What changes the numbers of a run (an adapter
in place of all weights, shorter responses) comes last.
"""

from collections.abc import Callable, Iterator
from typing import Any

from sppo_ray.config import Config, validated

OFFLOADS = ("none", "optimizer", "all")
PARALLEL = (1, 2, 4, 8)
UTILIZATION = 0.95  # most of a GPU that an engine may have
RANK = 16  # of the adapter that is proposed
ADAPTER_RATE = 10  # the best learning rate of an adapter to that of all weights (Schulman et al., LoRA Without Regret)


def changed(config: Config, **values: Any) -> Config:
    """The configuration with other values; a double underscore stands for the dot in a key."""
    tree = config.model_dump()
    for key, value in values.items():
        *sections, name = key.split("__")
        branch = tree
        for section in sections:
            branch = branch[section]
        branch[name] = value
    return validated(tree)


def variants(config: Config, devices: int) -> Iterator[Config]:
    """The configuration as it is and with an adapter, with each degree of offload and of tensor parallelism."""
    weights = [config]
    if not config.training.adapter.rank:
        rate = ADAPTER_RATE * config.training.learning_rate
        weights.append(changed(config, training__adapter__rank=RANK, training__learning_rate=rate))
    for one in weights:
        for offload in OFFLOADS[OFFLOADS.index(config.training.offload) :]:
            for parallel in sorted({config.generation.tensor_parallel, *PARALLEL}):
                if parallel <= devices:
                    yield changed(one, training__offload=offload, generation__tensor_parallel=parallel)


def fitted(config: Config, role: str, fits: Callable[[Config], bool]) -> Config | None:
    """The configuration with the first settings that make the role fit; None if nothing does."""
    if fits(config):
        return config
    for key, values in _settings(config, role).items():
        for value in values:
            smaller = changed(config, **{key: value})
            if fits(smaller):
                return smaller
        config = smaller if values else config
    return None


def _settings(config: Config, role: str) -> dict[str, list[Any]]:
    """Values that need less memory than the configured ones, smallest change first; those that keep the numbers lead."""
    length, prompt = config.policy.max_length, config.policy.max_prompt_length
    budget = config.training.micro_batch_tokens
    settings: dict[str, dict[str, list[Any]]] = {
        "generators": {
            "generation__gpu_memory_utilization": [UTILIZATION]
            if config.generation.gpu_memory_utilization < UTILIZATION
            else [],
            "generation__max_new_tokens": _halves(config.generation.max_new_tokens),
        },
        "rankers": {"judge__batch_tokens": _halves(config.judge.batch_tokens)},
        "trainers": {
            "training__gradient_checkpointing": [] if config.training.gradient_checkpointing else [True],
            "training__micro_batch_tokens": [size for size in _halves(budget) if 2 * size > length],
            "policy__max_length": [size for size in (length * part // 8 for part in (7, 6, 5, 4, 3)) if size > prompt],
        },
        "host": {},
    }
    return settings[role]


def _halves(value: int) -> list[int]:
    return [value >> shift for shift in range(1, 4)]

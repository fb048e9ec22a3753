"""Settings that make a role fit where it does not.

In: the configuration, the split, the role. Out: overrides, each sufficient on its own.
"""

from typing import Any

from sppo_ray.config import Config
from sppo_ray.planning.memory import role_memory
from sppo_ray.planning.splits import Split, worker_counts

PARALLEL = (2, 4, 8)


def advice(config: Config, limit: float, split: Split, role: str) -> list[str]:
    """The smallest change of each setting that makes the role fit; more devices last."""
    total = limit / config.generation.gpu_memory_utilization if role == "generators" else limit

    def fits(changed: Config, workers: int = split.trainers) -> bool:
        turns = split.colocated and changed.generation.tensor_parallel == 1
        return role_memory(changed, total, workers, turns)[role].fits

    found = []
    for key, values in _settings(config, role).items():
        enough = next((value for value in values if fits(changed(config, key, value))), None)
        if enough is not None:
            found.append(f"{key}={str(enough).lower()}")
    if role == "trainers":
        more = [n for n in worker_counts(config) if n > split.trainers and fits(config, n)]
        found += [f"training.workers={more[0]} (--gpus {more[0]} or more)"] if more else []
    return found or ["devices with more memory: no single setting is enough"]


def changed(config: Config, key: str, value: Any) -> Config:
    section, name = key.split(".")
    return config.model_copy(update={section: getattr(config, section).model_copy(update={name: value})})


def _settings(config: Config, role: str) -> dict[str, list[Any]]:
    """Values that need less memory than the configured ones, smallest change first."""
    if role == "generators":
        parallel = [n for n in PARALLEL if n > config.generation.tensor_parallel]
        return {
            "generation.tensor_parallel": parallel,
            "generation.max_new_tokens": _halves(config.generation.max_new_tokens),
        }
    if role == "rankers":
        return {"judge.batch_tokens": _halves(config.judge.batch_tokens)}
    length = [size for size in _halves(config.policy.max_length) if size > config.policy.max_prompt_length]
    return {
        "training.gradient_checkpointing": [True],
        "training.micro_batch_tokens": _halves(config.training.micro_batch_tokens),
        "policy.max_length": length,
    }


def _halves(value: int) -> list[int]:
    return [value >> shift for shift in range(1, 6)]

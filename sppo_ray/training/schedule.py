"""The optimizer steps of an iteration and their learning rate: linear warm-up from 0, then `training.schedule`.

In: the training settings, the number of prompts. Out: steps, warm-up steps; a warning where too few steps are left to train.
"""

import math
from typing import Any

from sppo_ray.config import TrainingSettings


def steps_per_epoch(training: TrainingSettings, prompts: int) -> int:
    """Optimizer steps in one pass over an iteration's pairs; the last batch is filled up with rows of weight 0."""
    return -(-prompts // training.batch_size)


def iteration_steps(training: TrainingSettings, prompts: int) -> int:
    return training.epochs * steps_per_epoch(training, prompts)


def warmup_steps(training: TrainingSettings, steps: int) -> int:
    """Steps in which the learning rate rises from 0, as in the release; none where the only step would have a rate of 0."""
    return 0 if steps == 1 else math.ceil(training.warmup_ratio * steps)


def scheduler(training: TrainingSettings, optimizer: Any, steps: int) -> Any:
    """torch's scheduler of an iteration of that many steps, as Transformers makes it."""
    from transformers import get_scheduler

    kind = "constant_with_warmup" if training.schedule == "constant" else training.schedule
    return get_scheduler(kind, optimizer, warmup_steps(training, steps), steps)


def few_steps(training: TrainingSettings, prompts: int) -> str | None:
    """A warning in words if an iteration of that many prompts has fewer than 1 / warmup_ratio steps."""
    steps = iteration_steps(training, prompts)
    if steps * training.warmup_ratio >= 1 or not training.warmup_ratio:
        return None
    what = (
        "1 optimizer step, which is taken at the peak learning rate, without warm-up"
        if steps == 1
        else f"{steps} optimizer steps, the first of which has a learning rate of 0"
    )
    return (
        f"{prompts} prompts are {what}: fewer than 1 / training.warmup_ratio = {1 / training.warmup_ratio:g} steps; "
        "a new run can use more prompts or a lower training.batch_size"
    )

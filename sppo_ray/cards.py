"""The model card of a published policy.

In: the configuration and the iteration. Out: the text of its README.md.
"""

from sppo_ray.config import Config


def model_card(config: Config, iteration: int) -> str:
    training, generation = config.training, config.generation
    return f"""---
library_name: transformers
pipeline_tag: text-generation
base_model: {config.policy.model}
tags: [sppo, self-play]
---

# {config.recipe}, SPPO iteration {iteration}

Self-Play Preference Optimization ([arXiv 2405.00675](https://arxiv.org/abs/2405.00675)), iteration {iteration} of \
{config.iterations}, from `{config.policy.model}`, judged by `{config.judge.model}`.

| hyperparameter | value |
|---|---|
| learning rate | {training.learning_rate:g} |
| eta | {training.eta:g} |
| loss | {training.loss} |
| win-rate estimator | {config.judge.estimator} |
| batch | {training.batch_size} pairs |
| optimizer | RMSprop, linear schedule, warm-up ratio {training.warmup_ratio:g} |
| epochs an iteration | {training.epochs} |
| candidates a prompt | {generation.candidates} |
| temperature, top-p | {generation.temperature:g}, {generation.top_p:g} |
| seed | {config.seed} |
"""

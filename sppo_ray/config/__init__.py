"""The configuration of a run: one frozen tree of settings, checked whole before anything starts.

In: a packaged recipe (recipes/*.yaml) or a file, and key.path=value overrides. Out: a `Config`, or a `ConfigError`
that names the key and the remedy.
"""

from sppo_ray.config.judge import JudgeSettings
from sppo_ray.config.reading import load_config, recipe_names, validated
from sppo_ray.config.reference import keys, reference
from sppo_ray.config.resume import changes
from sppo_ray.config.show import anchors, resolved
from sppo_ray.config.training import Anchors, TrainingSettings
from sppo_ray.config.tree import (
    MOST_CHATS,
    Config,
    PolicySettings,
    PoolSettings,
    PromptSource,
)
from sppo_ray.config.values import on_this_machine

__all__ = [
    "MOST_CHATS",
    "Anchors",
    "Config",
    "JudgeSettings",
    "PolicySettings",
    "PoolSettings",
    "PromptSource",
    "TrainingSettings",
    "anchors",
    "changes",
    "keys",
    "load_config",
    "on_this_machine",
    "recipe_names",
    "reference",
    "resolved",
    "validated",
]

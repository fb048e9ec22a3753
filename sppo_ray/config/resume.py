"""What may change when a run is continued: what keeps the numbers may, what changes them may not.

In: the configuration that a run folder was last used with, and the one that a person asks for. Out: the keys that differ.
"""

from dataclasses import dataclass
from typing import Any

from sppo_ray.config.reference import keys
from sppo_ray.config.tree import Config


@dataclass(frozen=True)
class Change:
    """A key whose values differ. free: whether it may, as the tree of settings marks it."""

    key: str
    old: Any
    new: Any
    free: bool


def changes(old: Config, new: Config) -> list[Change]:
    pairs = [(key, _value(old, key), _value(new, key), free) for key, _, free in keys()]
    return [Change(*pair) for pair in pairs if pair[1] != pair[2]]


def _value(config: Config, key: str) -> Any:
    """The value of a dotted key; None if its section is left out."""
    value: Any = config
    for name in key.split("."):
        value = getattr(value, name, None)
    return value

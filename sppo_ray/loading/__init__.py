"""Objects by name: a registered name, or `package.module:name` for one from outside the package.

In: a value of the configuration. Out: the object, or a `ConfigError` that names the key and the nearest names.
"""

import difflib
import importlib
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sppo_ray.errors import ConfigError

__all__ = ["load_named", "load_object", "nearest"]


def load_named(name: str, registered: Mapping[str, Any], key: str, kind: Any = Callable) -> Any:
    """The object registered under a name, or the one that `package.module:name` stands for. key: for messages."""
    if ":" in name:
        return load_object(name, key, kind)
    if name not in registered:
        raise ConfigError(
            f"there is no {key}={name}{nearest(name, registered)}; one from outside is package.module:name"
        )
    return registered[name]


def load_object(name: str, key: str, kind: Any = Callable) -> Any:
    """The object, of this kind, that `package.module:name` stands for; modules in the working directory are found, too."""
    module, colon, attribute = name.partition(":")
    if not (module and colon and attribute):
        raise ConfigError(f"{key}={name}: write package.module:name")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        found = getattr(importlib.import_module(module), attribute)
    except Exception as error:  # importing runs the user's code, which may raise anything
        raise ConfigError(f"{key}={name} cannot be imported: {type(error).__name__}: {error}") from error
    if not isinstance(found, kind):
        raise ConfigError(f"{key}={name} is of type {type(found).__name__}; expected {kind.__name__}")
    return found


def nearest(name: str, names: Iterable[str], prefix: str = "") -> str:
    """The end of a message about an unknown name: what may have been meant, else all that there are."""
    names = list(names)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if near:
        return ": did you mean " + " or ".join(prefix + n for n in near) + "?"
    return f"; there {'is' if len(names) == 1 else 'are'} {', '.join(prefix + n for n in names)}"

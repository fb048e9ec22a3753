"""Reading a configuration: a packaged recipe or a file, with overrides.

In: a recipe or a file, and `key.path=value` overrides. Out: a `Config`, or a `ConfigError` that names the key and the remedy.
"""

import re
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from sppo_ray.config.reference import section_of
from sppo_ray.config.tree import Config
from sppo_ray.config.values import Section
from sppo_ray.errors import ConfigError
from sppo_ray.loading import nearest

# What YAML would cut off as a comment or an anchor is part of an override's value, as in prompts.source=/data/a #b.jsonl.
CUT_OFF = re.compile(r"&|(?=[^'\"\[{])(.*\s)?#")
QUOTING = "; if text is meant, quote it for the shell and for YAML: {key}='\"...\"'"


def recipe_names() -> list[str]:
    """The packaged recipes, by name."""
    return sorted(
        file.name[:-5] for file in resources.files("sppo_ray.config.recipes").iterdir() if file.name.endswith(".yaml")
    )


def load_config(recipe: str | None = None, file: Path | None = None, overrides: list[str] | None = None) -> Config:
    """The configuration of a recipe or a file, with `key.path=value` overrides.

    A file is in the recipes' format, or the config.yaml of a run folder, which also says what made the run.

    Raises `ConfigError` for an unknown recipe or key (the nearest names are suggested) and for values that do not fit.
    """
    if file is not None:
        tree = _parse(_read(file), str(file))
        tree = tree.get("config", tree)
    else:
        name = recipe or "playground"
        if name not in recipe_names():
            raise ConfigError(f"there is no recipe {name!r}{nearest(name, recipe_names())}")
        tree = _parse(
            resources.files("sppo_ray.config.recipes").joinpath(f"{name}.yaml").read_text("utf-8"), f"recipe {name}"
        )
    for override in overrides or []:
        _set(tree, override)
    return validated(tree)


def validated(tree: dict[str, Any]) -> Config:
    """The configuration of a tree of settings. Raises `ConfigError` naming each key that does not fit."""
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise ConfigError("\n".join(_describe(problem) for problem in error.errors())) from None


def _read(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"--config {file}: no such file; `--recipe` takes one of {', '.join(recipe_names())}"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--config {file} cannot be read: {error}") from None


def _parse(text: str, where: str) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{where} is not YAML: {error}") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{where} holds no settings: write `key: value` lines, as the packaged recipes do")
    return tree


def _set(tree: dict[str, Any], override: str) -> None:
    path, equals, value = override.partition("=")
    if not equals:
        raise ConfigError(f"{override!r} is not an override: write key.path=value")
    *parents, key = path.split(".")
    for parent in parents:
        branch = tree.setdefault(parent, {})
        if branch is None:
            branch = tree[parent] = {}
        if not isinstance(branch, dict):
            raise ConfigError(f"{override!r}: {parent} is a value, not a section")
        tree = branch
    try:
        tree[key] = value if CUT_OFF.match(value) else yaml.safe_load(value)
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{override!r}: the value is not YAML: {reason}{QUOTING.format(key=path)}") from None


def _describe(problem: Any) -> str:
    path = [str(part) for part in problem["loc"]]
    if problem["type"] == "extra_forbidden":
        names = _keys(path[:-1])
        return f"there is no key {'.'.join(path)}{nearest(path[-1], names, '.'.join([*path[:-1], '']))}"
    if problem["type"] == "missing":
        return f"{'.'.join(path)} is missing: add it to the configuration"
    if problem["type"] == "value_error":
        message = str(problem["ctx"]["error"])
        return f"{'.'.join(path)} is {problem['input']!r}: {message}" if path else message
    hint = QUOTING.format(key=".".join(path)) if problem["type"] == "string_type" else ""
    return f"{'.'.join(path)} is {problem['input']!r}: {problem['msg'][0].lower()}{problem['msg'][1:]}{hint}"


def _keys(path: list[str]) -> list[str]:
    section: type[Section] | None = Config
    for part in path:
        assert section is not None  # pydantic names only keys that are there
        section = section_of(section.model_fields[part])
    assert section is not None
    return list(section.model_fields)

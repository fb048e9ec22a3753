"""The configuration reference, generated from the tree of settings.

In: nothing but the tree. Out: Markdown with every key, its type, default, meaning and whether it may change when a run is
continued; `docs/hooks.py` puts it on the site.
"""

import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from sppo_ray.config.tree import Config
from sppo_ray.config.values import FREE, Section

HEADER = ["| key | type | default | may change on resume | meaning |", "|---|---|---|---|---|"]


def reference() -> str:
    """One table per section of the configuration, in the order of the tree."""
    return "\n\n".join(_sections(Config, ""))


def keys(
    section: type[Section] = Config, prefix: str = "", free: bool = False
) -> Iterator[tuple[str, FieldInfo, bool]]:
    """The dotted path and the field of every key that holds a value, and whether it may change on resume."""
    for name, field in section.model_fields.items():
        inner, may_change = section_of(field), free or FREE in field.metadata
        if inner is None:
            yield prefix + name, field, may_change
        else:
            yield from keys(inner, f"{prefix}{name}.", may_change)


def _sections(section: type[Section], prefix: str, free: bool = False) -> Iterator[str]:
    title = f"## {prefix.rstrip('.') or 'Top level'}"
    meaning = (section.__doc__ or "").strip()
    fields = {name: (field, free or FREE in field.metadata) for name, field in section.model_fields.items()}
    rows = [_row(prefix + name, *about) for name, about in fields.items() if section_of(about[0]) is None]
    if rows:
        yield "\n".join([title, "", meaning, "", *HEADER, *rows])
    for name, (field, may_change) in fields.items():
        inner = section_of(field)
        if inner is not None:
            yield from _sections(inner, f"{prefix}{name}.", may_change)


def _row(key: str, field: FieldInfo, free: bool) -> str:
    default = "required" if field.default is PydanticUndefined else f"`{_value(field.default)}`"
    meaning = " ".join((field.description or "").split())
    cells = [f"`{key}`", _type(field.annotation), default, "yes" if free else "no", meaning]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _value(default: Any) -> str:
    if default is None:
        return "null"
    return (
        str(default).lower()
        if isinstance(default, bool)
        else f"{default:g}"
        if isinstance(default, float)
        else f"{default}"
    )


def _type(annotation: Any) -> str:
    """A type as people write values of it: choices spelled out, optional types without None."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type(arguments[0])
    if origin is Literal:
        return ", ".join(f"`{choice}`" for choice in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(_type(one) for one in arguments if one is not type(None))
    if origin is list:
        return f"list of {_type(arguments[0])}"
    if origin is dict:
        return "mapping"
    return {"str": "text", "int": "integer", "float": "number", "bool": "true, false"}[annotation.__name__]


def section_of(field: FieldInfo) -> type[Section] | None:
    """The section that a field holds, where it is one (or may be left out)."""
    kinds = [field.annotation, *get_args(field.annotation)]
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Section)), None)

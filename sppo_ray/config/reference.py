"""The configuration reference, generated from the tree of settings.

In: nothing but the tree. Out: Markdown with every key, its type, default and meaning; `docs/hooks.py` puts it on the site.
"""

import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from sppo_ray.config.tree import Config, Section


def reference() -> str:
    """One table per section of the configuration, in the order of the tree."""
    return "\n\n".join(_sections(Config, ""))


def keys(section: type[Section] = Config, prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """The dotted path and the field of every key that holds a value."""
    for name, field in section.model_fields.items():
        inner = _section_of(field)
        if inner is None:
            yield prefix + name, field
        else:
            yield from keys(inner, f"{prefix}{name}.")


def _sections(section: type[Section], prefix: str) -> Iterator[str]:
    title = f"## {prefix.rstrip('.') or 'Top level'}"
    meaning = (section.__doc__ or "").strip()
    own = [(name, field) for name, field in section.model_fields.items() if _section_of(field) is None]
    rows = [_row(prefix + name, field) for name, field in own]
    if rows:
        yield "\n".join([title, "", meaning, "", "| key | type | default | meaning |", "|---|---|---|---|", *rows])
    for name, field in section.model_fields.items():
        inner = _section_of(field)
        if inner is not None:
            yield from _sections(inner, f"{prefix}{name}.")


def _row(key: str, field: FieldInfo) -> str:
    default = "required" if field.default is PydanticUndefined else f"`{_value(field.default)}`"
    cells = [f"`{key}`", _type(field.annotation), default, " ".join((field.description or "").split())]
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


def _section_of(field: FieldInfo) -> type[Section] | None:
    """The section that a field holds, where it is one (or may be left out)."""
    kinds = [field.annotation, *get_args(field.annotation)]
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Section)), None)

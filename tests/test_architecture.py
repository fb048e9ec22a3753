"""Imports go one way: jobs, actors, sppo_ray; and what is true without a cluster knows nothing of Ray."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FORBIDDEN = {"sppo_ray": {"ray", "actors", "jobs"}, "actors": {"jobs"}}


def imported(file: Path) -> set[str]:
    """The top-level packages that a file imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("package", FORBIDDEN)
def test_nothing_imports_what_lies_above_it(package: str) -> None:
    files = list((ROOT / package).rglob("*.py"))
    assert files
    assert {
        file.name: imported(file) & FORBIDDEN[package] for file in files if imported(file) & FORBIDDEN[package]
    } == {}

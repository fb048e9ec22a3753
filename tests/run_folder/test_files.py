"""JSON of the run folder is JSON: numbers that are not finite become null."""

import json
from pathlib import Path

import pytest

from sppo_ray.run_folder import files

VALUE = {"a": float("nan"), "b": [1.5, float("inf"), {"c": -float("inf")}], "d": (1, True, None, "NaN")}


def strict(text: str) -> object:
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def test_what_is_not_a_finite_number_is_written_as_null(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    files.write_json(path, VALUE)
    assert strict(path.read_text()) == {"a": None, "b": [1.5, None, {"c": None}], "d": [1, True, None, "NaN"]}


def test_and_so_in_lines(tmp_path: Path) -> None:
    path = tmp_path / "training.jsonl"
    files.write_json_lines(path, [{"loss": float("nan")}, {"loss": 1.0}])
    assert [strict(line) for line in path.read_text().splitlines()] == [{"loss": None}, {"loss": 1.0}]

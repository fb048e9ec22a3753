"""A whole iteration of the playground against the same work done the release's way, one after the other on this machine."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from jobs.benchmarks import Ratio, at_least
from jobs.benchmarks._release import iterate


def run() -> list[Ratio]:
    return [whole_iteration("iteration: the release's way", "playground", [], 3)]


def whole_iteration(name: str, recipe: str, words: list[str], goal: float) -> Ratio:
    """The second iteration of a run, which finds engines at work, without its evaluation: the release evaluates nothing in its loop."""
    with tempfile.TemporaryDirectory() as folder:
        theirs = iterate(Path(folder) / "release", recipe, words)
        root = Path(folder) / "run"
        job = [sys.executable, "-m", "jobs.sppo", "--run-dir", str(root)]
        subprocess.run(
            [*job, "--recipe", recipe, "iterations=2", *words],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        reports = [json.loads((root / f"iter-{number}" / "report.json").read_text()) for number in (1, 2)]
    first, ours = (report["seconds"]["total"] - report["seconds"]["evaluate"] for report in reports)
    parts: dict[str, Any] = {stage: round(seconds, 1) for stage, seconds in theirs.items()}
    return at_least(
        name,
        sum(theirs.values()) / ours,
        goal,
        seconds=[round(ours, 1), round(sum(theirs.values()), 1)],
        first_iteration=round(first, 1),
        **parts,
    )

"""A whole iteration of the playground against the same work done the release's way, and against its stages one after the other."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from jobs.benchmarks import Ratio, at_least, at_most
from jobs.benchmarks._release import iterate

IN_TURN = "training.min_margin=1e-9"  # training waits for the last judgement


def run() -> list[Ratio]:
    overlapped = whole_iteration("iteration: the release's way", "playground", [], 3)
    ours, one_by_one = overlapped.detail["seconds"][0], second_iteration("playground", [IN_TURN])[0]
    return [
        overlapped,
        at_most(
            "iteration: training beside sampling on shared cores, training after it = 1",
            ours / one_by_one,
            1,
            seconds=[ours, round(one_by_one, 1)],
        ),
    ]


def whole_iteration(name: str, recipe: str, words: list[str], goal: float, reason: str = "") -> Ratio:
    with tempfile.TemporaryDirectory() as folder:
        theirs = iterate(Path(folder), recipe, words)
    ours, first = second_iteration(recipe, words)
    parts: dict[str, Any] = {stage: round(seconds, 1) for stage, seconds in theirs.items()}
    return at_least(
        name,
        sum(theirs.values()) / ours,
        goal,
        reason,
        seconds=[round(ours, 1), round(sum(theirs.values()), 1)],
        first_iteration=round(first, 1),
        **parts,
    )


def second_iteration(recipe: str, words: list[str]) -> tuple[float, float]:
    """Seconds of the second iteration of a run, which finds engines at work, and of the first.

    Without their evaluations: the release evaluates nothing in its loop.
    """
    with tempfile.TemporaryDirectory() as folder:
        job = [sys.executable, "-m", "jobs.sppo", "--run-dir", folder, "--recipe", recipe, "iterations=2", *words]
        subprocess.run(job, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        reports = [json.loads(Path(folder, f"iter-{number}", "report.json").read_text()) for number in (1, 2)]
    first, second = (report["seconds"]["total"] - report["seconds"]["evaluate"] for report in reports)
    return second, first

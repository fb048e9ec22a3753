"""A whole iteration of the playground against the same work done the release's way, one after the other on this machine.

In: the playground. Out: seconds of an iteration of a run in progress, of the release's way, and of its stages.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from jobs.benchmarks import Ratio, at_least
from jobs.benchmarks._release import iterate


def run() -> list[Ratio]:
    with tempfile.TemporaryDirectory() as folder:
        theirs = iterate(Path(folder) / "release")
        root = Path(folder) / "run"
        command = [sys.executable, "-m", "jobs.sppo", "--recipe", "playground", "--run-dir", str(root), "iterations=2"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        reports = [json.loads((root / f"iter-{number}" / "report.json").read_text()) for number in (1, 2)]
    # The release evaluates nothing in its loop.
    first, ours = (report["seconds"]["total"] - report["seconds"]["evaluate"] for report in reports)
    parts: dict[str, Any] = {name: round(seconds, 1) for name, seconds in theirs.items()}
    return [
        at_least(
            "iteration: the release's way",
            sum(theirs.values()) / ours,
            3,
            seconds=[round(ours, 1), round(sum(theirs.values()), 1)],
            first_iteration=round(first, 1),
            **parts,
        )
    ]

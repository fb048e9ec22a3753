"""A run of the playground from the command to its table, and one of its iterations against the same work done the release's way.

Not the machine's first run: another one comes before it, so the playground's models and what is compiled are there.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from jobs.benchmarks import Ratio, at_least, at_most
from jobs.benchmarks._release import iterate
from jobs.demo import BIN
from sppo_ray import playground

DEMO, JOB = 75, 60  # seconds on two cores
PARTS = {  # of the log, in its order
    "submitted": "run folder:",
    "engines start": "starting engines",
    "base evaluated": "evaluating the base",
    "iteration 1": "iteration 1: sampling",
    "iteration 2": "iteration 2: sampling",
    "iteration 3": "iteration 3: sampling",
    "table": "policy:",
}
START = "a third passes before the base is evaluated: imports of the job and its actors, and vLLM's start, on two cores"
IN_TURN = "training.min_margin=1e-9"  # training waits for the last judgement


def run() -> list[Ratio]:
    playground.build()
    after = run_job("playground", [IN_TURN])[1]
    with tempfile.TemporaryDirectory() as folder:
        began, demo = run_demo(Path(folder))
        root = next(Path(folder, "runs").glob("demo-*/"))
        ours = iteration_seconds(root)
    job = began["table"] - began["submitted"]
    parts = {name: f"{seconds - began['submitted']:.0f} s" for name, seconds in began.items() if name != "submitted"}
    return [
        compare("iteration: the release's way", ours, "playground", [], 3),
        at_most(
            "iteration: training beside sampling on shared cores, training after it = 1",
            ours[1] / after,
            1,
            seconds=[round(ours[1], 1), round(after, 1)],
        ),
        at_most(f"whole run: `ray job submit` to the table, {JOB} s = 1", job / JOB, 1, START, **parts),
        at_most(f"whole run: the demo, {DEMO} s = 1", demo / DEMO, 1, START, seconds=round(demo)),
    ]


def compare(
    name: str, ours: tuple[float, float], recipe: str, words: list[str], goal: float, reason: str = ""
) -> Ratio:
    """ours: seconds of the run's first two iterations. The second finds engines at work, so it is the one compared."""
    with tempfile.TemporaryDirectory() as folder:
        theirs = iterate(Path(folder), recipe, words)
    parts: dict[str, Any] = {stage: round(seconds, 1) for stage, seconds in theirs.items()}
    return at_least(
        name,
        sum(theirs.values()) / ours[1],
        goal,
        reason,
        seconds=[round(ours[1], 1), round(sum(theirs.values()), 1)],
        first_iteration=round(ours[0], 1),
        **parts,
    )


def run_demo(folder: Path) -> tuple[dict[str, float], float]:
    """Seconds from the command to each of `PARTS`, and to its end."""
    started = time.monotonic()
    command = [str(BIN / "sppo-ray"), "demo"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as demo:
        lines = [(time.monotonic() - started, line) for line in demo.stdout or ()]
    if demo.returncode:
        raise RuntimeError("sppo-ray demo failed:\n" + "".join(line for _, line in lines))
    began = {name: next(when for when, line in lines if text in line) for name, text in PARTS.items()}
    return began, time.monotonic() - started


def run_job(recipe: str, words: list[str]) -> tuple[float, float]:
    """Seconds of two iterations of a run of their own."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "run"
        job = [sys.executable, "-m", "jobs.sppo", "--run-dir", str(root), "--recipe", recipe, "iterations=2", *words]
        subprocess.run(job, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return iteration_seconds(root)


def iteration_seconds(root: Path) -> tuple[float, float]:
    """Of a run's first two iterations, without their evaluations: the release evaluates nothing in its loop."""
    seconds = [json.loads((root / f"iter-{number}" / "report.json").read_text())["seconds"] for number in (1, 2)]
    return seconds[0]["total"] - seconds[0]["evaluate"], seconds[1]["total"] - seconds[1]["evaluate"]

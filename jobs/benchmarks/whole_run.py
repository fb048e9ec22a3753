"""The playground's demo, from the command to its end and from `ray job submit` to the table of results, against set times.

Not the machine's first: the playground's models are there, and the libraries are in the page cache.
"""

import subprocess
import tempfile
import time

from jobs.benchmarks import Ratio, at_most
from jobs.demo import BIN
from sppo_ray import playground

DEMO, JOB = 75, 60  # seconds on two cores
MARKS = {  # lines of the log
    "submitted": "run folder:",
    "starting engines": "starting engines",
    "evaluating the base": "evaluating the base",
    "iteration 1": "iteration 1: sampling",
    "iteration 2": "iteration 2: sampling",
    "iteration 3": "iteration 3: sampling",
    "table": "policy:",
}


def run() -> list[Ratio]:
    playground.build()
    started, lines = time.monotonic(), []
    with tempfile.TemporaryDirectory() as folder:
        command = [str(BIN / "sppo-ray"), "demo"]
        with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as demo:
            lines = [(time.monotonic() - started, line) for line in demo.stdout or ()]
    whole = time.monotonic() - started
    if demo.returncode:
        raise RuntimeError("sppo-ray demo failed:\n" + "".join(line for _, line in lines))
    when = {name: next(moment for moment, line in lines if text in line) for name, text in MARKS.items()}
    parts = {name: f"{moment - when['submitted']:.0f} s" for name, moment in when.items() if name != "submitted"}
    start = "a third is the start of Ray Train, vLLM and the libraries they import, one after another on two cores"
    return [
        at_most(f"whole run: ray job submit to the table, {JOB} s = 1", (when["table"] - when["submitted"]) / JOB, 1, start, **parts),
        at_most(f"whole run: the demo, {DEMO} s = 1", whole / DEMO, 1, start, seconds=round(whole)),
    ]  # fmt: skip

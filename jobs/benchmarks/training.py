"""Training: memory of the loss against the plain way, trained tokens per second against TRL."""

import json
import os
import subprocess
import sys
import sysconfig
import tempfile
import venv
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import torch

from jobs.benchmarks import Ratio, at_least, at_most, ratios
from jobs.benchmarks._loss_memory import HIDDEN, VOCABULARY, accounted
from jobs.benchmarks._trainers import (
    MODEL,
    PAIRS,
    STEPS,
    TOKENS,
    WARM_UP,
    WORKERS,
    WORKS,
    make_model,
    trained_tokens,
    write_pairs,
)  # fmt: skip

GEMMA_2_9B = 3584  # hidden size
ROWS, LENGTH = 8, 1024
REAL_LENGTH = 128  # of a pass that is really made: the plain one takes 4 GiB


TRL = "1.16.0"
TRL_ENVIRONMENT = Path(".venv-bench")  # TRL beside this environment's own packages, which it does not change


def run() -> list[Ratio]:
    layers = f"{MODEL['num_hidden_layers']} layers, vocabulary {MODEL['vocab_size']}"
    about = {"model": f"Gemma-2, hidden {MODEL['hidden_size']}, {layers}"}
    return [*loss_memory(), tokens_a_second("made", make_model, 1.5, about)]


def tokens_a_second(work: str, model: Callable[[Path], object], goal: float, about: dict[str, str]) -> Ratio:
    """Both train one epoch on the same pairs, two processes x 4 pairs per step; the first steps are not counted.

    TRL as it comes: a second copy of the model as reference.
    model: puts it into a folder.
    """
    about |= {"a step": f"{WORKERS} processes x {PAIRS} pairs, {WORKS[work].dtype}, ZeRO-3 over gloo, RMSprop"}
    name = f"trained tokens per second, {work} model, TRL {TRL} (sppo_hard) = 1"
    try:
        python = _trl_python()
    except subprocess.CalledProcessError as error:
        return at_least(name, 0.0, goal, f"TRL cannot be installed: pip ended with {error.returncode}", **about)
    tokens = trained_tokens(WORKS[work])
    with tempfile.TemporaryDirectory() as folder:
        model(Path(folder))
        write_pairs(Path(folder), WORKS[work])
        ways = {"trl": python, "ours": Path(sys.executable)}
        steps = {way: _train(program, way, Path(folder), work) for way, program in ways.items()}
    speeds = {way: tokens / sum(seconds) for way, seconds in steps.items()}
    return at_least(
        name,
        ratios(steps["trl"], steps["ours"]),
        goal,
        **about,
        checkpointing=WORKS[work].checkpointing,
        attention="{} here, {} in TRL".format(*WORKS[work].attention),
        counted=f"{STEPS - WARM_UP} steps, {tokens} tokens, passes of {TOKENS} tokens here",
        **{way: f"{speed:.0f} tokens/s" for way, speed in speeds.items()},
    )


def _trl_python() -> Path:
    python = TRL_ENVIRONMENT / "bin" / "python"
    if not python.exists():
        venv.create(TRL_ENVIRONMENT)
        purelib = Path(sysconfig.get_path("purelib", vars={"base": str(TRL_ENVIRONMENT)}))
        (purelib / "main.pth").write_text(sysconfig.get_path("purelib") + "\n")
    # --no-deps: what TRL needs is here.
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", f"trl=={TRL}"]
    subprocess.run(pip, check=True)
    return python


def _train(python: Path, way: str, folder: Path, work: str) -> list[float]:
    """Seconds of each step that counts: all ways take the same pairs in the same order."""
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(WORKERS)]
    with (folder / f"{way}.log").open("w") as log:
        done = subprocess.run(
            [str(python), *launch, "-m", "jobs.benchmarks._trainers", way, str(folder), work],
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.getcwd()},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    if done.returncode:
        raise RuntimeError(f"{way} failed:\n{(folder / f'{way}.log').read_text()[-3000:]}")
    ends: list[float] = json.loads((folder / f"{way}.json").read_text())
    return [end - before for before, end in pairwise(ends[WARM_UP:])]


def loss_memory() -> list[Ratio]:
    sizes = {}
    for width, dtype in ((GEMMA_2_9B, torch.float32), (GEMMA_2_9B, torch.bfloat16), (HIDDEN, torch.float32)):
        for way in ("plain", "sliced"):
            sizes[way, width, dtype] = accounted(way, ROWS, LENGTH, width, dtype) / 2**30
    with tempfile.TemporaryDirectory() as folder:
        seen = {way: _real_pass(way, Path(folder)) for way in ("plain", "sliced")}
    difference = max(
        ((mine - plain).norm() / plain.norm()).item()
        for mine, plain in zip(seen["sliced"]["gradients"], seen["plain"]["gradients"], strict=True)
    )
    shown = {
        f"hidden {width} {str(dtype).removeprefix('torch.')}": f"{sizes['sliced', width, dtype]:.2f} of {size:.2f} GiB"
        for (way, width, dtype), size in sizes.items()
        if way == "plain"
    }
    top = [sizes[way, GEMMA_2_9B, torch.float32] for way in ("sliced", "plain")]
    resident = {f"resident memory, {ROWS} x {REAL_LENGTH}": " of ".join(
        f"{seen[way]['bytes'] / 2**30:.2f}" for way in ("sliced", "plain")) + " GiB"}  # fmt: skip
    about = f"vocabulary {VOCABULARY}, {ROWS} x {LENGTH} tokens"
    return [
        at_most("loss and backward: peak memory, plain = 1", top[0] / top[1], 0.35, of=about, **shown, **resident),
        at_most("loss and backward: relative difference of gradients", difference, 1e-5, dtype="float32"),
    ]


def _real_pass(way: str, folder: Path) -> dict:
    out = folder / f"{way}.pt"
    arguments = [way, str(ROWS), str(REAL_LENGTH), str(out)]
    subprocess.run([sys.executable, "-m", "jobs.benchmarks._loss_memory", *arguments], check=True)
    result: dict = torch.load(out)
    return result

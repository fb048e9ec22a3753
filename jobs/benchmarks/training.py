"""Training: memory of the loss against the plain way, trained tokens a second against TRL."""

import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from jobs.benchmarks import Ratio, at_most
from jobs.benchmarks._loss_memory import HIDDEN, VOCABULARY, accounted

GEMMA_2_9B = 3584  # hidden size
ROWS, LENGTH = 8, 1024
REAL_LENGTH = 128  # of a pass that is really made: the plain one takes 4 GiB


def run() -> list[Ratio]:
    return loss_memory()


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


def _real_pass(way: str, folder: Path) -> dict:  # type: ignore[type-arg]
    out = folder / f"{way}.pt"
    arguments = [way, str(ROWS), str(REAL_LENGTH), str(out)]
    subprocess.run([sys.executable, "-m", "jobs.benchmarks._loss_memory", *arguments], check=True)
    result: dict = torch.load(out)  # type: ignore[type-arg]
    return result

"""PairRM: its speed beside llm-blender's, and what half precision does to its choices."""

import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch

from jobs.benchmarks.judge import load_blender
from jobs.gpu import PEAK, synchronize
from jobs.gpu.models import WORDS, random_pairrm
from sppo_ray.judging import PairRM
from sppo_ray.planning.rates import JUDGE_SHARE
from sppo_ray.preference import select_pair


def judging(folder: Path, tiny: bool, device: torch.device) -> dict[str, Any]:
    """Ordered comparisons of about 700 tokens per second, here in batches and by llm-blender one at a time."""
    checkpoint = random_pairrm(folder, tiny)
    judge = PairRM(checkpoint, device=str(device), batch_tokens=131_072 if device.type == "cuda" else 4096)
    prompts, texts = _texts(2 if tiny else 64, 1 if tiny else 22)
    lengths = judge._encode(prompts, texts)
    tokens = int(lengths.sources[0, 1] + lengths.lengths[0, :2].sum())
    blender = load_blender(checkpoint, str(device))
    few = slice(0, max(1, len(prompts) // 16))  # one at a time takes long
    judge.compare(prompts[::-1], texts[::-1])  # as many rows as in the measurement, for which kernels are compiled
    ours = _rate(lambda some: judge.compare(prompts[some], texts[some]), slice(None), len(prompts), device)
    theirs = _rate(lambda some: blender.rank(prompts[some], texts[some], batch_size=1), few, len(prompts[few]), device)
    encoder = sum(p.numel() for p in judge._model._encoder.layer.parameters())
    return {
        "tokens per comparison": tokens,
        "comparisons/s": ours,
        "tokens/s": tokens * ours,
        "share of the peak (2N per token)": 2 * encoder * tokens * ours / PEAK,
        "share in the plan": JUDGE_SHARE,
        "llm-blender comparisons/s": theirs,
        "ratio": ours / theirs,
        "goal of the ratio": 5,
        "public": "none found for DeBERTa-v3-large",
    }


def rounding(folder: Path, tiny: bool, device: torch.device) -> dict[str, Any]:
    """Logits in each precision against float32 on the device, the pairs they choose, and float32 against a CPU."""
    checkpoint = random_pairrm(folder, tiny)
    prompts, texts = _texts(2 if tiny else 32, 1 if tiny else 10)

    def logits(where: str, dtype: str, many: int) -> Any:
        # flex_attention's kernel for CPUs does not compile where widths vary (torch 2.13).
        with torch.compiler.set_stance("force_eager") if where == "cpu" else nullcontext():
            judge = PairRM(checkpoint, device=where, dtype=dtype, batch_tokens=16_384)
            return judge.compare(prompts[:many], texts[:many])

    exact, on_cpu = logits(device.type, "float32", len(prompts)), logits("cpu", "float32", 1)
    found: dict[str, Any] = {
        "prompts": len(prompts),
        "logits, root mean square": float(np.sqrt((exact**2).mean())),
        "float32 to a CPU, largest difference": float(np.abs(exact[:1] - on_cpu).max()),
    }
    pairs = np.stack(select_pair(exact, "pairwise", 1.0))
    for dtype in ("float16", "bfloat16"):
        rounded = logits(device.type, dtype, len(prompts))
        other = np.stack(select_pair(rounded, "pairwise", 1.0))
        found[dtype] = {
            "mean difference": float(np.abs(rounded - exact).mean()),
            "largest difference": float(np.abs(rounded - exact).max()),
            "pairs that differ": int((pairs != other).any(axis=0).sum()),
        }
    return found


def _texts(prompts: int, repeats: int) -> tuple[list[str], list[list[str]]]:
    """Prompts with five responses each, all different, of about 10 tokens per repeat."""
    chance = np.random.default_rng(0)

    def text() -> str:
        return " ".join(chance.choice(WORDS, 10 * repeats))

    return [text() for _ in range(prompts)], [[text() for _ in range(5)] for _ in range(prompts)]


def _rate(compare: Any, some: slice, prompts: int, device: torch.device) -> float:
    compare(slice(0, 1))
    synchronize(device)
    started = time.monotonic()
    compare(some)
    synchronize(device)
    return prompts * 20 / (time.monotonic() - started)

"""The judge against `Blender.rank(batch_size=1)`: every ordered pair of five real answers to the same real prompts.

    python -m jobs.benchmarks.judge        # all 150 prompts, half an hour; a part of `make bench` takes six

In: the playground's judge and one of another size, with random weights; `shared/data/candidates_real.jsonl` beside the
checkout, whole and cut short. Out: the ratios, padding, time outside the forward pass.
"""

import json
import shutil
import sys
import tempfile
import time
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from safetensors.torch import save_file

from jobs.benchmarks import Ratio, at_least, at_most, ratios
from sppo_ray import playground
from sppo_ray.config import load_config
from sppo_ray.judging import PairRM
from sppo_ray.playground.comparer import Comparer
from sppo_ray.playground.judge import write_config

TEXTS = Path(__file__).parents[3] / "shared/data/candidates_real.jsonl"
SAMPLE = slice(12, None, 25)  # of the prompts in the order of their texts' lengths
SHORT = {"prompt": 60, "candidates": 40}  # words: comparisons of 100 to 400 tokens
OTHER_SIZE = {"hidden_size": 96, "num_attention_heads": 6, "intermediate_size": 384, "position_buckets": 64}
Row = dict[str, Any]
KERNEL = "three quarters are the attention kernel, whose products take most of a core's peak"
LINEAR = "on short texts two thirds of the time are linear layers and attention kernel, both near a core's peak"


def run(sample: slice = SAMPLE) -> list[Ratio]:
    if not TEXTS.exists():
        print(f"judge: {TEXTS} is not here, nothing measured")
        return []
    torch.set_num_threads(1)  # as in a ranker's process, to which Ray gives less than one CPU
    rows = [json.loads(line) for line in TEXTS.read_text("utf-8").splitlines()]
    rows = sorted(rows, key=lambda row: len(row["prompt"] + "".join(row["candidates"])))[sample]
    # Both sides take such rounds in turn: a short prompt and a long one, for a long one gains more.
    rounds = [[rows[place], rows[-1 - place]] for place in range(len(rows) // 2)]
    short = [[cut(row) for row in some] for some in rounds]
    checkpoint = playground.build().judge
    with tempfile.TemporaryDirectory() as folder:
        other = of_another_size(checkpoint, Path(folder) / "judge")
        return [
            *compare("judge", checkpoint, rounds, 12, KERNEL),
            compare("judge on short texts", checkpoint, short, 6, LINEAR)[0],
            compare("judge of another size on short texts", other, short, 6, LINEAR)[0],
        ]


def compare(name: str, checkpoint: Path, rounds: list[list[Row]], goal: float, reason: str) -> list[Ratio]:
    judge = Watched(PairRM(checkpoint, batch_tokens=load_config("playground").judge.batch_tokens))
    blender = load_blender(checkpoint)
    error, ours, theirs = 0.0, [], []
    judge.compare(rounds[0][:1])
    judge.forget()
    for some in rounds:
        started = time.perf_counter()
        comparisons = judge.compare(some)
        middle = time.perf_counter()
        texts = [row["prompt"] for row in some], [row["candidates"] for row in some]
        scores = blender.rank(*texts, return_scores=True, batch_size=1)
        ours.append(middle - started)
        theirs.append(time.perf_counter() - middle)
        error = max(error, float(np.abs((comparisons - comparisons.swapaxes(1, 2)).mean(-1) - scores).max()))
    how = {
        "threads": torch.get_num_threads(),
        "prompts": sum(map(len, rounds)),
        "mean_tokens": round(judge.tokens / judge.rows),
    }
    return [
        at_least(
            f"{name}: Blender.rank(batch_size=1)",
            ratios(theirs, ours),
            goal,
            reason,
            seconds=[round(sum(ours), 1), round(sum(theirs), 1)],
            **how,
        ),
        at_most(f"{name}: padding, of all tokens", 1 - judge.tokens / judge.padded, 0.05),
        at_most(f"{name}: time outside the forward pass", 1 - judge.seconds / sum(ours), 0.1),
        at_most(f"{name}: largest difference of a score", error, 1e-4),
    ]


def cut(row: Row) -> Row:
    def first(text: str, words: int) -> str:
        return " ".join(text.split()[:words])

    return {
        "prompt": first(row["prompt"], SHORT["prompt"]),
        "candidates": [first(text, SHORT["candidates"]) for text in row["candidates"]],
    }


def of_another_size(checkpoint: Path, folder: Path) -> Path:
    """A checkpoint with random weights, and the tokenizer of another one."""
    shutil.copytree(checkpoint / "base", folder / "base")
    torch.manual_seed(0)
    network = Comparer(transformers.AutoTokenizer.from_pretrained(folder / "base"), **OTHER_SIZE)
    network.pretrained_model.save_pretrained(folder / "base")
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, folder / "model.safetensors")
    write_config(folder, folder)
    return folder


class Watched:
    """A judge that counts what goes through its forward passes."""

    def __init__(self, judge: PairRM) -> None:
        self._judge = judge
        self._margins = judge._model.margins
        judge._model.margins = self._watch  # type: ignore[method-assign]
        self.forget()

    def forget(self) -> None:
        self.rows = self.tokens = self.padded = 0
        self.seconds = 0.0

    def compare(self, rows: list[Row]) -> Any:
        return self._judge.compare([row["prompt"] for row in rows], [row["candidates"] for row in rows])

    def _watch(self, ids: torch.Tensor, lengths: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        started = time.perf_counter()
        margins = self._margins(ids, lengths, places)
        self.seconds += time.perf_counter() - started
        self.rows, self.tokens, self.padded = (
            self.rows + len(ids),
            self.tokens + int(lengths.sum()),
            self.padded + ids.numel(),
        )
        return margins


def load_blender(checkpoint: Path, device: str = "cpu") -> Any:
    """llm-blender as it is, with what Transformers 5 took away put back."""
    tokenizer: Any = transformers.PreTrainedTokenizerBase
    tokenizer.batch_encode_plus = tokenizer.__call__
    hub: Any = transformers.utils.hub
    hub.TRANSFORMERS_CACHE = ""
    import llm_blender

    blender = llm_blender.Blender()
    with redirect_stdout(sys.stderr):
        blender.loadranker(str(checkpoint), device=device)
    blender.blender_config.use_tqdm = False
    return blender


if __name__ == "__main__":
    for ratio in run(slice(None)):
        print(ratio)

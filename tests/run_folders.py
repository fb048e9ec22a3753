"""A small finished run folder, made by hand, for the tests of what is written from one."""

from pathlib import Path
from typing import Any

from sppo_ray.config import load_config
from sppo_ray.records import Candidates, Judged
from sppo_ray.reporting.report import iteration_report
from sppo_ray.run_folder import Ledger, files


def candidates(texts: list[str], prompt: str = "p0", name: str = "iter-0") -> Candidates:
    """A token a word: its length."""
    ids = [[len(word) for word in text.split()] for text in texts]
    logprobs = [[-1.0] * len(tokens) for tokens in ids]
    return Candidates(prompt, f"Prompt {prompt}", [1, 2], texts, ids, logprobs, ["stop"] * len(texts), name)


def judged(sampled: Candidates, comparisons: list[list[float]], win_rates: list[float]) -> Judged:
    chosen, rejected = win_rates.index(max(win_rates)), win_rates.index(min(win_rates))
    texts = sampled.responses
    return Judged(sampled.prompt_id, sampled.prompt, texts, comparisons, win_rates, chosen, rejected, sampled.snapshot)


GAP = {"reference_mean_abs": 0.001, "reference_p95_abs": 0.003, "reference_mean": -0.0002, "reference_k3": 1e-6}


KEPT = {"projection": 0.275, "cosine": 0.462}


def training_row(step: int, chosen: float = 0.0, rejected: float = 0.0, pairs: int = 1) -> dict[str, Any]:
    numbers = {"loss": 4.0 / step, "pairs": pairs, "chosen_log_ratio": chosen, "rejected_log_ratio": rejected}
    return {"step": step, **numbers, "skipped": False, **(GAP if step == 1 else {})}


def run_folder(root: Path, texts: list[str], overrides: list[str] | None = None) -> Ledger:
    """Iteration 1 of a run: one prompt with these two responses, of which the first is preferred; one held-out prompt."""
    ledger = Ledger(root)
    ledger.claim(load_config("playground", overrides=["generation.candidates=2", *(overrides or [])]), {})
    sampled = candidates(texts)
    ledger.write([sampled], Candidates, ledger.block(Candidates, 1, 0))
    row = judged(sampled, [[0.0, 1.0], [-0.5, 0.0]], [0.6588, 0.3412])
    ledger.write([row], Judged, ledger.block(Judged, 1, 0))
    for iteration in (0, 1):
        held_out = candidates(["a bb ccc"], name=f"iter-{iteration}")
        ledger.write([held_out], Candidates, ledger.block(Candidates, iteration, 0, "evaluation"))
    files.write_json_lines(ledger.training_log(1), [training_row(1), training_row(2)])
    (ledger.iteration(1) / "policy").mkdir()
    files.write_json(ledger.iteration(1) / "policy" / "manifest.json", {"kept": KEPT})
    evaluation = {"mean_response_tokens": 3.0}
    for name in ("base", "previous"):
        evaluation |= {f"win_rate_vs_{name}": 0.75, f"win_rate_vs_{name}_interval": [0.7, 0.8]}
    stages = ("generate", "judge", "train", "advance", "evaluate", "total")
    ledger.write_report(1, iteration_report(ledger, 1, evaluation, dict.fromkeys(stages, 1.0), {}))
    return ledger

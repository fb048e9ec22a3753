"""The real model's baselines on one budget: best-of-5 from the base, rejection fine-tuning, iterative DPO, and SPPO with and without LoRA.

    python -m jobs.compare_real [WAY ...] [--seed 42] [--folder compare-real] [key.path=value ...]

Each way is a run of the recipe `smollm2-135m-instruct`: the same prompts, candidates, judge, pairs left out, steps. WAY is one of
sppo, lora, dpo, rejection; without any all run, one after the other. The base and the best of its five answers by the judge come
with the first. A finished run stays in the folder as a small JSON and is not repeated.
Writes comparison.md there. Exit status of `sppo-ray run` where a run fails.
"""

import argparse
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.compare import run_once
from sppo_ray.instructions import mean_scores, scores, small_model
from sppo_ray.instructions.perplexity import page_perplexity
from sppo_ray.records import Candidates
from sppo_ray.run_folder import Ledger, files

if TYPE_CHECKING:
    from torch import Tensor

RECIPE = "smollm2-135m-instruct"
WAYS = {
    "sppo": [],
    "lora": ["training.adapter.rank=16", "training.learning_rate=1e-3"],  # ten times that of all weights
    "dpo": ["training.loss=dpo", "training.eta=10"],  # beta 0.1, as published
    "rejection": ["training.loss=jobs.compare_real:likelihood"],
}
COLUMNS = ("all", "all kinds trained", "all kinds held out", "all combinations held out", "content", "degenerate share")
Row = dict[str, Any]


def likelihood(chosen: "Tensor", rejected: "Tensor", eta: float, win_rates: Any) -> "Tensor":
    """-log pi(chosen), up to a constant: rejection fine-tuning on the best of the candidates. The family has no such loss."""
    return -chosen


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="jobs/compare_real.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--folder", type=Path, default=Path("compare-real"))
    parser.add_argument("words", metavar="WAY or key.path=value", nargs="*")
    given = parser.parse_intermixed_args(arguments)
    settings = [word for word in given.words if "=" in word]
    ways = [word for word in given.words if word not in settings] or list(WAYS)
    if unknown := sorted(set(ways) - set(WAYS)):
        parser.error(f"there is no way {unknown[0]}; there are {', '.join(WAYS)}")
    folder, found = given.folder.resolve(), dict[str, Row]()
    if not any(word.startswith("policy.model=") for word in settings):
        settings.append(f"policy.model={small_model()}")
    for way in ways:
        words = [*WAYS[way], f"seed={given.seed}", *settings]
        place = folder / f"{way}-seed-{given.seed}"
        result = run_once(place, words, partial(outcome, way=way), "--recipe", RECIPE)
        for name in ("base", "best of its answers"):
            found.setdefault(name, result[name])
        found[way] = result[way]
    text = table(found)
    files.write_bytes(folder / "comparison.md", text.encode())
    print(text)
    return 0


def outcome(ledger: Ledger, way: str) -> dict[str, Row]:
    """Of the base, of the best of its answers to each prompt, and of the last policy."""
    base, reports = ledger.held_out(0), ledger.reports()
    last = ledger.published(len(reports))
    minutes = sum(report["seconds"]["total"] for report in reports) / 60
    perplexity = page_perplexity(ledger.config().policy.model)
    return {
        "base": {**mean_scores(base), "perplexity": perplexity, "minutes": 0.0},
        "best of its answers": {**mean_scores([best(row) for row in base]), "perplexity": perplexity, "minutes": 0.0},
        way: {
            **mean_scores(ledger.held_out(len(reports))),
            "perplexity": page_perplexity(last.uri),
            "minutes": minutes,
        },
    }


def best(row: Candidates) -> Candidates:
    """Its best response alone, by the judge."""
    found = scores(row.prompt, row.responses)
    chosen = found.index(max(found))
    return replace(row, responses=[row.responses[chosen]], token_ids=[row.token_ids[chosen]])


def table(found: dict[str, Row]) -> str:
    lines = [f"| | {' | '.join(COLUMNS)} | tokens | perplexity | minutes |", "|---" * (len(COLUMNS) + 4) + "|"]
    for name, row in found.items():
        shown = [f"{row[column]:.3f}" for column in COLUMNS]
        lines.append(
            f"| {name} | {' | '.join(shown)} | {row['tokens']:.1f} | {row['perplexity']:.2f} | {row['minutes']:.1f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())

"""The objectives side by side on the playground: one budget, several seeds, eta tuned for each on a seed of its own.

    python jobs/compare.py [--seeds 1,2,3] [--etas 2.5,5,10] [--folder compare] [key.path=value ...]

Each objective takes, of the etas, the one whose last policy the judge prefers most on seed 0; the rule, which no run sees, then
marks the runs on the other seeds. With a single eta nothing is tuned. Settings are those of the recipe `playground`, but in
float32, in which every CPU is fast, and with one train worker.
Each finished run stays in the folder as a small JSON and is not repeated; the same command goes on where it was stopped.
Writes comparison.md and comparison.svg there. Exit status of `sppo-ray run` where a run fails.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from jobs import sppo
from sppo_ray import playground
from sppo_ray.evaluation import align, rule_wins, win_rate
from sppo_ray.records import Candidates, Response
from sppo_ray.run_folder import Ledger, files

SAME = ["policy.dtype=float32", "training.workers=1", "training.micro_batch_size=4"]  # a batch is one forward pass
INPO = "training.anchors={current: 0.6666667, base: 0.3333333}"
OBJECTIVES = {
    "SPPO, pairwise": ["training.loss=sppo", "judge.estimator=pairwise"],
    "SPPO, pooled": ["training.loss=sppo", "judge.estimator=pooled"],
    "iterative DPO": ["training.loss=dpo"],
    "iterative IPO": ["training.loss=ipo"],
    "INPO": ["training.loss=ipo", INPO],
    "REBEL": ["training.loss=rebel"],
}
TUNING_SEED = 0
Run = dict[str, Any]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="jobs/compare.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=lambda text: [int(seed) for seed in text.split(",")], default=[1, 2, 3])
    parser.add_argument("--etas", type=lambda text: [float(eta) for eta in text.split(",")], default=[2.5, 5.0, 10.0])
    parser.add_argument("--folder", type=Path, default=Path("compare"))
    parser.add_argument("settings", metavar="key.path=value", nargs="*", help="of all runs")
    given = parser.parse_intermixed_args(arguments)
    folder, found, runs = given.folder.resolve(), {}, list[Run]()
    for name in OBJECTIVES:
        tried = {eta: run(folder, name, eta, TUNING_SEED, given.settings) for eta in given.etas if given.etas[1:]}
        eta = max(tried, key=lambda eta: tried[eta]["judge"][-1]) if tried else given.etas[0]
        found[name] = [run(folder, name, eta, seed, given.settings) for seed in given.seeds]
        runs += [*tried.values(), *found[name]]
    text = f"{table(found)}\n{len(runs)} runs, {sum(run['minutes'] for run in runs):.0f} minutes one after the other.\n"
    files.write_bytes(folder / "comparison.md", text.encode())
    draw(found, folder / "comparison.svg")
    print(text)
    return 0


def run(folder: Path, name: str, eta: float, seed: int, settings: list[str]) -> Run:
    """What came out of a run. All share the Ray that the first one starts."""
    words = [*SAME, *OBJECTIVES[name], f"training.eta={eta:g}", f"seed={seed}", *settings]
    place = folder / f"{name.replace(', ', '-').replace(' ', '-')}-eta-{eta:g}-seed-{seed}"
    return run_once(place, words, lambda ledger: {"eta": eta, "seed": seed, **outcome(ledger)})


def run_once(place: Path, words: list[str], outcome: Callable[[Ledger], Run], *options: str) -> Run:
    """What came out of a run with these settings, of this process or an earlier one; only that is kept, beside its folder.

    minutes: that it took, with what is computed of it.
    """
    kept = place.parent / f"{place.name}.json"  # an eta of 2.5 is no suffix
    if kept.exists() and (result := json.loads(kept.read_text()))["settings"] == words:
        return dict(result)
    began = time.monotonic()
    if status := sppo.main([*options, "--run-dir", str(place), *words]):
        sys.exit(status)
    result = {"settings": words, **outcome(Ledger(place)), "minutes": (time.monotonic() - began) / 60}
    files.write_json(kept, result)
    files.remove(place)
    return result


def outcome(ledger: Ledger) -> Run:
    """rule: win rate against the base of the last policy's responses to each held-out prompt.  kl: of the last policy.

    Of each iteration, rule_rates and judge: win rates against the base; tokens: mean length.
    """
    base, reports = ledger.held_out(0), ledger.reports()
    last = ledger.held_out(len(reports))
    return {
        "rule": [rule_wins(playground.rule_score, [new], [old]) for new, old in zip(*align(last, base), strict=True)],
        "rule_rates": [report["rule_win_rate_vs_base"] for report in reports],
        "judge": [report["win_rate_vs_base"] for report in reports],
        "tokens": [report["mean_response_tokens"] for report in reports],
        "kl": [kl_from_base(last, str(playground.build().policy))],
    }


def kl_from_base(sampled: list[Candidates], base: str) -> float:
    """Mean of log pi - log pi_0 over responses that pi sampled, nats per response: KL(pi || pi_0) but for the temperature."""
    import torch
    from transformers import AutoModelForCausalLM

    from sppo_ray.training.batching import Row, collate
    from sppo_ray.training.logprobs import Scorer

    scorer = Scorer(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, attn_implementation="eager").eval())
    gaps: list[float] = []
    for row in sampled:
        responses = [Response(ids, logprobs, 0.5) for ids, logprobs in zip(row.token_ids, row.logprobs, strict=True)]
        batch = collate([Row(row.prompt_token_ids, one, 1.0, 1) for one in responses], torch.device("cpu"))
        with torch.no_grad():
            under_base = scorer(batch.token_ids, batch.attention_mask, batch.scored)
        gaps += (batch.reference - under_base).sum(-1).tolist()
    return float(np.mean(gaps))


def table(found: dict[str, list[Run]]) -> str:
    """Means over the seeds of each objective's last policy, as Markdown; the interval is over prompts and seeds."""
    lines = [
        "| objective | eta | rule vs base (95 %) | rule, each seed | judge vs base | tokens | KL from base |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, runs in found.items():
        rule = marked(runs)
        low, high = rule["interval"]
        each = ", ".join(f"{np.mean(run['rule']):.3f}" for run in runs)
        judge, tokens, kl = (mean(runs, key) for key in ("judge", "tokens", "kl"))
        lines.append(
            f"| {name} | {runs[0]['eta']:g} | {rule['win_rate']:.3f} ({low:.3f} to {high:.3f}) | {each} "
            f"| {judge:.3f} | {tokens:.1f} | {kl:.2f} |"
        )
    return "\n".join(lines) + "\n"


def marked(runs: list[Run]) -> dict[str, Any]:
    """The rule's win rate over all prompts and seeds, with its interval."""
    return win_rate([rate for run in runs for rate in run["rule"]], seed=0)


def mean(runs: list[Run], key: str) -> float:
    """Over the seeds, of the last iteration."""
    return float(np.mean([run[key][-1] for run in runs]))


def draw(found: dict[str, list[Run]], path: Path) -> None:
    """The table's columns as bars."""
    names, rules = list(found), [marked(runs) for runs in found.values()]
    rates = np.array([rule["win_rate"] for rule in rules])
    spread = np.abs(np.array([rule["interval"] for rule in rules]).T - rates)
    panels: dict[str, Any] = {"rule vs base": rates}
    for label, key in (("judge vs base", "judge"), ("tokens", "tokens"), ("KL from base, nats", "kl")):
        panels[label] = [mean(runs, key) for runs in found.values()]
    figure = Figure(figsize=(10, 3))
    axes = figure.subplots(1, len(panels), sharey=True)
    for axis, (label, values) in zip(axes, panels.items(), strict=True):
        axis.barh(names, values, xerr=spread if label == "rule vs base" else None, color="tab:blue")
        axis.set_title(label)
        axis.grid(axis="x", alpha=0.3)
    axes[0].invert_yaxis()
    figure.tight_layout()
    FigureCanvasSVG(figure).print_svg(path, metadata={"Date": None})


if __name__ == "__main__":
    sys.exit(main())

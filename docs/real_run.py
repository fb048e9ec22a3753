"""Gathers docs/real-run, what is published of a run of the recipe smollm2-135m-instruct.

    python docs/real_run.py RUN_FOLDER [RUN_FOLDER ...]

In: the folder of the run to publish, then those of the same run with other seeds, which only the scores take in.
Out: index.md with command, versions, machine, time, scores, warnings and samples; report.json, report.html, curves.svg, and
pairs.jsonl.gz: all judged prompts with their win matrices.
"""

import gzip
import json
import os
import sys
from pathlib import Path
from statistics import fmean
from typing import Any

import matplotlib.pyplot as plt
import yaml

from sppo_ray.config import load_config
from sppo_ray.evaluation import degeneration
from sppo_ray.instructions import constraint_score, prompt_folder
from sppo_ray.instructions.__main__ import run_scores
from sppo_ray.preference import preference_probabilities
from sppo_ray.records import Judged
from sppo_ray.reporting.page import page
from sppo_ray.run_folder import Ledger

RECIPE, MODEL = "smollm2-135m-instruct", "HuggingFaceTB/SmolLM2-135M-Instruct"
OUT = Path(__file__).parent / "real-run"
CURVES = ("all", "all kinds trained", "all kinds held out", "all combinations held out", "content", "degenerate share")
MOST_BYTES = 1 << 20
EACH = 30  # pairs of an iteration on the page, by margin and by disagreement; all are in pairs.jsonl.gz


def main(folders: list[str]) -> None:
    if not folders:
        sys.exit((__doc__ or "").strip())
    ledgers = [Ledger(Path(folder).resolve()) for folder in folders]
    ledger, seeds = ledgers[0], [run_scores(ledger) for ledger in ledgers]
    OUT.mkdir(exist_ok=True)
    report = (ledger.root / "report.json").read_text("utf-8")
    for name, text in {"report.json": report, "report.html": page(ledger, EACH)}.items():
        (OUT / name).write_text(without_paths(text, ledger), "utf-8")
    (OUT / "pairs.jsonl.gz").write_bytes(gzip.compress(pairs(ledger).encode(), mtime=0))
    draw(seeds)
    parts = [facts(ledger), scores(seeds, ledgers), warnings(ledger), samples(ledger)]
    (OUT / "index.md").write_text(without_paths("\n".join(parts), ledger), "utf-8")
    size = sum(file.stat().st_size for file in OUT.iterdir())
    print(f"{OUT}: {size / 1024:.0f} KiB")
    if size > MOST_BYTES:
        sys.exit(f"that is over {MOST_BYTES // 1024} KiB: publish a run with fewer prompts")


def without_paths(text: str, ledger: Ledger) -> str:
    """Names in place of this machine's folders."""
    config = ledger.config()
    names = {config.policy.model: MODEL, str(prompt_folder()): "instructions", str(ledger.root): "RUN_FOLDER"}
    for path, name in names.items():
        text = text.replace(path, name)
    return text


def pairs(ledger: Ledger) -> str:
    config, lines = ledger.config().judge, []
    for number in range(1, len(ledger.reports()) + 1):
        for row in ledger.rows(Judged, number):
            matrix = preference_probabilities(row.comparisons, config.estimator, config.temperature).round(3).tolist()
            about = {"iteration": number, "prompt_id": row.prompt_id, "prompt": row.prompt, "responses": row.responses}
            lines.append(json.dumps(about | {"preferences": matrix, "chosen": row.chosen, "rejected": row.rejected}))
    return "\n".join(lines) + "\n"


def draw(seeds: list[list[dict[str, float]]]) -> None:
    """The mean over the runs as a line; each run as a dot."""
    figure, panels = plt.subplots(2, 3, figsize=(10, 5), sharex=True)
    for axis, name in zip(panels.flat, CURVES, strict=True):
        values = [[part[name] for part in run] for run in seeds]
        axis.plot([fmean(column) for column in zip(*values, strict=True)])
        for run in values:
            axis.plot(run, ".", color="gray")
        axis.set_title(name)
        axis.set_xticks(range(len(values[0])))
        axis.grid(alpha=0.3)
    figure.supxlabel("iteration (0 is the base)")
    figure.tight_layout()
    figure.savefig(OUT / "curves.svg", metadata={"Date": None})


def facts(ledger: Ledger) -> str:
    about: dict[str, Any] = yaml.safe_load((ledger.root / "config.yaml").read_text("utf-8"))
    ours, recipe = flat(ledger.config().model_dump(mode="json")), flat(load_config(RECIPE).model_dump(mode="json"))
    of_the_machine = ("policy.model", "prompts.source", "evaluation.prompts.source")
    changed = [f"{key}={ours[key]}" for key in ours if ours[key] != recipe.get(key) and key not in of_the_machine]
    cpu = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name"))
    seconds = [report["seconds"]["total"] for report in ledger.reports()]
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    return f"""# A published run

Made by `python docs/real_run.py`; [A real language model](../real-model.md) reads it.

- Command: `{" ".join(["python jobs/demo.py --recipe", RECIPE, *changed])}`, seed {ledger.config().seed}
- Time: {", ".join(f"{part / 60:.1f}" for part in seconds)} minutes for the iterations
- Machine: {os.cpu_count()} cores, {cpu.partition(": ")[2]}
- Versions: {versions}

[Page of the run](report.html), [report.json](report.json), [all judged prompts with their win matrices](pairs.jsonl.gz).

![Curves](curves.svg)
"""


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found = {}
    for key, value in tree.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def scores(seeds: list[list[dict[str, float]]], ledgers: list[Ledger]) -> str:
    """Means over the runs; then `all`, each run."""
    numbers = range(len(seeds[0]))
    head = ["base", *map(str, numbers[1:])]
    lines = ["## Scores", "", f"Held-out prompts; runs: {len(seeds)}, of which these are the means.", ""]
    lines += [f"| | {' | '.join(head)} |", "|---" * (len(head) + 1) + "|"]
    for name in seeds[0][0]:
        cells = [[run[number].get(name) for run in seeds] for number in numbers]
        shown = [f"{fmean(cell):.3f}" if None not in cell else "-" for cell in cells]
        lines.append(f"| {name} | {' | '.join(shown)} |")
    for ledger, run in zip(ledgers, seeds, strict=True):
        shown = [f"{part['all']:.3f}" for part in run]
        lines.append(f"| all, seed {ledger.config().seed} | {' | '.join(shown)} |")
    return "\n".join(lines) + "\n"


def warnings(ledger: Ledger) -> str:
    rows = [(row["iteration"], words) for row in ledger.reports() for words in row["diagnostics"]["warnings"]]
    shown = [f"- Iteration {number}: {words}" for number, words in rows] or ["None."]
    return "\n".join(["## Warnings of the diagnostics", "", *shown]) + "\n"


def samples(ledger: Ledger) -> str:
    """The first response to the first held-out prompt of each kind or combination, of the base and of the last policy."""
    last = {row.prompt_id: row for row in ledger.held_out(len(ledger.reports()))}
    lines = [
        "## Samples",
        "",
        "By rule: the first response to the first held-out prompt of each kind or combination.",
        "",
    ]
    for base in sorted(ledger.held_out(0), key=lambda row: row.prompt_id):
        if not base.prompt_id.endswith("-0"):
            continue
        lines += [f"**{base.prompt_id[:-2]}.** {base.prompt}", ""]
        for name, row in (("Base", base), ("Last", last[base.prompt_id])):
            answer = row.responses[0]
            wrong = degeneration(row.prompt, answer)
            lines += [
                f"{name}, constraint {constraint_score(row.prompt, answer) or 0:.2f}{f' ({wrong})' if wrong else ''}:",
                "",
            ]
            lines += ["````text", answer, "````", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    main(sys.argv[1:])

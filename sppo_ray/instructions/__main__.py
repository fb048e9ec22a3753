"""`python -m sppo_ray.instructions RUN_FOLDER`: what a run on checkable instructions learned, by kind of constraint.

In: the held-out responses and the policies in a run folder. Out: a table of mean scores and of the perplexity on a page of
prose, the base first and then each iteration.
"""

import sys
from collections import defaultdict
from pathlib import Path
from statistics import fmean

from rich import box
from rich.console import Console
from rich.table import Table

from sppo_ray.instructions import constraint_score, content_score
from sppo_ray.instructions.constraints import TRAINED
from sppo_ray.instructions.perplexity import page_perplexity
from sppo_ray.records import Candidates
from sppo_ray.run_folder import Ledger


def mean_scores(responses: list[Candidates]) -> dict[str, float]:
    """Mean scores by group of held-out prompts, which their ids name; then over groups, and of the content."""
    found = defaultdict(list)
    for row in responses:
        group = row.prompt_id.rpartition("-")[0]
        several = "all combinations held out" if "+" in group else "all kinds held out"
        known = group in {constraint.name for constraint in TRAINED}
        for answer in row.responses:
            score = constraint_score(row.prompt, answer) or 0.0
            for name in (group, "all kinds trained" if known else several, "all"):
                found[name].append(score)
            found["content"].append(content_score(row.prompt, answer))
    return {name: fmean(found[name]) for name in sorted(found, key=lambda name: name.startswith(("all", "content")))}


def main(folder: Path) -> None:
    ledger = Ledger(folder)
    parts = [mean_scores(part) for number in range(len(ledger.reports()) + 1) if (part := ledger.held_out(number))]
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("constraint", "base", *(f"iteration {number}" for number in range(1, len(parts)))):
        table.add_column(column, justify="left" if column == "constraint" else "right")
    for name in parts[0]:
        table.add_row(name, *(f"{part[name]:.3f}" for part in parts))
    snapshots = (ledger.snapshot(number) for number in range(1, len(parts)))
    models = [ledger.config().policy.model, *(snapshot.uri if snapshot else None for snapshot in snapshots)]
    table.add_row(
        "perplexity of a page", *(f"{page_perplexity(model):.2f}" if model else "removed" for model in models)
    )
    Console().print(table)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

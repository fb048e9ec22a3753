"""`python -m sppo_ray.instructions RUN_FOLDER`: what a run on checkable instructions learned, by kind of constraint.

In: the held-out responses and the policies in a run folder. Out: a table of mean scores, of degenerate answers, of lengths and of
the perplexity on a page of prose, the base first and then each iteration.
"""

import sys
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from sppo_ray.instructions.outcome import mean_scores
from sppo_ray.instructions.perplexity import page_perplexity
from sppo_ray.run_folder import Ledger


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

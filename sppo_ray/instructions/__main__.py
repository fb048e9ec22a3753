"""`python -m sppo_ray.instructions RUN_FOLDER`: what a run on checkable instructions learned, by kind of constraint.

In: the held-out responses and the policies in a run folder. Out: a table of mean scores, of degenerate answers, of lengths and of
the perplexity on a page of prose, the base first and then each iteration.
"""

import argparse
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from sppo_ray.errors import UserError
from sppo_ray.instructions.outcome import mean_scores
from sppo_ray.instructions.perplexity import page_perplexity
from sppo_ray.run_folder import Ledger


def run_scores(ledger: Ledger) -> list[dict[str, float]]:
    """Of the base and of each iteration: the mean scores, and the perplexity unless its policy has been removed."""
    base, found = ledger.config().policy.model, []
    for number in range(len(ledger.reports()) + 1):
        snapshot = ledger.snapshot(number)
        model = base if number == 0 else snapshot and snapshot.uri
        prose = {"perplexity of a page": page_perplexity(model)} if model else {}
        found.append(mean_scores(ledger.held_out(number)) | prose)
    return found


def main(folder: Path) -> None:
    parts = run_scores(Ledger(folder))
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("constraint", "base", *(f"iteration {number}" for number in range(1, len(parts)))):
        table.add_column(column, justify="left" if column == "constraint" else "right")
    for name in parts[0]:
        table.add_row(name, *(f"{part[name]:.3f}" if name in part else "removed" for part in parts))
    Console().print(table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser("python -m sppo_ray.instructions", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", metavar="RUN_FOLDER", type=Path)
    try:
        main(parser.parse_args().folder)
    except UserError as error:
        parser.error(str(error))

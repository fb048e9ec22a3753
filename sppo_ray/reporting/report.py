"""What came out of a run, for people and programs.

In: the ledger. Out: `report.json` of an iteration; of the run that, the page, the model cards, and the table at the end.
"""

import json
from collections import Counter
from dataclasses import asdict
from typing import Any

from rich import box
from rich.table import Table

from sppo_ray.evaluation import diagnose
from sppo_ray.reporting.cards import write_cards
from sppo_ray.reporting.page import write_page
from sppo_ray.run_folder import Ledger, files, read_usage


def iteration_report(
    ledger: Ledger,
    iteration: int,
    evaluation: dict[str, Any],
    seconds: dict[str, float],
    engines: dict[str, Any],
) -> dict[str, Any]:
    """The report of one iteration: what the evaluation, the clock, the training log and the diagnostics say.

    engines: what the coordinator says of them: process ids, what was lost, restarts of the trainer.
    """
    log = ledger.training_rows(iteration)
    losses = [
        row["loss"] for row in log if row["loss"] is not None
    ]  # None: not a finite number, and the step was skipped
    config = ledger.config()
    diagnostics = diagnose(
        ledger.scored(iteration),
        log,
        ledger.held_out(iteration),
        ledger.held_out(0),
        temperature=config.judge.temperature,
        orders=config.judge.orders,
        min_margin=config.training.min_margin,
        kept=ledger.kept(iteration),
    )
    return {
        "iteration": iteration,
        "win_rate_vs_base": None,
        "win_rate_vs_previous": None,
        "mean_response_tokens": None,
        **evaluation,
        "loss": {"first": losses[0], "last": losses[-1]},
        "pairs": sum(row["pairs"] for row in log),
        "steps": len(log),
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
        **engines,
        "set_aside": [asdict(prompt) for prompt in ledger.set_aside(iteration)],
        **_judge_usage(ledger),
        "diagnostics": diagnostics.row(),
    }


def _judge_usage(ledger: Ledger) -> dict[str, Any]:
    """What each judge that is asked questions has used since the iteration before."""
    used = {judge: Counter(total) for judge, total in read_usage(ledger.root).items()}
    for report in ledger.reports():
        for judge, before in report.get("judge_usage", {}).items():
            used[judge].subtract(before)
    return {"judge_usage": {judge: dict(numbers) for judge, numbers in used.items()}} if used else {}


def write_run_report(ledger: Ledger) -> dict[str, Any]:
    """Gather the finished iterations' reports into the run's report.json, report.html and model cards."""
    iterations = ledger.reports()
    report: dict[str, Any] = {"iterations": iterations, "prompts": _prompts(ledger)}
    rule = [row["rule_win_rate_vs_base"] for row in iterations if row.get("rule_win_rate_vs_base") is not None]
    if rule:
        report["playground"] = {"rule_win_rate_vs_base": rule}
    files.write_json(ledger.root / "report.json", report)
    write_page(ledger)
    write_cards(ledger)
    return report


def _prompts(ledger: Ledger) -> dict[str, Any]:
    """What was dropped, left out or cut when the prompts were read; empty in a run folder that does not say."""
    try:
        return dict(json.loads(files.read_bytes(ledger.prompt_report())))
    except FileNotFoundError:
        return {}


def run_warnings(report: dict[str, Any]) -> list[str]:
    """What the diagnostics of the iterations warn of, a line each."""
    return [
        f"warning, iteration {row['iteration']}: {words}"
        for row in report["iterations"]
        for words in row["diagnostics"].get("warnings", [])
    ]


def result_table(report: dict[str, Any]) -> Table:
    """The table at the end of a run: one row per iteration; win rates and lengths (tokens) are those on held-out prompts.

    kept: share of the update that the snapshot keeps, as a projection.
    """
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    columns = ["iteration", "vs base", "vs previous", "rule vs base", "tokens", "loss first", "last", "kept"]
    for column in [*columns, "sample s", "judge s", "train s", "advance s", "total s"]:
        table.add_column(column, justify="right", no_wrap=True)
    for row in report["iterations"]:
        seconds = row["seconds"]
        table.add_row(
            str(row["iteration"]),
            _number(row["win_rate_vs_base"], 3),
            _number(row["win_rate_vs_previous"], 3),
            _number(row.get("rule_win_rate_vs_base"), 3),
            _number(row["mean_response_tokens"], 1),
            f"{row['loss']['first']:.4g}",
            f"{row['loss']['last']:.4g}",
            _number((row["diagnostics"].get("kept") or {}).get("projection"), 2),
            *(f"{seconds[name]:.1f}" for name in ("generate", "judge", "train", "advance", "total")),
        )
    return table


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"

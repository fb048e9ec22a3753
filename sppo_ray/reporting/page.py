"""The page `report.html` of a run: curves, diagnostics and a browser of pairs in one static file that asks for nothing.

In: the ledger's reports, training logs and judged prompts. Out: HTML; what models wrote is escaped, and no policy of the
page would run it if it were not.
"""

import base64
import hashlib
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from sppo_ray.config import Config
from sppo_ray.reporting.charts import Chart, Series, line_chart, smoothed, thinned
from sppo_ray.reporting.pair_browser import EACH, browsed
from sppo_ray.run_folder import Ledger, files

# Of the diagnostics table: label, what it says, keys, format.
DIAGNOSTICS = (
    ("Prompts with a preference cycle", "a strict preference that comes round to itself among the candidates", "cycle_share", ".1%"),
    ("Position bias", "mean of c[i,j] + c[j,i], logits; above 0 the judge favours the left place", "position_bias", "+.3f"),
    ("Judge truncation", "comparisons in which the judge saw a cut text", "truncation_rate", ".1%"),
    ("Win rate against length", "mean correlation within a prompt, tokens", "length_correlation", "+.2f"),
    ("Judge confidence", "mean |P - 1/2| over all pairs of candidates", "judge_confidence", ".3f"),
    ("Confident wins", "P above 0.95 or below 0.05", "confident_share", ".1%"),
    ("Near-identical pairs", "different texts with nine words in ten in common, in order", "near_identical_pairs", "d"),
    ("Confident wins between those", "a judge that is sure here decides on noise", "confident_near_identical", ".1%"),
    ("Win rate of chosen", "median (5 % to 95 % of prompts)", "win_rate_chosen", ".2f"),
    ("Win rate of rejected", "median (5 % to 95 % of prompts)", "win_rate_rejected", ".2f"),
    ("KL from the previous policy", "nats per response, on the last quarter of the training log", "kl_previous", ".2f"),
    ("KL per token", "nats", "kl_previous_per_token", ".3f"),
    ("Sampler against trainer, mean |d|", "log-probabilities of the same tokens on the first batch, nats per token", "reference.mean_abs", ".4f"),
    ("95 % of tokens below", "|d|, nats", "reference.p95_abs", ".4f"),
    ("Signed mean", "trainer minus sampler, nats per token", "reference.mean", "+.4f"),
    ("KL(sampler || trainer)", "mean of e^d - 1 - d, nats per token", "reference.k3", ".2g"),
    ("Update kept, projection", "share of the update that the snapshot has, which is rounded", "kept.projection", ".3f"),
    ("Update kept, cosine", "between the update and what the snapshot has of it", "kept.cosine", ".3f"),
    ("Skipped optimizer steps", "the loss or its gradient was not a finite number", "skipped_steps", "d"),
    ("Prompts judged equal", "chosen and rejected are the same response", "equal_share", ".1%"),
    ("Pairs left out", "win rates differ by less than training.min_margin", "left_out_share", ".1%"),
    ("Responses set aside", "comparisons or log-probabilities that are not finite numbers", "responses_set_aside", "d"),
    ("Duplicate candidates", "texts that an earlier candidate of the prompt has", "duplicate_share", ".1%"),
    ("Length against the base", "held-out responses, mean tokens over the base's", "drift.length_ratio", ".2f"),
    ("Repetition", "token 4-grams of a held-out response that it has had before", "drift.repetition", ".1%"),
    ("Repetition of the base", "of its responses to the same prompts", "drift.base_repetition", ".1%"),
    ("Degenerate responses", "held-out, hardly any words, a loop, or the prompt given back", "drift.degenerate_share", ".1%"),
    ("Commonest sentence", "share of held-out responses that contain it", "drift.sentence_share", ".1%"),
)  # fmt: skip


def write_page(ledger: Ledger) -> None:
    """Write report.html for the iterations that are finished."""
    files.write_bytes(ledger.root / "report.html", page(ledger).encode())


def page(ledger: Ledger, each: int = EACH) -> str:
    """each: pairs of an iteration that it shows, by margin and by disagreement."""
    config, reports = ledger.config(), ledger.reports()
    environment = Environment(
        loader=PackageLoader("sppo_ray.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style, script = _packaged("report.css"), _packaged("report.js")
    return environment.get_template("report.html").render(
        title=ledger.root.name,
        facts=_facts(config, len(reports)),
        charts=run_charts(ledger, reports),
        results=results(reports),
        iterations=[report["iteration"] for report in reports],
        warnings=[(row["iteration"], words) for row in reports for words in row["diagnostics"].get("warnings", [])],
        diagnostics=[
            (label, help, [_format(_get(row["diagnostics"], key), form) for row in reports])
            for label, help, key, form in DIAGNOSTICS
        ],
        each=each,
        pairs=[pair for report in reports for pair in browsed(ledger, config, report["iteration"], each)],
        style=Markup(style),
        script=Markup(script),
        style_hash=_hash(style),
        script_hash=_hash(script),
    )


def run_charts(ledger: Ledger, reports: list[dict[str, Any]]) -> list[Chart]:
    """Win rates and lengths over the iterations, the loss over all steps; without what was not measured."""
    ticks = [report["iteration"] for report in reports]
    rates = [
        _series("judge, vs base", reports, "win_rate_vs_base", "win_rate_vs_base_interval"),
        _series("judge, vs base, length-controlled", reports, "lc_win_rate_vs_base", "lc_win_rate_vs_base_interval"),
        _series("judge, vs previous", reports, "win_rate_vs_previous", "win_rate_vs_previous_interval"),
        _series(
            "training judge, vs base",
            reports,
            "training_judge_win_rate_vs_base",
            "training_judge_win_rate_vs_base_interval",
        ),
        _series("rule, vs base", reports, "rule_win_rate_vs_base"),
    ]
    lengths = _series("held-out responses", reports, "mean_response_tokens")
    found = []
    if known := [one for one in rates if one.points]:
        found.append(line_chart("Win rate", "iteration", known, y_range=(0.0, 1.0), x_values=ticks))
    if lengths.points:
        base = lengths.points[0][1] / _get(reports[0]["diagnostics"], "drift.length_ratio")
        lengths = Series(lengths.name, [(0, base), *lengths.points])
        found.append(line_chart("Mean length, tokens", "iteration (0 is the base)", [lengths], x_values=[0, *ticks]))
    return found + ([_loss_chart(ledger, ticks)] if reports else [])


def _loss_chart(ledger: Ledger, iterations: list[int]) -> Chart:
    """The iterations' steps one after the other, with a mark where the next iteration begins."""
    losses: list[tuple[float, float]] = []
    ends: list[float] = [0]
    for iteration in iterations:
        rows = ledger.training_rows(iteration)
        losses += [(ends[-1] + n, row["loss"]) for n, row in enumerate(rows, 1) if row["loss"] is not None]
        ends.append(ends[-1] + len(rows))
    drawn = thinned(losses)
    mean = smoothed(drawn, reach=len(drawn) // 40)
    return line_chart(
        "Loss", "step", [Series("each step", drawn, dots=False), Series("mean", mean, dots=False)], marks=ends[1:-1]
    )


def results(reports: list[dict[str, Any]]) -> dict[str, Any]:
    """The numbers of the curves as a table."""
    columns: dict[str, list[str]] = {
        "Iteration": [str(row["iteration"]) for row in reports],
        "Win rate vs base": [_with_interval(row, "win_rate_vs_base") for row in reports],
        "LC vs base": [_with_interval(row, "lc_win_rate_vs_base") for row in reports],
        "vs previous": [_with_interval(row, "win_rate_vs_previous") for row in reports],
        "Training judge vs base": [_with_interval(row, "training_judge_win_rate_vs_base") for row in reports],
        "Rule vs base": [_format(row.get("rule_win_rate_vs_base"), ".3f") for row in reports],
        "Mean tokens": [_format(row["mean_response_tokens"], ".1f") for row in reports],
        "Loss": [f"{row['loss']['first']:.4g} → {row['loss']['last']:.4g}" for row in reports],
        "Seconds": [f"{row['seconds']['total']:.0f}" for row in reports],
    }
    # Few prompts have no LC win rate; without evaluation.judge there is one judge; outside the playground there is no rule.
    for name, key in (
        ("LC vs base", "lc_win_rate_vs_base"),
        ("Training judge vs base", "training_judge_win_rate_vs_base"),
        ("Rule vs base", "rule_win_rate_vs_base"),
    ):
        if all(row.get(key) is None for row in reports):
            del columns[name]
    return {"header": list(columns), "rows": list(zip(*columns.values(), strict=True))}


def _with_interval(report: dict[str, Any], key: str) -> str:
    """A win rate with its interval, for people: `0.723 (0.693 to 0.753)`."""
    if report.get(key) is None:
        return "–"
    low, high = report[f"{key}_interval"]
    return f"{report[key]:.3f} ({low:.3f} to {high:.3f})"


def _facts(config: Config, finished: int) -> list[str]:
    training = config.training
    return [
        f"recipe {config.recipe}",
        f"{finished} of {config.iterations} iterations",
        f"loss {training.loss}, eta {training.eta:g}, learning rate {training.learning_rate:g}",
        f"{config.generation.candidates} candidates a prompt, {config.judge.estimator} win rates",
        f"seed {config.seed}",
    ]


def _series(name: str, reports: list[dict[str, Any]], key: str, interval: str = "") -> Series:
    known = [report for report in reports if report.get(key) is not None]
    bounds = [tuple(report[interval]) for report in known] if interval else []
    return Series(name, [(report["iteration"], report[key]) for report in known], bounds)


def _get(tree: dict[str, Any], key: str) -> Any:
    """The value at a path such as `drift.repetition`; None where there is none."""
    name, _, rest = key.partition(".")
    value = tree.get(name)
    return _get(value, rest) if rest and value is not None else value


def _format(value: Any, form: str) -> str:
    """A number, or the quantiles of many."""
    if isinstance(value, dict):
        median, low, high = (format(value[q], form) for q in ("0.5", "0.05", "0.95"))
        return f"{median} ({low}–{high})"
    return "–" if value is None else format(value, form)


def _packaged(name: str) -> str:
    return resources.files("sppo_ray.reporting").joinpath("templates", name).read_text("utf-8")


def _hash(text: str) -> str:
    """As a content security policy names an inline script or style."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

"""The page of a run: what models wrote is text, nothing comes from outside, pairs are picked and placed by numbers."""

import io
import json
import math
import re
import shutil
import subprocess
from dataclasses import replace
from functools import partial

import pytest
from rich.console import Console

from sppo_ray.records import Judged
from sppo_ray.reporting.charts import Series, line_chart, smoothed, thinned
from sppo_ray.reporting.page import page, results, run_charts
from sppo_ray.reporting.pair_browser import browsed, disagreement, margin
from sppo_ray.reporting.report import iteration_report, result_table, run_warnings, write_run_report
from sppo_ray.run_folder import files, write_usage
from tests.run_folders import KEPT, candidates, judged, run_folder, training_row

SCRIPT, IMAGE = "<script>alert(1)</script>", "<img src=x onerror=alert(2)>"


@pytest.fixture
def ledger(tmp_path):
    return run_folder(tmp_path / "run <b>", [SCRIPT, IMAGE])


def test_model_output_is_escaped(ledger):
    html = page(ledger)
    assert SCRIPT not in html and IMAGE not in html and "<b>run" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "&lt;img src=x onerror=alert(2)&gt;" in html
    assert html.count("<script>") == 1


def test_the_page_asks_for_nothing_and_runs_only_its_own_script(ledger):
    html = page(ledger)
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', html).group(1)
    assert policy.startswith("default-src 'none';") and "unsafe" not in policy
    assert not re.search(r"(src|href)\s*=", html.replace("&lt;img src=x", ""))
    assert not re.search(r'\sstyle="', html)


def test_pairs_show_matrix_and_marks(ledger):
    (pair,) = browsed(ledger, ledger.config(), 1)
    assert pair["margin"] == pytest.approx(0.3176)
    assert pair["disagreement"] == pytest.approx(0.5)  # |1 + -0.5|
    # P = sigmoid(1 - -0.5)
    assert pair["matrix"][0] == pytest.approx([0.5, 0.8176], abs=1e-4)
    assert [response["mark"] for response in pair["responses"]] == ["chosen", "rejected"]
    assert '<td class="h8">0.82</td>' in page(ledger)


def test_margin_and_disagreement_of_a_prompt():
    sampled = candidates(["a", "b", "c"])
    plain = judged(sampled, [[0, 1, 2], [1, 0, 1], [-2, -1, 0]], [0.9, 0.5, 0.1])
    cycle = judged(sampled, [[0, -1, 1], [1, 0, -1], [-1, 1, 0]], [0.5, 0.5, 0.5])
    assert margin(plain) == pytest.approx(0.8)
    assert disagreement(plain) == 2.0
    assert disagreement(cycle) > 1000


def test_a_response_that_was_set_aside_and_a_skipped_step_are_shown_without_numbers(tmp_path):
    ledger = run_folder(tmp_path / "run", ["a", "b", "c"])
    nan = math.nan
    sampled = candidates(["a", "b", "c"])
    broken = judged(sampled, [[0, nan, 1], [nan, nan, nan], [-1, nan, 0]], [0.69, 0.0, 0.31])
    ledger.block(Judged, 1, 0).unlink()
    ledger.write([replace(broken, win_rates=[0.69, nan, 0.31], rejected=2)], Judged, ledger.block(Judged, 1, 0))
    rows = [*ledger.training_rows(1), training_row(3) | {"loss": None, "skipped": True}]
    files.write_json_lines(ledger.training_log(1), rows)
    ledger.write_report(1, ledger.report(1) | iteration_report(ledger, 1, {}, ledger.report(1)["seconds"], {}))
    (pair,) = browsed(ledger, ledger.config(), 1)
    assert pair["matrix"][1] == [None] * 3 and pair["responses"][1]["win_rate"] is None
    assert pair["disagreement"] == 0.0
    json.dumps(pair, allow_nan=False)
    html = page(ledger)
    assert "<b>2</b> set aside" in html and "<td>–</td>" in html and "nan" not in html
    assert ledger.report(1)["loss"] == {"first": 4.0, "last": 2.0}


def test_the_run_report_brings_page_cards_and_warnings(ledger):
    report = write_run_report(ledger)
    assert (ledger.root / "report.html").exists()
    assert (ledger.iteration(1) / "policy" / "README.md").exists()
    diagnostics = json.loads((ledger.root / "report.json").read_text())["iterations"][0]["diagnostics"]
    assert diagnostics["position_bias"] == pytest.approx(0.5)
    assert diagnostics["warnings"] == []
    assert diagnostics["kept"] == KEPT
    assert "<td>0.275</td>" in page(ledger) and "<td>0.462</td>" in page(ledger)
    assert [list(column.cells) for column in result_table(report).columns if column.header == "kept"] == [["0.28"]]
    console = Console(width=140, file=io.StringIO())
    console.print(result_table(report))
    assert "…" not in console.file.getvalue()  # no heading is cut
    report["iterations"][0]["diagnostics"]["warnings"] = ["length: too long"]
    assert run_warnings(report) == ["warning, iteration 1: length: too long"]


def test_a_report_counts_what_a_judge_has_used_since_the_one_before(ledger):
    write_usage(ledger.root, "ranker-0-a", {"judge": {"questions": 20, "usd": 0.5}})
    write_usage(ledger.root, "ranker-0-b", {"judge": {"questions": 10, "usd": 0.25}})
    again = partial(iteration_report, ledger, 1, {}, ledger.report(1)["seconds"], {})
    first = again()
    assert first["judge_usage"] == {"judge": {"questions": 30, "usd": 0.75}}
    ledger.write_report(1, ledger.report(1) | first)
    write_usage(ledger.root, "ranker-0-b", {"judge": {"questions": 15, "usd": 0.5}})
    assert again()["judge_usage"] == {"judge": {"questions": 5, "usd": 0.25}}


def test_a_chart_places_its_points():
    chart = line_chart("t", "x", [Series("a", [(1, 0.0), (3, 1.0)], [(0.0, 0.5), (0.5, 1.0)])], y_range=(0, 1))
    (line,) = chart.lines
    assert line.path == f"M{chart.left:g} {chart.bottom:g}L{chart.right:g} {chart.top:g}"
    assert line.whiskers.startswith(f"M{chart.left:g} {chart.bottom:g}L{chart.left:g} ")
    assert line.dots[0] == (chart.left, chart.bottom, "a, 1: 0 (0 to 0.5)")
    assert [label for _, label in chart.y_ticks] == ["0", "0.2", "0.4", "0.6", "0.8", "1"]
    assert [label for _, label in chart.x_ticks] == ["1", "2", "3"]


def test_long_lines_are_thinned_and_smoothed_by_means():
    assert thinned([(1, 1.0), (2, 3.0), (3, 5.0)], most=2) == [(1.5, 2.0), (3.0, 5.0)]
    assert smoothed([(1, 0.0), (2, 3.0), (3, 6.0)], reach=1) == [(1, 1.5), (2, 3.0), (3, 4.5)]


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Chromium: apt-get install chromium")
def test_a_browser_shows_hostile_text_and_does_not_run_it(tmp_path):
    hostile = "document.title='taken'"
    ledger = run_folder(tmp_path / "run", [f"<script>{hostile}</script>", f'<img src=x onerror="{hostile}">'])
    write_run_report(ledger)
    quiet = "--disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update"
    command = ["chromium", "--headless", "--no-sandbox", *quiet.split(), "--disable-sync"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", f"file://{ledger.root / 'report.html'}"]
    dom = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    assert "<title>run · SPPO report</title>" in dom
    assert '<form class="controls">' in dom  # its own script did run and showed the controls
    assert f"<pre>&lt;script&gt;{hostile}&lt;/script&gt;</pre>" in dom
    assert "<img" not in dom and dom.count("<svg") == 3


def test_win_rates_by_the_judge_that_trains_stand_beside_those_of_another(ledger):
    (report,) = ledger.reports()
    assert "Training judge vs base" not in results([report])["header"]
    report |= {"training_judge_win_rate_vs_base": 0.8, "training_judge_win_rate_vs_base_interval": [0.75, 0.85]}
    table = results([report])
    (row,) = table["rows"]
    found = dict(zip(table["header"], row, strict=True))
    assert found["Win rate vs base"] == "0.750 (0.700 to 0.800)"
    assert found["Training judge vs base"] == "0.800 (0.750 to 0.850)"
    assert "training judge, vs base" in [series.name for series in run_charts(ledger, [report])[0].lines]

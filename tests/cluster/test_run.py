"""The main job with every real component: vLLM, PairRM, Ray Data, Ray Train with ZeRO-3, the coordinator."""

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from jobs import sppo
from sppo_ray.preference import win_rates
from sppo_ray.run_folder import Ledger
from sppo_ray.run_folder.snapshots import verify
from tests import QUICK, SHARED

pytestmark = pytest.mark.usefixtures("cluster")

REAL_PROMPTS = SHARED / "data/prompts_real.jsonl"
PROMPTS = 22  # an iteration: two blocks, and a last batch of two pairs
OVERRIDES = [
    *QUICK,
    f"prompts.limit={PROMPTS}",
    "evaluation.prompts.limit=10",
    "evaluation.responses=2",
    "iterations=2",
]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two small iterations of the playground."""
    folder = tmp_path_factory.mktemp("runs") / "small"
    assert sppo.main(["--run-dir", str(folder), *OVERRIDES]) == 0
    return folder


@pytest.fixture(scope="module")
def report(root: Path) -> Any:
    return json.loads((root / "report.json").read_text())


def rows(root: Path, kind: str, iteration: int) -> list[dict[str, Any]]:
    return [
        row
        for file in sorted((root / f"iter-{iteration}" / kind).glob("*.parquet"))
        for row in pq.read_table(file).to_pylist()
    ]


@pytest.mark.parametrize("iteration", [1, 2])
def test_every_prompt_is_judged_once(root: Path, iteration: int) -> None:
    prompts = [prompt.prompt_id for prompt in Ledger(root).prompts(iteration)]
    judged = rows(root, "judged", iteration)

    assert len(prompts) == PROMPTS
    assert [row["prompt_id"] for row in judged] == prompts
    assert [row["prompt_id"] for row in rows(root, "candidates", iteration)] == prompts
    for row in judged:
        assert len(row["comparisons"]) == len(row["comparisons"][0]) == len(row["win_rates"]) == 5
        assert row["win_rates"] == pytest.approx(win_rates(row["comparisons"]).tolist(), abs=1e-6)
        assert row["chosen"] == max(range(5), key=row["win_rates"].__getitem__)
        assert row["snapshot"] == f"iter-{iteration - 1}"


def test_iterations_use_other_prompts(root: Path) -> None:
    first, second = ({row["prompt_id"] for row in rows(root, "judged", t)} for t in (1, 2))
    assert not first & second


def test_every_pair_is_trained_once(root: Path, report: Any) -> None:
    for iteration in (1, 2):
        log = [json.loads(line) for line in (root / f"iter-{iteration}" / "training.jsonl").read_text().splitlines()]
        assert [row["pairs"] for row in log] == [4, 4, 4, 4, 4, 2]
        assert [row["step"] for row in log] == [1, 2, 3, 4, 5, 6]
        assert log[0]["reference_mean_abs"] < 1e-2  # what the engine sampled is what the trainer's policy gives
        assert log[0]["learning_rate"] == 0 and log[1]["learning_rate"] == pytest.approx(1e-4)
        assert report["iterations"][iteration - 1]["loss"] == {"first": log[0]["loss"], "last": log[-1]["loss"]}


def test_the_engines_live_through_all_iterations(report: Any) -> None:
    pids = [row["engine_pids"] for row in report["iterations"]]
    assert pids[0] == pids[1]
    assert len(pids[0]["generators"]) == len(pids[0]["rankers"]) == 1


def test_each_iteration_publishes_a_policy_that_changed(root: Path) -> None:
    ledger = Ledger(root)
    weights = []
    for iteration in (1, 2):
        snapshot = ledger.snapshot(iteration)
        assert snapshot is not None
        verify(snapshot)
        network = AutoModelForCausalLM.from_pretrained(snapshot.uri)
        weights.append(network.model.layers[0].mlp.up_proj.weight.detach())
    assert not weights[0].equal(weights[1])


def test_the_report_has_what_others_rely_on(root: Path, report: Any) -> None:
    assert [row["iteration"] for row in report["iterations"]] == [1, 2]
    for row in report["iterations"]:
        assert 0 <= row["win_rate_vs_base"] <= 1 and 0 <= row["win_rate_vs_previous"] <= 1
        assert row["mean_response_tokens"] > 0
        assert {"generate", "judge", "train", "advance", "total"} <= set(row["seconds"])
        assert {"gather", "write", "digest", "trainer_end", "load"} <= set(row["seconds"])
    assert len(report["playground"]["rule_win_rate_vs_base"]) == 2
    written = yaml.safe_load((root / "config.yaml").read_text())
    assert written["config"]["prompts"]["limit"] == PROMPTS and "torch" in written["versions"]


def test_a_finished_run_is_not_run_again(root: Path, report: Any, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*.parquet")}
    assert sppo.main(["--run-dir", str(root), *OVERRIDES]) == 0
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*.parquet")} == before
    assert "continuing the run" in capsys.readouterr().out


@pytest.mark.skipif(not REAL_PROMPTS.exists(), reason="needs ../shared/data")
def test_real_prompts_go_through_the_whole_loop(tmp_path: Path) -> None:
    overrides = [f"prompts.source={REAL_PROMPTS}", "iterations=1", "prompts.limit=40", "evaluation.prompts.limit=10"]
    assert sppo.main(["--run-dir", str(tmp_path), *QUICK, *overrides]) == 0
    known = {json.loads(line)["prompt_id"] for line in REAL_PROMPTS.read_text().splitlines()}
    judged = [row["prompt_id"] for row in rows(tmp_path, "judged", 1)]
    assert len(set(judged)) == len(judged) == 40 and set(judged) <= known


def test_the_same_candidates_give_the_same_pairs_and_the_same_training(root: Path, tmp_path: Path) -> None:
    """What sampling leaves open (which tokens are drawn) is all that two runs of one seed may differ in."""
    again = tmp_path / "again"
    shutil.copytree(root / "iter-1" / "candidates", again / "iter-1" / "candidates")
    shutil.copytree(root / "iter-0" / "evaluation", again / "iter-0" / "evaluation")
    assert sppo.main(["--run-dir", str(again), *OVERRIDES[:-1], "iterations=1"]) == 0

    assert list(Ledger(again).prompts(1)) == list(Ledger(root).prompts(1))
    assert rows(again, "judged", 1) == rows(root, "judged", 1)
    assert Ledger(again).training_rows(1) == Ledger(root).training_rows(1)
    first, second = (load_file(folder / "iter-1/policy/model.safetensors") for folder in (root, again))
    assert all(first[name].equal(second[name]) for name in first)

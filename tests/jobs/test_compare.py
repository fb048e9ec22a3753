"""The comparison of objectives: what is tuned and kept, and the numbers that it is about. No run is started."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from jobs import compare
from sppo_ray.playground import Playground
from sppo_ray.records import Candidates
from sppo_ray.training.logprobs import token_logprobs


class Runs:
    """Stands where `sppo-ray run` stands; the judge likes an eta the more the nearer it is to 5, seeds by themselves differ."""

    def __init__(self) -> None:
        self.started: list[list[str]] = []

    def main(self, words: list[str]) -> int:
        self.started.append(words)
        return 0

    def outcome(self, _: Any) -> dict[str, Any]:
        settings = dict(word.split("=", 1) for word in self.started[-1][2:])
        eta, seed = float(settings["training.eta"]), int(settings["seed"])
        rule = [0.5 + seed / 10, 0.7 + seed / 10]
        return {"rule": rule, "judge": [0.9, 0.6 - abs(eta - 5) / 100], "tokens": [9.0, 12.0], "kl": [0.5 * seed]}


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    found = Runs()
    monkeypatch.setattr(compare.sppo, "main", found.main)
    monkeypatch.setattr(compare, "outcome", found.outcome)
    return found


def test_eta_is_tuned_by_the_judge_on_a_seed_of_its_own_and_no_run_is_repeated(
    runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--folder", str(tmp_path), "--seeds", "1,2", "--etas", "2,5,10"]
    assert compare.main(words) == 0
    each = 3 + 2
    assert len(runs.started) == each * len(compare.OBJECTIVES)
    first = [word for started in runs.started[:each] for word in started if word.startswith(("training.eta", "seed"))]
    tuning = ["training.eta=2", "seed=0", "training.eta=5", "seed=0", "training.eta=10", "seed=0"]
    assert first == [*tuning, "training.eta=5", "seed=1", "training.eta=5", "seed=2"]
    # 0.6 and 0.8, 0.7 and 0.9: 0.75 in the mean; KL 0.5 and 1.
    row = next(line for line in (tmp_path / "comparison.md").read_text().splitlines() if line.startswith("| INPO"))
    assert row.startswith("| INPO | 5 | 0.750 (") and row.endswith("| 0.700, 0.800 | 0.600 | 12.0 | 0.75 |")
    assert (tmp_path / "comparison.md").read_text().endswith("\n30 runs, 0 minutes one after the other.\n")
    assert "<svg" in (tmp_path / "comparison.svg").read_text()
    kept = json.loads((tmp_path / "REBEL-eta-5-seed-2.json").read_text())
    assert kept["settings"] == [*compare.SAME, "training.loss=rebel", "training.eta=5", "seed=2"]

    (tmp_path / "REBEL-eta-5-seed-2.json").unlink()
    del runs.started[:]
    assert compare.main(words) == 0
    assert [started[-1] for started in runs.started] == ["seed=2"]


def test_the_seeds_of_an_eta_with_a_point_are_kept_apart(runs: Runs, tmp_path: Path) -> None:
    for _ in range(2):
        assert compare.main(["--folder", str(tmp_path), "--seeds", "1,2", "--etas", "2.5"]) == 0
    assert len(runs.started) == 2 * len(compare.OBJECTIVES)


def test_runs_with_other_settings_are_not_taken_for_these(runs: Runs, tmp_path: Path) -> None:
    words = ["--folder", str(tmp_path), "--seeds", "1", "--etas", "5"]
    for count in (1, 2):
        assert compare.main([*words, f"iterations={count}"]) == 0
        assert len(runs.started) == count * len(compare.OBJECTIVES)


def test_kl_is_the_mean_log_ratio_of_the_policy_s_own_responses(playground: Playground) -> None:
    base = AutoModelForCausalLM.from_pretrained(playground.policy, dtype=torch.float32, attn_implementation="eager")
    prompt, responses = [2, 5, 6], [[7, 8], [9, 10, 11, 12]]
    logprobs = []
    for response in responses:
        ids = torch.tensor([prompt + response])
        with torch.no_grad():
            logprobs.append((token_logprobs(base(input_ids=ids).logits, ids)[0, 3:] + 0.5).tolist())
    sampled = Candidates("p", "", prompt, ["", ""], responses, logprobs, ["stop"] * 2, "iter-3")
    # Half a nat more per token than the base: 1 nat and 2 nats.
    assert compare.kl_from_base([sampled], str(playground.policy)) == pytest.approx(1.5, abs=1e-4)

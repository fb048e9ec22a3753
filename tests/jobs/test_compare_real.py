"""The baselines of the real model: what is chosen, kept and shown. No run is started."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from jobs import compare, compare_real
from sppo_ray.instructions import mean_scores
from tests.run_folders import candidates

SCORES = dict.fromkeys(compare_real.COLUMNS, 0.5) | {"tokens": 40.0, "perplexity": 22.0, "minutes": 3.0}


def test_rejection_fine_tuning_raises_the_likelihood_of_the_chosen_alone() -> None:
    chosen, rejected = (torch.tensor([2.0, -1.0], requires_grad=True) for _ in range(2))
    compare_real.likelihood(chosen, rejected, 20.0, None).sum().backward()
    assert chosen.grad is not None
    assert chosen.grad.tolist() == [-1.0, -1.0] and rejected.grad is None


def test_the_best_answer_is_the_judge_s() -> None:
    """DONE alone meets the constraint and says nothing; the third does both."""
    texts = ["They purr in the sun.", "DONE.", "They purr in the sun when they are glad. DONE"]
    row = replace(candidates(texts, prompt="ends-0"), prompt="Why do cats purr? End your answer with the word DONE.")
    assert compare_real.best(row).responses == [texts[2]]
    assert mean_scores([compare_real.best(row)])["all"] == 1.0


def test_each_way_runs_once_with_its_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(compare.sppo, "main", lambda words: started.append(words[4:]) or 0)
    outcome = {name: SCORES for name in ("base", "best of its answers")}
    monkeypatch.setattr(compare_real, "outcome", lambda _, way: outcome | {way: SCORES})
    words = ["dpo", "--folder", str(tmp_path), "policy.model=mine", "iterations=1"]
    for _ in range(2):
        assert compare_real.main(words) == 0
    assert started == [["training.loss=dpo", "training.eta=10", "seed=42", "policy.model=mine", "iterations=1"]]
    assert json.loads((tmp_path / "dpo-seed-42.json").read_text())["settings"] == started[0]
    lines = (tmp_path / "comparison.md").read_text().splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| base", "| best of its answers", "| dpo"]
    assert lines[4] == "| dpo" + " | 0.500" * 6 + " | 40.0 | 22.00 | 3.0 |"
    with pytest.raises(SystemExit):
        compare_real.main(["ppo"])
    assert "there is no way ppo; there are sppo, lora, dpo, rejection" in capsys.readouterr().err

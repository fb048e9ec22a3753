"""`jobs/evaluate.py` with real engines on the playground: outputs for AlpacaEval, chosen by the judge."""

import json
from pathlib import Path

import numpy as np
import pytest

from jobs import evaluate
from sppo_ray.playground import Playground, rule_score

INSTRUCTIONS = ["Say hello to Anna.", "What is the opposite of hot?", "Say hello to Anna."]


@pytest.mark.usefixtures("cluster")
def test_alpaca_answers_every_instruction_in_order(
    playground: Playground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SPPO_RAY_RUNS", str(tmp_path / "runs"))
    file, output = tmp_path / "eval_set.json", tmp_path / "model_outputs.json"
    file.write_text(
        json.dumps([{"instruction": text, "dataset": "koala", "output": "theirs"} for text in INSTRUCTIONS])
    )
    model = str(playground.policy)
    arguments = ["--model", model, "--output", str(output), "--best-of", "3", "--recipe", "playground"]
    rule = "evaluation.judge={kind: python, model: playground}"
    assert evaluate.main(["alpaca", str(file), *arguments, "--reference", str(file), rule]) == 0
    rows = json.loads(output.read_text())
    assert [row["instruction"] for row in rows] == INSTRUCTIONS
    assert all(row["output"] and row["output"] != "theirs" for row in rows)
    assert {row["generator"] for row in rows} == {f"{Path(model).name}-best-of-3"}
    assert {row["dataset"] for row in rows} == {"koala"}
    printed = json.loads(capsys.readouterr().out)
    assert printed["count"] == 3
    assert printed["mean_characters"] == sum(len(row["output"]) for row in rows) / 3
    assert not list((tmp_path / "runs").iterdir())  # the answers' folder is gone
    # What the rule says of each answer and of "theirs", by hand.
    won = [
        np.sign(rule_score(row["instruction"], row["output"]) - rule_score(row["instruction"], "theirs"))
        for row in rows
    ]
    assert printed["compared"]["win_rate"] == pytest.approx(np.mean(won) / 2 + 0.5)
    assert printed["compared"]["mean_characters"] == {"a": printed["mean_characters"], "b": len("theirs")}
    assert "Arena-Hard" in printed["boards"]

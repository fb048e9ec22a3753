"""What preparation says of the prompts: evaluation kept apart from training, and what was left out, up to report.json."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from sppo_ray.config import load_config
from sppo_ray.errors import RunFolderError
from sppo_ray.preparation import PromptReport, prepare, store_prompts
from sppo_ray.records import Prompt
from sppo_ray.reporting.report import write_run_report
from sppo_ray.run_folder import Ledger
from tests.prompts.tables import write
from tests.run_folders import run_folder


@pytest.mark.usefixtures("playground")
def test_training_leaves_out_what_the_evaluation_asks_and_counts_what_it_drops(tmp_path: Path) -> None:
    words = [*"abcde", "b", "", "long " * 300]
    training = write(tmp_path / "training.jsonl", [{"prompt_id": str(n), "prompt": w} for n, w in enumerate(words)])
    asked = write(tmp_path / "asked.jsonl", [{"prompt": "a"}, {"prompt": "z"}, {"prompt": "z"}])
    said: list[str] = []
    overrides = [f"prompts.source={training}", "prompts.skip_bad_rows=true", f"evaluation.prompts.source={asked}"]
    found = prepare(load_config("playground", overrides=[*overrides, "iterations=2"]), said.append)
    held_out, *iterations = [[prompt.text for prompt in part] for part in found.prompts]
    assert sorted(held_out) == ["a", "z"]
    assert sorted(text for part in iterations for text in part) == ["b", "c", "d", "e", "long " * 300]
    assert found.prompt_report == PromptReport(
        duplicates=2,
        evaluated=1,
        skipped=[f"{training}, line 7 is empty"],
        cut=1,
        formats=[
            f"{training}: column prompt, 7 prompts",
            f"{asked}: column prompt, 3 prompts",
        ],
    )
    for words_said in (
        "2 duplicate prompts dropped",
        "1 prompts left out of training",
        "1 prompts keep only",
        "line 7",
    ):
        assert any(words_said in line for line in said)


def test_what_was_left_out_is_in_the_report_of_the_run(tmp_path: Path) -> None:
    report = PromptReport(duplicates=2, evaluated=1, skipped=["a.jsonl, line 7 is empty"], cut=3, formats=["a.jsonl"])
    ledger = run_folder(tmp_path, ["a b c", "a"])
    store_prompts(ledger, [], report)
    write_run_report(ledger)
    assert json.loads((tmp_path / "report.json").read_text())["prompts"] == asdict(report)


def test_the_prompts_of_a_run_may_move_but_not_change(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "run")
    config = load_config("playground", overrides=["prompts.source=/data/a.jsonl"])
    moved = load_config("playground", overrides=["prompts.source=/elsewhere/a.jsonl"])
    prompts = [[Prompt("h", "Held out", [1])], [Prompt("a", "A", [2]), Prompt("b", "B", [3])]]
    assert ledger.claim(config, {})
    store_prompts(ledger, prompts)
    assert not ledger.claim(moved, {}) and ledger.config().prompts.source == "/elsewhere/a.jsonl"
    store_prompts(ledger, prompts)
    with pytest.raises(
        RunFolderError, match=r"the prompts of iteration 1 are not those that the run began with: restore"
    ):
        store_prompts(ledger, [prompts[0], prompts[1][:1]])

"""`sppo-ray check`: what a run would be given, without a cluster and without a trace in a run folder."""

import json
from pathlib import Path
from typing import Any

import pytest

from jobs import check, cli, sppo
from sppo_ray.config import load_config
from sppo_ray.playground import Playground
from sppo_ray.run_folder import Ledger

ROWS = ["What is tar?", "What is tar?", "", "long " * 600, "Say <end_of_turn> twice.", "Hello"]


@pytest.fixture
def source(tmp_path: Path, playground: Playground, monkeypatch: pytest.MonkeyPatch) -> str:
    for name in ("connect", "preflight", "start_pools"):
        monkeypatch.setattr(sppo, name, lambda *_, name=name: pytest.fail(f"the check went on to {name}"))
    file = tmp_path / "prompts.jsonl"
    file.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in ROWS))
    return f"prompts.source={file}"


def test_the_result_as_json(source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """4 distinct prompts: one held out, three to train on; one of the four is 600 words long."""
    overrides = [
        source,
        "prompts.skip_bad_rows=true",
        "evaluation.prompts=null",
        "evaluation.held_out=1",
        "iterations=2",
    ]
    arguments = ["--json", *overrides, "--run-dir", str(tmp_path / "run")]
    assert sppo.main(["--check", *arguments]) == 0
    out, err = capsys.readouterr()
    found: dict[str, Any] = json.loads(out)
    assert [found[key] for key in ("iterations", "held_out", "duplicates", "cut")] == [[1, 2], 1, 1, 1]
    (row,) = found["skipped"]
    assert "line 3" in row and "1 duplicate prompts dropped" in err
    first = found["first"]
    (message,) = first["messages"]
    assert message["role"] == "user" and message["content"] == first["judge_text"] in ROWS
    words = message["content"].strip()
    assert first["rendered"] == f"<bos><start_of_turn>user\n{words}<end_of_turn>\n<start_of_turn>model\n"
    assert first["token_ids"][:2] == [2, 4] and first["token_ids"].count(5) == 1
    assert not (tmp_path / "run").exists()
    assert cli.main(["check", *arguments]) == 0
    assert json.loads(capsys.readouterr().out) == found


def test_the_result_for_people(source: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert check.main([source, "prompts.skip_bad_rows=true", "evaluation.prompts=null", "iterations=1"]) == 0
    out = capsys.readouterr().out
    for words in (
        "column prompt, 5 prompts",
        "1 duplicate prompts dropped",
        "1 prompts keep only their last 512 tokens",
        "line 3 is empty",
        "prompts of each iteration: 4; held out: 0",
        "rendered by the chat template: '<bos><start_of_turn>user",
        "token ids: 2 4 ",
        "shown to the judge: ",
        "sampling stops at token ids: 1 5",
    ):
        assert words in out


@pytest.mark.parametrize(
    "override", ["policy.model=/nowhere", "judge.model=/nowhere", "prompts.source=/nowhere", "sed=1"]
)
def test_a_fault_of_the_input_is_exit_status_2(override: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert check.main(["--json", override]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.splitlines()[-1].startswith("error: ")


@pytest.mark.usefixtures("playground")
def test_an_existing_run_folder_is_compared_and_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Ledger(tmp_path).claim(load_config(overrides=["iterations=1"]), {})
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert check.main(["--run-dir", str(tmp_path), "iterations=1"]) == 0
    assert check.main(["--run-dir", str(tmp_path), "iterations=1", "training.eta=7"]) == 2
    assert "training.eta: 5.0 there, 7.0 now" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before

"""The main job on bad input: exit status 2 and a message that names the file, row or key, before any engine starts."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from jobs import sppo
from sppo_ray.playground import Playground


@pytest.fixture
def errors(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs the job and gives its error message; the job must not get as far as the cluster."""
    monkeypatch.setattr(sppo, "connect", lambda: pytest.fail("the job went on to the cluster"))

    def run(*arguments: str) -> str:
        assert sppo.main(["--run-dir", str(tmp_path / "run"), *arguments]) == 2
        return capsys.readouterr().err

    return run


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, ["no such file"]),
        (b"", ["empty"]),
        (b'{"question_text": "hi", "n": 1}\n', ["column", "question_text"]),
        (b'{"prompt": "hi"}\n{"prompt": ""}\n{"prompt": 5}\n', ["2 of 3 rows", "line 2", "line 3", "skip_bad_rows"]),
        (b'{"prompt": "hi"}\n{"prompt": \n', ["line 2", "JSON"]),
        (b'{"prompt": "caf\xe9"}\n', ["UTF-8"]),
        (json.dumps({"prompt": "word " * 30_000}).encode() + b"\n", ["context", "3"]),
    ],
)
def test_prompts_that_cannot_be_used(errors: Any, tmp_path: Path, content: bytes | None, words: list[str]) -> None:
    file = tmp_path / "prompts.jsonl"
    if content is not None:
        file.write_bytes(content)
    message = errors(f"prompts.source={file}", "iterations=1")
    for word in words:
        assert word.lower() in message.lower()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["generation.candidates=1"], ["generation.candidates is 1", "at least 2"]),
        (["--recipe", "playgrund"], ["playgrund", "did you mean playground"]),
        (["trainin.eta=1"], ["trainin", "did you mean training"]),
        (["training.etta=1"], ["did you mean training.eta"]),
        (["--config", "nowhere.yaml"], ["nowhere.yaml", "no such file"]),
        (["policy.model=/nowhere/model"], ["/nowhere/model"]),
        (["judge.model=/nowhere/judge"], ["/nowhere/judge"]),
    ],
)
def test_settings_that_cannot_be_used(errors: Any, arguments: list[str], words: list[str]) -> None:
    message = errors(*arguments)
    for word in words:
        assert word in message


def test_a_judge_that_is_not_a_pairrm_checkpoint(errors: Any, playground: Playground) -> None:
    message = errors(f"judge.model={playground.policy}")
    assert str(playground.policy) in message and "PairRM" in message


def test_a_model_without_a_chat_template(errors: Any, playground: Playground, tmp_path: Path) -> None:
    model = shutil.copytree(playground.policy, tmp_path / "model")
    settings = json.loads((model / "tokenizer_config.json").read_text())
    del settings["chat_template"]
    (model / "tokenizer_config.json").write_text(json.dumps(settings))
    message = errors(f"policy.model={model}")
    assert str(model) in message and "chat template" in message


def test_duplicate_prompts_are_dropped_and_counted(
    errors: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text('{"prompt": "one"}\n{"prompt": "two"}\n{"prompt": "one"}\n')
    monkeypatch.setattr(sppo, "connect", lambda: (_ for _ in ()).throw(sppo.UserError("stop here")))
    assert sppo.main(["--run-dir", str(tmp_path / "run"), f"prompts.source={file}", "iterations=1"]) == 2
    assert "1 duplicate prompts dropped" in capsys.readouterr().out


def test_a_run_folder_of_another_configuration(errors: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sppo, "connect", lambda: (_ for _ in ()).throw(sppo.UserError("stop here")))
    assert "stop here" in errors("seed=1")
    message = errors("seed=2")
    assert "another configuration" in message and "seed: 1 there, 2 now" in message


@pytest.mark.usefixtures("cluster")
def test_more_trainers_than_the_cluster_holds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    overrides = ["placement=auto", "training.workers=64", "training.batch_size=64", "training.cpus=1"]
    assert sppo.main(["--run-dir", str(tmp_path / "run"), *overrides]) == 2
    out, err = capsys.readouterr()
    assert "64 for training.workers = 64" in err
    assert "placement: disaggregated, 64 train workers, 1 generators, 1 rankers" in out

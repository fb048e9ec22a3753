"""The evaluation job without a cluster: its output is checked before anything is sampled, its answers are kept."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from actors import engines
from actors.cluster import connection
from jobs import evaluate
from sppo_ray import preparation
from sppo_ray.config import load_config
from sppo_ray.errors import StorageError
from sppo_ray.playground import Playground
from tests.prompts.tables import write


@pytest.mark.parametrize("output", ["folder", "file/model_outputs.json", "model_outputs.json"])
def test_output_that_cannot_be_written_is_said_before_anything_is_sampled(
    playground: Playground,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    output: str,
) -> None:
    monkeypatch.setattr(evaluate, "cluster", lambda setup: pytest.fail("the job went on to the cluster"))
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    name = "half \ud83d" if output == "model_outputs.json" else "mine"  # a name that is not UTF-8, as Python reads it
    arguments = ["--model", str(playground.policy), "--output", str(tmp_path / output), "--name", name]
    source = write(tmp_path / "asked.jsonl", [{"instruction": "Say hello."}])
    assert evaluate.main(["alpaca", source, "--recipe", "playground", *arguments]) == 2
    assert f"--output {tmp_path / output} cannot be written" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["asked.jsonl", "file", "folder"]


def test_what_an_evaluation_leaves_out_or_cuts_is_said(
    playground: Playground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(evaluate, "cluster", lambda setup: (_ for _ in ()).throw(StorageError("stop here")))
    prompts = write(tmp_path / "asked.jsonl", [{"prompt": text} for text in ("Hi", "Hi", " ", "long " * 300)])
    held_out = [f"evaluation.prompts={{source: {prompts}, skip_bad_rows: true}}"]
    assert evaluate.main(["best-of", str(playground.policy), "--recipe", "playground", *held_out]) == 1
    said = capsys.readouterr().err
    assert "1 duplicate prompts dropped" in said and f"left out: {prompts}, line 3 is empty" in said
    assert "1 prompts keep only their last" in said


@pytest.fixture
def setup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(connection, "connect", lambda: "")
    monkeypatch.setattr(engines, "most_resources", dict)
    monkeypatch.setattr(preparation, "check_cluster", lambda config, resources: None)
    return SimpleNamespace(config=load_config(), ledger=SimpleNamespace(root=tmp_path))


def test_answers_are_kept_when_what_follows_fails(setup: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(StorageError), evaluate.cluster(setup) as folder:
        write(folder / "candidates/00000.parquet", [{"answer": "Hello"}])
        raise StorageError("no space is left")
    assert (folder / "candidates/00000.parquet").is_file()
    assert f"the answers so far are kept in {folder}" in capsys.readouterr().err


def test_the_folder_of_answers_goes_when_they_are_written_or_there_are_none(setup: Any, tmp_path: Path) -> None:
    with evaluate.cluster(setup) as folder:
        write(folder / "candidates/00000.parquet", [{"answer": "Hello"}])
    with pytest.raises(StorageError), evaluate.cluster(setup) as folder:
        folder.mkdir()
        raise StorageError("no space is left")
    assert list(tmp_path.iterdir()) == []

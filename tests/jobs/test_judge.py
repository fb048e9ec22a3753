"""`sppo-ray judge`: a file of prompts and responses through any judge, and the report on one or two."""

import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest

from jobs import cli
from tests.judging.endpoint import Endpoint, serving
from tests.prompts.tables import write

JUDGES = """
def length(prompt, responses):
    return [float(len(response)) for response in responses]

def brevity(prompt, responses):
    return [-score for score in length(prompt, responses)]

def fails(prompt, responses):
    raise RuntimeError("no words")
"""
ROWS = [
    {"prompt": "p", "responses": ["a", "bbb", "cc"]},
    {"prompt": [{"role": "user", "content": "q"}], "responses": ["dd", "d"]},
    {"prompt": "r", "responses": ["e", "ffff", "ee"]},
]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "my_judges.py").write_text(JUDGES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    sys.modules.pop("my_judges", None)


def run(
    capsys: pytest.CaptureFixture[str], *arguments: str, kind: str = "python", model: str = "my_judges:length"
) -> Any:
    status = cli.main(["judge", *arguments, f"judge.kind={kind}", f"judge.model={model}"])
    out, err = capsys.readouterr()
    return status, json.loads(out) if status == 0 else err


def test_a_file_is_judged_in_its_order(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, report = run(capsys, write(folder / "asked.jsonl", ROWS), "--output", "out.jsonl", "block=2")
    assert status == 0
    rows = [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]
    assert [(row["prompt"], row["responses"]) for row in rows] == [
        ("p", ["a", "bbb", "cc"]),
        ("q", ["dd", "d"]),
        ("r", ["e", "ffff", "ee"]),
    ]
    assert [(row["chosen"], row["rejected"], row["truncated"]) for row in rows] == [
        (1, 0, 0.0),
        (0, 1, 0.0),
        (1, 0, 0.0),
    ]
    assert rows[1]["comparisons"] == [[0.0, 0.5], [-0.5, 0.0]]
    assert rows[1]["win_rates"] == pytest.approx([(0.5 + 1 / (1 + math.exp(-1))) / 2, (0.5 + 1 / (1 + math.e)) / 2])
    (about,) = report["judges"]
    assert (report["prompts"], about["comparisons"], about["intransitive_triples"]) == (3, 6 + 2 + 6, 0.0)
    assert about["comparisons_per_second"] > 0 and "agreement" not in report


def test_two_judges_are_compared(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = "evaluation.judge={kind: python, model: 'my_judges:brevity'}"
    status, report = run(capsys, write(folder / "asked.json", ROWS), other)
    assert status == 0
    assert [about["judge"] for about in report["judges"]] == ["my_judges:length", "my_judges:brevity"]
    assert (report["agreement"]["pairs"], report["agreement"]["agreement"]) == (7, 0.0)
    row = json.loads((folder / "judged.jsonl").read_text().splitlines()[0])
    assert (row["chosen"], row["evaluation_chosen"]) == (1, 0)


def test_what_an_endpoint_charges_is_in_the_report(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By hand: 6 + 2 + 6 questions of 100 tokens and an answer of 1, at 2 and 50 dollars per million."""
    with serving(Endpoint(lambda *_: {"A": 0.9, "B": 0.1})) as url:
        settings = [f"judge.endpoint={url}", "judge.price={input: 2, output: 50}"]
        status, report = run(capsys, write(folder / "asked.jsonl", ROWS), *settings, kind="llm", model="m")
    assert status == 0
    used = {"questions": 14, "retries": 0, "unreadable": 0, "refused": 0, "input_tokens": 1400, "output_tokens": 14}
    assert report["judges"][0]["usage"] == pytest.approx({**used, "usd": 14 * (200 + 50) / 1e6})
    assert report["judges"][0]["position_bias"] == pytest.approx(2 * math.log(9), abs=1e-4)  # it always says A


@pytest.mark.parametrize(
    "rows, status, words",
    [
        ([{"prompt": "p"}], 2, "give it `prompt` and `responses`"),
        ([ROWS[0], {"prompt": "p", "responses": ["a"]}], 2, "line 2: 'responses' is not a list of two texts or more"),
        ([ROWS[0], {"prompt": " ", "responses": ["a", "b"]}], 2, "line 2"),
        ([{"prompt": "p", "responses": ["a", 3]}], 2, "line 1"),
    ],
)
def test_rows_that_cannot_be_judged_are_named(
    folder: Path, capsys: pytest.CaptureFixture[str], rows: list[dict[str, Any]], status: int, words: str
) -> None:
    found, err = run(capsys, write(folder / "asked.jsonl", rows))
    assert found == status and words in err
    assert not (folder / "judged.jsonl").exists()


def test_a_judge_that_fails_or_is_not_there_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    file = write(folder / "asked.jsonl", ROWS)
    status, err = run(capsys, file, model="my_judges:fails")
    assert status == 1 and "my_judges:fails, prompt 'p': RuntimeError: no words" in err
    assert run(capsys, file, model="nowhere:f")[0] == 2
    status, err = run(capsys, file, "rankers.gpus=1")
    assert status == 2 and "rankers.gpus=0 judges on its CPU" in err

"""AlpacaEval's files: instructions read in their order, outputs in its format, lengths as the leaderboard counts them."""

import json
import subprocess
import sys
from datetime import date
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import evaluate
from sppo_ray.errors import PromptError
from sppo_ray.evaluation.alpaca import Instruction, model_outputs, read_instructions, read_reference, summarize

EVAL_SET = [
    {"instruction": "Who?", "output": "theirs", "generator": "text_davinci_003", "dataset": "helpful_base"},
    {"instruction": "Why?", "output": "theirs", "generator": "text_davinci_003", "dataset": "koala"},
    {"instruction": "Who?", "output": "theirs", "generator": "text_davinci_003", "dataset": "vicuna"},
]


def write(folder: Path, name: str, content: object) -> Path:
    file = folder / name
    file.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    return file


def test_the_eval_set_is_read_in_its_order_with_its_duplicates(tmp_path):
    file = write(tmp_path, "alpaca_eval.json", EVAL_SET)
    expected = [Instruction(row["instruction"], {"dataset": row["dataset"]}) for row in EVAL_SET]
    assert read_instructions(str(file)) == expected


@pytest.mark.parametrize(
    "name, content",
    [
        ("mine.jsonl", '{"instruction": "Who?"}\n{"instruction": "Why?"}\n'),
        ("mine.json", '{"prompt": "Who?"}\n{"prompt": "Why?"}\n'),
        ("mine.csv", "instruction\nWho?\nWhy?\n"),
    ],
)
def test_other_kinds_of_file_are_data_sets_of_their_own(tmp_path, name, content):
    found = read_instructions(str(write(tmp_path, name, content)))
    assert found == [Instruction("Who?", {"dataset": "mine"}), Instruction("Why?", {"dataset": "mine"})]


def test_a_turn_alone_is_an_instruction(tmp_path):
    """Arena-Hard 0.1."""
    rows = [{"question_id": "q1", "cluster": "c", "turns": [{"content": "Who?"}]}]
    found = read_instructions(str(write(tmp_path, "question.jsonl", "\n".join(map(json.dumps, rows)))))
    assert found == [Instruction("Who?", {"question_id": "q1", "cluster": "c", "dataset": "question"})]


ASKED = [Instruction("Who?", {"uid": "1"}), Instruction("Why?", {"uid": "2"}), Instruction("Who?", {"uid": "3"})]
ARENA = [
    {"uid": uid, "messages": [{"role": "user", "content": "-"}, {"role": "assistant", "content": content}]}
    for uid, content in (("3", {"answer": "c"}), ("1", {"thought": "hm", "answer": "a"}), ("2", "b"))
]


@pytest.mark.parametrize(
    "rows",
    [
        [{"instruction": text, "output": answer} for text, answer in (("Who?", "a"), ("Who?", "c"), ("Why?", "b"))],
        ARENA,
        [{"question_id": uid, "choices": [{"turns": [{"content": text}]}]} for uid, text in ("2b", "1a", "3c")],
    ],
)
def test_answers_of_another_model_are_found_by_id_or_text(tmp_path, rows):
    asked = ASKED
    if "question_id" in rows[0]:
        asked = [Instruction(one.text, {"question_id": one.row["uid"]}) for one in asked]
    assert read_reference(write(tmp_path, "theirs.json", rows), asked) == ["a", "b", "c"]


@pytest.mark.parametrize(
    "rows, words",
    [
        ([{"instruction": "Who?", "output": "a"}], "has no answer to 'Why\\?'"),
        ([{"instruction": "Who?", "output": None}], "row 1 holds no answer: AlpacaEval's rows"),
    ],
)
def test_an_answer_that_is_missing_is_named(tmp_path, rows, words):
    with pytest.raises(PromptError, match=words):
        read_reference(write(tmp_path, "theirs.json", rows), ASKED)


@pytest.mark.parametrize(
    "row, expected",
    [
        # An annotator is shown the instruction only, so that its input has to be in it.
        ({"instruction": "Classify.", "input": "Trout"}, Instruction("Classify.\n\nTrout", {"dataset": "mine"})),
        ({"instruction": "Who?", "input": "", "dataset": None}, Instruction("Who?", {"dataset": "mine"})),
        ({"prompt": [{"role": "user", "content": "Who?"}]}, Instruction("Who?", {"dataset": "mine"})),
        ({"instruction": "Who?", "score": float("nan")}, Instruction("Who?", {"score": None, "dataset": "mine"})),
    ],
)
def test_an_instruction_is_read_whole(tmp_path, row, expected):
    assert read_instructions(str(write(tmp_path, "mine.json", [row]))) == [expected]


def test_other_columns_of_any_type_become_json(tmp_path):
    row = {"instruction": "Who?", "day": date(2026, 1, 2), "score": Decimal("1.5"), "key": b"\x89PNG"}
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "mine.parquet")
    asked = read_instructions(str(tmp_path / "mine.parquet"))
    assert asked[0].row == {"day": "2026-01-02", "score": "1.5", "key": "iVBORw==", "dataset": "mine"}
    json.dumps(model_outputs(asked, ["Me"], "model"), allow_nan=False)


def test_outputs_keep_the_instruction_and_the_data_set(tmp_path):
    asked = read_instructions(str(write(tmp_path, "alpaca_eval.json", EVAL_SET)))
    rows = model_outputs(asked, ["a", "b", "c"], "SPPO-Iter3")
    assert rows[1] == {"instruction": "Why?", "output": "b", "generator": "SPPO-Iter3", "dataset": "koala"}
    assert [row["output"] for row in rows] == ["a", "b", "c"]


@pytest.mark.parametrize(
    "content, words",
    [
        ([{"question": "Who?"}], ["no column 'instruction'", "question", "--column"]),
        ([{"instruction": "Who?"}, {"instruction": " "}, {"instruction": 3}], ["row 2, row 3: row 2 is empty"]),
        ([{"instruction": "Who?", "key": "half \ud83d"}], ["row 1, column 'key' cannot be written as JSON"]),
        ([{"instruction": "Who?", "system": "Be brief"}], ["row 1 has 2 turns"]),
        ([{"instruction": "Who?", "image": "a.png"}], ["row 1 has a value in column 'image'"]),
        ("[]", ["no column"]),
        ("[1]", ["row 1 is a int"]),
        ('[{"instruction": "Who?"},', ["line 1", "JSON"]),
        ("", ["is empty"]),
    ],
)
def test_instructions_that_cannot_be_used(tmp_path, content, words):
    with pytest.raises(PromptError) as raised:
        read_instructions(str(write(tmp_path, "bad.json", content)))
    assert all(word in str(raised.value) for word in words), raised.value


def test_lengths_are_code_points_as_the_leaderboard_counts_them(tmp_path):
    """pandas' str.len().mean(), cut to a whole number for avg_length: (3 + 6 + 1) / 3; escapes are one character."""
    outputs = ["abc", "héllo\U0001f600", "\n"]
    file = write(tmp_path, "model_outputs.json", [{"instruction": "?", "output": text} for text in outputs])
    assert "\\ud83d" in file.read_text()
    assert summarize(file) == {"count": 3, "mean_characters": pytest.approx(10 / 3), "avg_length": 3}


@pytest.mark.parametrize(
    "name, content",
    [
        ("a.json", [{"output": "ab"}, {"output": "abcd"}]),
        ("a.jsonl", '{"output": "ab"}\n\n{"output": "abcd"}\n'),
        ("a.csv", "instruction,output\nx,ab\ny,abcd\n"),
        ("a.tsv", "instruction\toutput\nx\tab\ny\tabcd\n"),
        ("a.json", '\ufeff[{"output": "ab"}, {"output": "abcd"}]'),
    ],
)
def test_any_such_file(tmp_path, name, content):
    assert summarize(write(tmp_path, name, content)) == {"count": 2, "mean_characters": 3.0, "avg_length": 3}


def test_a_row_without_an_output_counts_and_has_no_length(tmp_path):
    """As pandas takes it; an empty output has the length 0."""
    file = write(tmp_path, "a.json", [{"output": None}, {"output": ""}, {"output": "abcd"}])
    assert summarize(file) == {"count": 3, "mean_characters": 2.0, "avg_length": 2}


@pytest.mark.parametrize(
    "content, words",
    [
        (None, "cannot be read"),
        ("", "no row has an `output`"),
        ("[]", "no row has an `output`"),
        ("{", "not JSON"),
        ("[1, 2]", "not a list of objects"),
        ([{"instruction": "Who?"}], "no row has an `output`"),
        ([{"output": "a"}, {"output": 5}], "row 2"),
    ],
)
def test_files_without_outputs_end_with_status_2(tmp_path, capsys, content, words):
    file = tmp_path / "absent.json" if content is None else write(tmp_path, "bad.json", content)
    assert evaluate.main(["summarize", str(file)]) == 2
    message = capsys.readouterr().err
    assert words in message and str(file) in message


def test_summarize_prints_json_and_imports_nothing_heavy(tmp_path):
    file = write(tmp_path, "model_outputs.json", [{"output": "abcd"}])
    code = (
        "import sys; from jobs.evaluate import main; status = main(sys.argv[1:]); "
        "heavy = {'ray', 'torch', 'datasets', 'transformers'} & set(sys.modules); "
        "sys.exit(f'imported {heavy}' if heavy else status)"
    )
    done = subprocess.run([sys.executable, "-c", code, "summarize", str(file)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"count": 1, "mean_characters": 4.0, "avg_length": 4}

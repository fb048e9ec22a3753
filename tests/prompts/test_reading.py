"""Prompt sources: every kind reads alike, bad ones are named, the split into iterations depends on the seed alone."""

import json
import random
from hashlib import sha256
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sppo_ray.config import PromptSource
from sppo_ray.errors import PromptError
from sppo_ray.prompts import iteration_prompts, read_prompts, sources
from tests import SHARED

REAL = SHARED / "data/prompts_real.jsonl"
ODD = [
    "None",
    "NA",
    "123",
    "a \x00 zero",
    "emoji 👩‍👩‍👧",
    "שלום",
    'a "quote", a comma',
    "two\nlines",
    "sep\u2028arator",
    " x ",
]


def write(path: Path, rows: list) -> str:
    """The rows in the kind that the file's ending says."""
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".csv":
        quoted = [[str(value).replace('"', '""') for value in row.values()] for row in rows]
        lines = [",".join(rows[0]), *('"' + '","'.join(row) + '"' for row in quoted)]
        path.write_text("\n".join(lines) + "\n", "utf-8")
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(path)


def read(source: str, **settings):
    return read_prompts(PromptSource(source=source, **settings), seed=42)


def texts(prompts) -> list[str]:
    return sorted(prompt.text for prompt in prompts)


def numbered(n: int, start: int = 0) -> list[dict]:
    return [{"prompt_id": f"p{i:03}", "prompt": f"Prompt {i}"} for i in range(start, start + n)]


@pytest.fixture
def snorkel(tmp_path) -> str:
    """The shape of snorkelai/Snorkel-Mistral-PairRM-DPO-Dataset: splits train_iteration_1..3."""

    def row(i: int) -> dict:
        turns = [{"role": "user", "content": f"Prompt {i}"}, {"role": "assistant", "content": "Yes."}]
        return {
            "prompt_id": f"{i:064x}",
            "prompt": f"Prompt {i}",
            "chosen": turns,
            "rejected": turns,
            "all_generated_responses": ["Yes.", "No."],
            "all_rm_scores": [0.5, -0.5],
        }

    parts = {f"train_iteration_{t}": datasets.Dataset.from_list([row(10 * t + i) for i in range(4)]) for t in (1, 2, 3)}
    datasets.DatasetDict(parts).save_to_disk(str(tmp_path / "snorkel"))
    return str(tmp_path / "snorkel")


@pytest.fixture
def ultrafeedback(tmp_path) -> str:
    """The shape of openbmb/UltraFeedback: one split, column `instruction`."""
    rows = [{"source": "flan", "instruction": f"Instruction {i}", "models": ["a", "b"]} for i in range(11)]
    datasets.Dataset.from_list(rows).save_to_disk(str(tmp_path / "ultrafeedback"))
    return str(tmp_path / "ultrafeedback")


@pytest.mark.parametrize("ending", [".jsonl", ".json", ".csv", ".parquet"])
def test_every_kind_of_file_gives_the_same_prompts_unharmed(tmp_path, ending):
    rows = [{"prompt_id": f"{i:02}", "prompt": text} for i, text in enumerate(ODD)]
    result = read(write(tmp_path / f"odd{ending}", rows))
    assert {prompt.prompt_id: prompt.text for prompt in result.prompts} == {
        f"{i:02}": text for i, text in enumerate(ODD)
    }
    assert (result.duplicates, result.skipped) == (0, [])


def test_a_saved_data_set_gives_its_prompts_unharmed(tmp_path):
    datasets.Dataset.from_list([{"prompt": text} for text in ODD]).save_to_disk(str(tmp_path / "odd"))
    assert texts(read(str(tmp_path / "odd")).prompts) == sorted(ODD)


def test_a_hub_name_is_loaded_by_its_split(monkeypatch):
    calls = []

    def load_dataset(name, split):
        calls.append((name, split))
        return datasets.Dataset.from_list([{"instruction": "Hello"}])

    monkeypatch.setattr(sources.datasets, "get_dataset_split_names", lambda name: ["train"])
    monkeypatch.setattr(sources.datasets, "load_dataset", load_dataset)
    assert texts(read("openbmb/UltraFeedback").prompts) == ["Hello"]
    assert calls == [("openbmb/UltraFeedback", "train")]


def test_a_hub_that_cannot_be_reached_is_said(monkeypatch):
    def offline(name):
        raise ConnectionError("Couldn't reach 'org/name' on the Hub")

    monkeypatch.setattr(sources.datasets, "get_dataset_split_names", offline)
    with pytest.raises(PromptError, match=r"org/name is neither a file or folder here .*reach(.|\n)*save_to_disk"):
        read("org/name")


def test_messages_lead_up_to_the_answer(tmp_path):
    turns = [("user", "Hi"), ("assistant", "Hello!"), ("user", "None?"), ("assistant", "The answer")]
    rows = [
        {"messages": [{"role": role, "content": content} for role, content in turns]},
        {"messages": [{"role": "user", "content": "One turn", "extra": 1}]},
    ]
    for ending in (".jsonl", ".parquet"):
        several, one = sorted(read(write(tmp_path / f"m{ending}", rows)).prompts, key=lambda p: -len(p.messages))
        assert [turn["role"] for turn in several.messages] == ["user", "assistant", "user"]
        assert several.text == "User: Hi\nAssistant: Hello!\nUser: None?"
        assert one.messages == ({"role": "user", "content": "One turn"},)
        assert one.text == "One turn"


def test_the_column_is_found_by_its_usual_names_or_named(tmp_path):
    source = write(tmp_path / "a.jsonl", [{"text": "a text", "instruction": "an instruction", "mine": "my own"}])
    assert texts(read(source).prompts) == ["an instruction"]
    assert texts(read(source, column="mine").prompts) == ["my own"]
    with pytest.raises(PromptError, match=r"a.jsonl has no column 'yours'; it has text, instruction, mine: correct"):
        read(source, column="yours")
    with pytest.raises(PromptError, match=r"none of the columns prompt, instruction, .*; it has answer: correct"):
        read(write(tmp_path / "b.jsonl", [{"answer": "x"}]))


def test_ids_come_from_the_table_or_from_the_text(tmp_path):
    result = read(write(tmp_path / "a.jsonl", [{"id": 7, "prompt": "a"}, {"prompt": "b"}]))
    expected = sha256(b'[["user", "b"]]').hexdigest()[:16]
    assert {prompt.prompt_id: prompt.text for prompt in result.prompts} == {"7": "a", expected: "b"}


def test_one_id_for_two_texts_is_an_error(tmp_path):
    source = write(tmp_path / "a.jsonl", [{"id": 7, "prompt": "a"}, {"id": 7, "prompt": "b"}])
    with pytest.raises(PromptError, match=r"a\.jsonl: the id '7' stands for different prompts, 'a' and 'b'"):
        read(source)


def test_duplicates_are_dropped_and_counted(tmp_path):
    rows = [{"id": 1, "prompt": "a"}, {"id": 2, "prompt": "a"}, {"id": 1, "prompt": "a"}, {"id": 3, "prompt": "b"}]
    result = read(write(tmp_path / "a.jsonl", rows))
    assert sorted((prompt.prompt_id, prompt.text) for prompt in result.prompts) == [("1", "a"), ("3", "b")]
    assert result.duplicates == 2


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.jsonl", b"", "a.jsonl is empty"),
        ("a.jsonl", b"\n \n", "it is empty"),
        ("a.csv", b"prompt\n", "a.csv has columns but no rows"),
        ("a.txt", b"Hello", "a.txt is none of the kinds .* .jsonl, .json, .csv, .parquet"),
        ("a.jsonl", b'{"prompt": "a"}\n\n{"prompt": \n', "line 3 is not JSON .*write one"),
        ("a.jsonl", b'{"prompt": "a"}\n["b"]\n', "line 2 is a list, not an object"),
        ("a.jsonl", b'{"prompt": "a"}\n{"prompt": "caf\xe9"}\n', r"line 2 is not UTF-8 \(byte 31 .* 0xe9\): save"),
        ("a.csv", b"prompt\n\xff\n", r"line 2 is not UTF-8 \(byte 7 "),
        ("a.csv", b'id,prompt\n1,"two\nlines"\n2,a,b\n', "line 4 has 3 fields where the header has 2"),
        ("a.csv", b'id,prompt\n1,"open\n', "line 2 is not CSV"),
        ("a.parquet", b"junk", "a.parquet: its Parquet table cannot be read"),
    ],
)
def test_a_broken_file_is_named_with_its_line(tmp_path, name, content, problem):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PromptError, match=problem) as raised:
        read(str(tmp_path / name))
    assert str(tmp_path / name) in str(raised.value)


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path):
    (tmp_path / "a.csv").write_bytes("\ufeffprompt\r\nHello\r\n".encode())
    assert texts(read(str(tmp_path / "a.csv")).prompts) == ["Hello"]


def test_a_csv_text_may_be_long(tmp_path):
    assert len(read(write(tmp_path / "a.csv", [{"prompt": "x" * 200_000}])).prompts[0].text) == 200_000


@pytest.mark.parametrize("source", ["none.jsonl", "./none", "/no/such/folder", "folder/none.parquet"])
def test_a_missing_source_is_named(source):
    with pytest.raises(PromptError, match=f"{source}: no such file or folder"):
        read(source)


def test_a_folder_of_something_else_is_named(tmp_path):
    (tmp_path / "notes.txt").write_text("Hello")
    with pytest.raises(PromptError, match="holds neither a data set saved by `save_to_disk` nor files"):
        read(str(tmp_path))


def test_a_damaged_saved_data_set_is_named(ultrafeedback):
    next(Path(ultrafeedback).glob("*.arrow")).write_bytes(b"junk")
    with pytest.raises(PromptError, match="ultrafeedback: its data set cannot be read"):
        read(ultrafeedback)


def test_bad_rows_are_named_or_left_out(tmp_path):
    values = ["good", "", None, 5, " \n", [], [{"role": "tool", "content": "x"}], [{"role": "user", "content": ""}]]
    values += [[{"role": "system", "content": "x"}], "\ud800"]
    source = write(tmp_path / "a.jsonl", [{"prompt": value} for value in values])
    with pytest.raises(PromptError) as raised:
        read(source)
    assert str(raised.value) == (
        f"{source}: 9 of 10 rows hold no usable prompt in column 'prompt': line 2 is empty; line 3 is missing; "
        "line 4 is of type int, neither text nor a list of chat messages; ...\n"
        "Correct them, name another column with prompts.column, or leave them out with prompts.skip_bad_rows=true"
    )
    result = read(source, skip_bad_rows=True)
    assert texts(result.prompts) == ["good"]
    assert len(result.skipped) == 9 and result.skipped[0] == f"{source}, line 2 is empty"


def test_a_source_of_bad_rows_only_is_an_error_even_so(tmp_path):
    with pytest.raises(PromptError, match="1 of 1 rows"):
        read(write(tmp_path / "a.jsonl", [{"prompt": ""}]), skip_bad_rows=True)


def test_the_order_is_the_seeds_alone(tmp_path):
    rows = numbered(9)
    expected = [row["prompt"] for row in rows]
    random.Random(42).shuffle(expected)
    for order in (rows, rows[::-1], rows[4:] + rows[:4]):
        prompts = read(write(tmp_path / "a.csv", order)).prompts
        assert [prompt.text for prompt in prompts] == expected
    other = read_prompts(PromptSource(source=str(tmp_path / "a.csv"), limit=3), seed=1)
    random.Random(1).shuffle(rows)
    assert [prompt.text for prompt in other.prompts] == [row["prompt"] for row in rows[:3]]


def test_one_split_is_dealt_into_disjoint_parts(ultrafeedback):
    source = PromptSource(source=ultrafeedback)
    result = iteration_prompts(source, 3, seed=42)
    assert sorted(len(part) for part in result.iterations) == [3, 4, 4]
    dealt = [prompt for part in result.iterations for prompt in part]
    assert dealt == read(ultrafeedback).prompts
    assert texts(dealt) == sorted(f"Instruction {i}" for i in range(11))
    assert iteration_prompts(source, 3, seed=42) == result
    assert iteration_prompts(source, 3, seed=43) != result


def test_held_out_prompts_are_set_apart_first_then_the_limit_holds(ultrafeedback):
    everything = read(ultrafeedback).prompts
    result = iteration_prompts(PromptSource(source=ultrafeedback, limit=6), 3, seed=42, held_out=2)
    assert result.held_out == everything[:2]
    assert result.iterations == [everything[2:4], everything[4:6], everything[6:8]]


def test_each_iteration_reads_its_own_split(snorkel):
    source = PromptSource(source=snorkel, split="train_iteration_{iteration}", limit=2)
    result = iteration_prompts(source, 3, seed=42, held_out=4)
    for t, part in enumerate(result.iterations, 1):
        own = read_prompts(source.model_copy(update={"limit": None}), iteration=t, seed=42).prompts
        assert texts(own) == [f"Prompt {10 * t + i}" for i in range(4)]
        apart = 2 if t == 1 else 1
        assert part == own[apart : apart + 2]
        assert all(prompt in result.held_out for prompt in own[:apart])
    assert len(result.held_out) == 4


def test_more_iterations_than_splits_is_an_error_that_lists_them(snorkel):
    source = PromptSource(source=snorkel, split="train_iteration_{iteration}")
    with pytest.raises(PromptError, match=r"no split 'train_iteration_4': it has train_.*lower iterations"):
        iteration_prompts(source, 4, seed=42)
    with pytest.raises(PromptError, match=r"needs prompts\.split: it has train_iteration_1, train_iteration_2"):
        read(snorkel)
    with pytest.raises(PromptError, match="one of training: name one split here"):
        read(snorkel, split="train_iteration_{iteration}")


def test_a_plain_folder_has_its_files_as_splits(tmp_path):
    for t in (1, 2, 3):
        write(tmp_path / f"train_iteration_{t}.jsonl", numbered(3, start=10 * t))
    write(tmp_path / "held_out.jsonl", numbered(2))
    result = iteration_prompts(PromptSource(source=str(tmp_path), split="train_iteration_{iteration}"), 3, seed=42)
    assert [texts(part) for part in result.iterations] == [
        [f"Prompt {10 * t + i}" for i in range(3)] for t in (1, 2, 3)
    ]
    assert texts(read(str(tmp_path), split="held_out").prompts) == ["Prompt 0", "Prompt 1"]
    with pytest.raises(PromptError, match="has no split 'test': it has held_out, train_iteration_1"):
        read(str(tmp_path), split="test")
    with pytest.raises(PromptError, match="is one file and has no split 'train': leave prompts"):
        read(str(tmp_path / "held_out.jsonl"), split="train")


def test_a_prompt_of_an_earlier_split_is_dropped_from_a_later_one(tmp_path):
    write(tmp_path / "t1.jsonl", [{"prompt": "a"}, {"prompt": "b"}])
    write(tmp_path / "t2.jsonl", [{"prompt": "b"}, {"prompt": "c"}])
    result = iteration_prompts(PromptSource(source=str(tmp_path), split="t{iteration}"), 2, seed=42)
    assert [texts(part) for part in result.iterations] == [["a", "b"], ["c"]]
    assert result.duplicates == 1


def test_too_few_prompts_is_an_error(tmp_path):
    source = PromptSource(source=write(tmp_path / "a.jsonl", numbered(4)))
    assert [len(part) for part in iteration_prompts(source, 3, seed=42, held_out=1).iterations] == [1, 1, 1]
    with pytest.raises(PromptError, match="gives 4 distinct prompts, 2 of them held out: too few for 3 iterations"):
        iteration_prompts(source, 3, seed=42, held_out=2)


@pytest.mark.skipif(not REAL.exists(), reason=f"{REAL} is not here")
def test_the_real_prompts_are_read_with_none_lost():
    result = iteration_prompts(PromptSource(source=str(REAL)), 1, seed=42)
    rows = [json.loads(line) for line in REAL.read_bytes().split(b"\n") if line]
    assert len(result.iterations[0]) == len(rows) == 400
    assert {p.prompt_id: p.text for p in result.iterations[0]} == {row["prompt_id"]: row["prompt"] for row in rows}
    assert (result.duplicates, result.skipped, result.held_out) == (0, [], [])

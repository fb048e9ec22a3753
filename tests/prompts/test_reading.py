"""Prompts of a source: found, identified, deduplicated; the split into iterations depends on the seed alone."""

import json
import random
from hashlib import sha256

import datasets
import pytest

from sppo_ray.config import PromptSource
from sppo_ray.errors import PromptError
from sppo_ray.prompts import iteration_prompts, read_prompts
from tests import SHARED
from tests.prompts.tables import numbered, read, texts, write

REAL = SHARED / "data/prompts_real.jsonl"


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


def test_an_id_that_is_not_a_number_is_no_id(tmp_path):
    result = read(write(tmp_path / "a.jsonl", [{"id": float("nan"), "prompt": "a"}, {"id": "nan", "prompt": "b"}]))
    assert texts(result.prompts) == ["a", "b"]
    assert "nan" not in {prompt.prompt_id for prompt in result.prompts}


def test_prompts_of_the_evaluation_are_never_trained_on(tmp_path):
    rows = [*numbered(6), {"prompt_id": "x", "prompt": "Prompt  0\n"}, {"prompt_id": "y", "prompt": "Prompt 1"}]
    source = PromptSource(source=write(tmp_path / "a.jsonl", rows))
    rows = [{"prompt_id": "p005", "prompt": "Prompt 0"}, {"prompt": "Prompt 1"}, {"prompt": "elsewhere"}]
    asked = read(write(tmp_path / "held_out.jsonl", rows)).prompts
    result = iteration_prompts(source, 2, seed=42, evaluated=asked)
    assert texts(prompt for part in result.iterations for prompt in part) == [f"Prompt {i}" for i in (2, 3, 4, 5)]
    assert (result.evaluated, result.duplicates) == (4, 0)
    with pytest.raises(PromptError, match=r"gives 4 distinct prompts that evaluation.prompts does not hold \(4 do\)"):
        iteration_prompts(source, 5, seed=42, evaluated=asked)


def test_duplicates_are_dropped_and_counted(tmp_path):
    rows = [{"id": 1, "prompt": "a"}, {"id": 2, "prompt": "a"}, {"id": 1, "prompt": "a"}, {"id": 3, "prompt": "b"}]
    result = read(write(tmp_path / "a.jsonl", rows))
    assert sorted((prompt.prompt_id, prompt.text) for prompt in result.prompts) == [("1", "a"), ("3", "b")]
    assert result.duplicates == 2


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

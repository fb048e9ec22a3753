"""Rows of the formats that people have: each is read whole, or refused by its turn or column."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sppo_ray.errors import PromptError
from sppo_ray.prompts import BadRow, parse_row
from tests.prompts.tables import read, texts, turns, write


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


FRUIT = turns(("user", "Name a fruit."))
PEAR = turns(("user", "Name a fruit."), ("assistant", "Pear"))
TWO_TURNS = turns(("user", "Hi"), ("assistant", "Hello"), ("user", "Bye"))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([{"from": "human", "value": "Name a fruit."}, {"from": "gpt", "value": "Pear"}], FRUIT),
        ([{"role": None, "content": None, "from": "human", "value": "Name a fruit."}], FRUIT),
        (turns(("developer", "Be brief"), *[("user", "Hi")]), turns(("system", "Be brief"), ("user", "Hi"))),
        (turns(("system", ""), ("user", "Name a fruit.")), FRUIT),
        (turns(("system", None), ("user", "Name a fruit.")), FRUIT),
        (turns(("user", "Name a fruit."), ("assistant", None)), FRUIT),
        (
            [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}],
            turns(("user", "a\nb")),
        ),
        ([{"type": "text", "text": "Name a fruit."}], FRUIT),
        ({"role": "user", "content": "Name a fruit."}, FRUIT),
        ({"role": ["user", "assistant"], "content": ["Name a fruit.", "Pear"]}, FRUIT),
        ([[("role", "user"), ("content", "Name a fruit.")]], FRUIT),
        (json.dumps(PEAR), FRUIT),
        (str(PEAR), FRUIT),
        (f"  {json.dumps(PEAR, indent=1)}\n", FRUIT),
        ([json.dumps(turn) for turn in PEAR], FRUIT),
        ('["Name a fruit."]', FRUIT),
        ("\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: Bye\n\nAssistant:", TWO_TURNS),
        # Text that is like a conversation and is none.
        ("[1, 2, 3]", turns(("user", "[1, 2, 3]"))),
        ('{"name": "x"}', turns(("user", '{"name": "x"}'))),
        ("[x for x in y]", turns(("user", "[x for x in y]"))),
        ("Human: Hi", turns(("user", "Human: Hi"))),
    ],
)
def test_conversations_in_every_dialect(value, expected):
    assert parse_row({"messages": value}, "messages") == tuple(expected)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (
            [*turns(("user", "Hi")), {"from": "bing", "value": "Hello"}],
            ", turn 2 (from: bing) is of no known role: user, ",
        ),
        (turns(("user", "Hi"), ("tool", "sunny"), ("user", "So?")), ", turn 2 (role: tool) is of no known role"),
        ([{"role": ["user"], "content": "Hi"}], ", turn 1 (role: ['user']) is of no known role"),
        (
            [{"role": "assistant", "content": None, "tool_calls": [{}]}, *FRUIT],
            ", turn 1 (role: assistant) calls a tool",
        ),
        ([{"role": "user", "content": [{"type": "image_url"}]}], ", turn 1 (role: user) has a part of type image_url"),
        (turns(("user", "Hi"), ("assistant", None), ("user", "So?")), ", turn 2 (role: assistant) is missing"),
        (turns(("user", "Hi"), ("assistant", "Hello"), ("user", "\u200b")), ", turn 3 (role: user) is empty"),
        (["Write a post.", "Rewrite it."], " is a list of 2 texts, of which none says whose turn it is"),
        ('["Write a post.", "Rewrite it."]', " is a list of 2 texts"),
        (
            "[{'content': 'a', 'role': 'user'}\n {'content': 'b', 'role': 'assistant'}]",
            " is a conversation written as text",
        ),
        ('[{"role": "user", "content": "cut sho', " is a conversation written as text"),
        ("\u200b", " is empty"),
        ("\u2800\u3164 \ufeff", " is empty"),
        (float("nan"), " is missing"),
        (turns(("system", "Be brief")), " does not end with a turn of the user"),
    ],
)
def test_a_cell_that_cannot_be_read_whole_is_refused_by_its_turn(value, reason):
    with pytest.raises(BadRow) as raised:
        parse_row({"messages": value}, "messages")
    assert str(raised.value).startswith(reason)


@pytest.mark.parametrize(
    ("column", "row", "expected"),
    [
        ("instruction", {"input": "Pear, Hammer"}, turns(("user", "Sort.\n\nPear, Hammer"))),
        ("instruction", {"context": "Pear, Hammer"}, turns(("user", "Sort.\n\nPear, Hammer"))),
        *[
            ("instruction", {"input": nothing}, turns(("user", "Sort.")))
            for nothing in (None, "", " ", "nan", "<noinput>", float("nan"))
        ],
        ("question", {"system_prompt": "Be brief"}, turns(("system", "Be brief"), ("user", "Sort."))),
        ("prompt", {"system": None, "history": [], "tools": "[]", "images": None}, turns(("user", "Sort."))),
        ("prompt", {"input": "of another format"}, turns(("user", "Sort."))),
    ],
)
def test_columns_that_complete_a_prompt(column, row, expected):
    assert parse_row({column: "Sort.", **row}, column) == tuple(expected)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"input": 3}, ", column 'input' is of type int"),
        ({"history": [["a", "b"]]}, " has a value in column 'history', a part of the prompt that cannot be read"),
        ({"image": b"\x89PNG"}, " has a value in column 'image'"),
        ({"tools": [{"name": "weather"}]}, " has a value in column 'tools'"),
    ],
)
def test_a_row_of_which_half_cannot_be_read_is_refused(row, reason):
    with pytest.raises(BadRow) as raised:
        parse_row({"instruction": "Sort.", **row}, "instruction")
    assert str(raised.value).startswith(reason)


def test_two_alpaca_tasks_of_one_instruction_are_two_prompts(tmp_path):
    rows = [{"instruction": "Find the odd one.", "input": words} for words in ("Pear, Plum, Saw", "Red, Blue, Seven")]
    result = read(write(tmp_path / "a.jsonl", rows))
    assert texts(result.prompts) == ["Find the odd one.\n\nPear, Plum, Saw", "Find the odd one.\n\nRed, Blue, Seven"]
    assert result.duplicates == 0
    assert result.formats == [f"{tmp_path}/a.jsonl: column instruction with input, 2 prompts"]


@pytest.mark.parametrize(
    ("chosen", "rejected", "expected"),
    [
        (PEAR, turns(("user", "Name a fruit."), ("assistant", "Rock")), FRUIT),
        (
            [*TWO_TURNS, *turns(("assistant", "x"))],
            turns(("user", "Hi"), ("assistant", "What?")),
            turns(("user", "Hi")),
        ),
        (json.dumps(PEAR), None, FRUIT),
        ("\n\nHuman: Name a fruit.\n\nAssistant: Pear", "\n\nHuman: Name a fruit.\n\nAssistant: Rock", FRUIT),
    ],
)
def test_the_prompt_of_a_preference_pair_is_what_both_share(chosen, rejected, expected):
    assert parse_row({"chosen": chosen, "rejected": rejected}, "chosen") == tuple(expected)


@pytest.mark.parametrize(
    ("chosen", "rejected", "reason"),
    [
        (PEAR, turns(("user", "Name a tool."), ("assistant", "Saw")), " differs from 'rejected' before the answer"),
        ("Pear", "Rock", " is an answer without its prompt"),
    ],
)
def test_a_preference_pair_without_a_common_prompt_is_refused(chosen, rejected, reason):
    with pytest.raises(BadRow, match=reason):
        parse_row({"chosen": chosen, "rejected": rejected}, "chosen")


def test_nulls_of_parquet_are_no_values(tmp_path):
    messages = [{"role": "user", "content": "Hi", "name": None, "tool_calls": None}]
    pq.write_table(pa.Table.from_pylist([{"messages": messages, "system": None}]), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet").prompts[0].messages == tuple(turns(("user", "Hi")))
    pq.write_table(pa.table({"prompt": pa.nulls(2)}), tmp_path / "b.parquet")
    with pytest.raises(PromptError, match=r"2 of 2 rows .*: row 1 is missing; row 2 is missing"):
        read(tmp_path / "b.parquet")

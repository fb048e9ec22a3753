"""One row of a prompt table as chat messages: which column holds the prompt, and which other columns complete it.

In: the names of a table's columns; a row. Out: the turns that lead up to the answer. A format is read whole or refused:
a row whose other columns hold a part of the prompt that cannot be read is a `BadRow`.
"""

from collections.abc import Sequence
from itertools import takewhile
from typing import Any

from sppo_ray.prompts.messages import (
    BadRow,
    before_answer,
    is_blank,
    is_missing,
    parse_messages,
    role_of,
    text_of,
    unpacked,
)
from sppo_ray.records import Message

Row = dict[str, Any]

# The columns that hold prompts, the most telling first, and the columns that each continues in, as in Alpaca
# (instruction, input), Dolly (instruction, context), SQuAD (question, context) and preference sets.
COLUMNS: dict[str, tuple[str, ...]] = {
    "prompt": (),
    "instruction": ("input", "context"),
    "question": ("context",),
    "messages": (),
    "conversations": (),
    "conversation": (),
    "text": (),
    "input": (),
    "chosen": ("rejected",),
}
SYSTEM_COLUMNS = ("system", "system_prompt")
UNREAD_COLUMNS = ("history", "tools", "functions", "image", "images", "videos", "audios")
NOTHING = (False, "[]", "{}", "null")  # what such columns hold in rows that have none
NO_INPUT = ("nan", "<noinput>")  # written where an instruction has no input


def columns_read(column: str, there: Sequence[str]) -> list[str]:
    """The columns of a table that a prompt in `column` is made of, or would be incomplete without."""
    wanted = [*COLUMNS.get(column, ()), *SYSTEM_COLUMNS, *UNREAD_COLUMNS]
    return [column, *(name for name in wanted if name in there and name != column)]


def parse_row(row: Row, column: str) -> tuple[Message, ...]:
    """The turns that lead up to the answer, ending with the user's; raises `BadRow`."""
    for name in UNREAD_COLUMNS:
        value = row.get(name)
        if name != column and not _is_empty(value) and value not in NOTHING:
            raise BadRow(f" has a value in column {name!r}, a part of the prompt that cannot be read")
    if column == "chosen":
        messages = _preferred(row)
    else:
        messages = parse_messages(row[column])
        for name in COLUMNS.get(column, ()):
            messages = _continued(messages, name, row.get(name))
    for name in SYSTEM_COLUMNS:
        if name != column and not _is_empty(row.get(name)):
            messages = _with_system(messages, name, _text(name, row[name]))
    return messages


def _continued(messages: tuple[Message, ...], name: str, value: Any) -> tuple[Message, ...]:
    """An instruction and its input, as Stanford's template joins them."""
    if _is_empty(value) or (isinstance(value, str) and value.strip().lower() in NO_INPUT):
        return messages
    last = messages[-1]
    return (*messages[:-1], Message(role=last["role"], content=f"{last['content']}\n\n{_text(name, value)}"))


def _with_system(messages: tuple[Message, ...], name: str, text: str) -> tuple[Message, ...]:
    system = Message(role="system", content=text)
    if messages[0]["role"] != "system":
        return (system, *messages)
    if messages[0] != system:
        raise BadRow(f" has one system text in column {name!r} and another in its messages")
    return messages


def _preferred(row: Row) -> tuple[Message, ...]:
    """The prompt of a preference pair: the turns that the chosen and the rejected conversation share."""
    chosen, rejected = unpacked(row["chosen"]), unpacked(row.get("rejected"))
    if not isinstance(chosen, list):
        text_of(chosen)
        raise BadRow(" is an answer without its prompt")
    if not isinstance(rejected, list):
        return before_answer(chosen)
    shared = [turn for turn, _ in takewhile(lambda pair: pair[0] == pair[1], zip(chosen, rejected, strict=False))]
    if len(shared) < len(chosen) and role_of(chosen[len(shared)]) != "assistant":
        raise BadRow(" differs from 'rejected' before the answer")
    return before_answer(shared)


def _text(name: str, value: Any) -> str:
    try:
        return text_of(value)
    except BadRow as reason:
        raise BadRow(f", column {name!r}{reason}") from None


def _is_empty(value: Any) -> bool:
    return is_missing(value) or value in ([], {}) or (isinstance(value, str) and is_blank(value))

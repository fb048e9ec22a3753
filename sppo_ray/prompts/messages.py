"""One cell of a prompt table as chat messages, and chat messages as text for the judge and people.

In: text, or a list of {"role", "content"} that may end with the data set's own answer. Out: the turns before it.
A cell that holds no usable prompt is a `BadRow`.
"""

from collections.abc import Sequence
from typing import Any

from sppo_ray.records import Message

ROLES = ("user", "assistant", "system")


class BadRow(Exception):
    """Why a row holds no usable prompt; a phrase that follows the row's number."""


def transcript(messages: Sequence[Message]) -> str:
    """The text of a single user turn itself; several turns as llm-blender writes them, "User: ...\\nAssistant: ..."."""
    if len(messages) == 1:
        return messages[0]["content"]
    return "\n".join(f"{turn['role'].capitalize()}: {turn['content']}" for turn in messages)


def parse_messages(value: Any) -> tuple[Message, ...]:
    """The turns that lead up to the answer, ending with the user's; raises `BadRow`."""
    if not isinstance(value, list):
        return (Message(role="user", content=_content(value)),)
    turns = []
    for turn in value:
        if not isinstance(turn, dict) or turn.get("role") not in ROLES:
            raise BadRow(f'has a turn that is not {{"role": {" | ".join(ROLES)}, "content": ...}}')
        turns.append(Message(role=turn["role"], content=_content(turn.get("content"))))
    if turns and turns[-1]["role"] == "assistant":  # the answer of the data set
        turns.pop()
    if not turns or turns[-1]["role"] != "user":
        raise BadRow("does not end with a turn of the user")
    return tuple(turns)


def _content(value: Any) -> str:
    if value is None:
        raise BadRow("is missing")
    if not isinstance(value, str):
        raise BadRow(f"is of type {type(value).__name__}, neither text nor a list of chat messages")
    if not value.strip():
        raise BadRow("is empty")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise BadRow("is not Unicode text (half a surrogate pair)") from None
    return value

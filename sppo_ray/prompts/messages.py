"""One cell of a prompt table as chat messages, and chat messages as text for the judge and people.

In: text, or a conversation in any of the dialects that data sets use, also written as JSON or Python text. Out: the
turns that lead up to the answer. A cell that holds no usable prompt is a `BadRow`.
"""

import ast
import json
import math
import re
import unicodedata
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

from sppo_ray.records import Message

# The names that data sets use: OpenAI's, ShareGPT's, and those that the chat templates know.
ROLES = {
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "system": "system",
    "developer": "system",
}
SHAPE = '{"role": "user", "content": "..."}'
SERIALIZED = re.compile(r"\s*[\[{]")
# Also in forms that cannot be parsed, as a conversation cut short or pandas' text of a NumPy array.
LOOKS_SERIALIZED = re.compile(r"\s*(?:array\()?\[?\s*\{\s*['\"](role|content|from|value)['\"]\s*:")
HUMAN_ASSISTANT = re.compile(r"\n\n(Human|Assistant):")  # Anthropic's hh-rlhf
BLANK_LETTERS = "\u115f\u1160\u2800\u3164\uffa0"  # letters and symbols that show nothing


class BadRow(Exception):
    """Why a row holds no usable prompt: words that follow the row's place, as " is empty" follows "line 3"."""


def transcript(messages: Sequence[Message]) -> str:
    """The text of a single user turn itself; several turns as llm-blender writes them, "User: ...\\nAssistant: ..."."""
    if len(messages) == 1:
        return messages[0]["content"]
    return "\n".join(f"{turn['role'].capitalize()}: {turn['content']}" for turn in messages)


def parse_messages(value: Any) -> tuple[Message, ...]:
    """The turns that lead up to the answer, ending with the user's; raises `BadRow`."""
    value = unpacked(value)
    if not isinstance(value, list) or any(map(is_text_part, value)):
        return (Message(role="user", content=text_of(value)),)
    return before_answer(value)


def before_answer(turns: list[Any]) -> tuple[Message, ...]:
    """Turns without the last one if that is the data set's own answer, and without system turns that say nothing."""
    if turns and role_of(turns[-1]) == "assistant":
        turns = turns[:-1]
    found = [_message(turn, number) for number, turn in enumerate(turns, 1)]
    messages = tuple(message for message in found if message is not None)
    if not messages or messages[-1]["role"] != "user":
        raise BadRow(" does not end with a turn of the user")
    return messages


def unpacked(value: Any) -> Any:
    """A cell as text or as a list of turns, whatever way the table stores it."""
    if isinstance(value, str):
        value = _parsed(value)
    if isinstance(value, dict) and value and all(isinstance(field, list) for field in value.values()):
        # A list of structs as older `datasets` stores it: one list per field.
        return [dict(zip(value, turn, strict=True)) for turn in zip_longest(*value.values())]
    if is_turn(value):
        return [value]
    if isinstance(value, list):
        value = [_parsed(turn) if isinstance(turn, str) else _as_dict(turn) for turn in value]
        if value and all(isinstance(turn, str) for turn in value):
            if len(value) > 1:
                raise BadRow(f" is a list of {len(value)} texts, of which none says whose turn it is: write {SHAPE}")
            return value[0]
    return value


def role_of(turn: Any) -> str | None:
    """The role of a turn in the terms of chat templates; None if it has none of these."""
    name = turn.get(_role_key(turn)) if isinstance(turn, dict) else None
    return ROLES.get(name) if isinstance(name, str) else None


def is_turn(value: Any) -> bool:
    return isinstance(value, dict) and ("role" in value or "from" in value)


def is_text_part(value: Any) -> bool:
    return isinstance(value, dict) and value.get("type") == "text" and not is_turn(value)


def text_of(value: Any) -> str:
    """The text of a cell or of a turn's content; raises `BadRow`."""
    if isinstance(value, list):
        value = "\n".join(_part(part) for part in value)  # as vLLM's own server joins them
    if is_missing(value):
        raise BadRow(" is missing")
    if not isinstance(value, str):
        raise BadRow(f" is of type {type(value).__name__}, neither text nor a list of chat messages")
    if is_blank(value):
        raise BadRow(" is empty")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise BadRow(" is not Unicode text (half a surrogate pair)") from None
    return value


def is_missing(value: Any) -> bool:
    """Whether a table has no value there: pandas writes NaN for it."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def is_blank(text: str) -> bool:
    """Whether nothing of a text can be seen."""
    return all(unicodedata.category(c) in ("Zs", "Zl", "Zp", "Cc", "Cf") or c in BLANK_LETTERS for c in text)


def _message(turn: Any, number: int) -> Message | None:
    if not isinstance(turn, dict):
        raise BadRow(f", turn {number} is of type {type(turn).__name__}: write {SHAPE}")
    key, role = _role_key(turn), role_of(turn)
    where = f", turn {number} ({key}: {turn.get(key)})"
    if role is None:
        raise BadRow(f"{where} is of no known role: {', '.join(ROLES)} are read")
    if turn.get("tool_calls") or turn.get("function_call"):
        raise BadRow(f"{where} calls a tool, which the policy cannot")
    content = turn["value"] if is_missing(turn.get("content")) and "value" in turn else turn.get("content")
    if role == "system" and (is_missing(content) or content == [] or (isinstance(content, str) and is_blank(content))):
        return None
    try:
        return Message(role=role, content=text_of(content))
    except BadRow as reason:
        raise BadRow(f"{where}{reason}") from None


def _role_key(turn: dict[str, Any]) -> str:
    return "from" if turn.get("role") is None and "from" in turn else "role"


def _part(part: Any) -> str:
    kind = part.get("type", "text") if isinstance(part, dict) else type(part).__name__
    if kind != "text" or not isinstance(part.get("text"), str):
        raise BadRow(f" has a part of type {kind}: only parts of text can be read")
    return str(part["text"])


def _as_dict(turn: Any) -> Any:
    """Parquet's maps are read as lists of pairs."""
    pairs = isinstance(turn, list) and turn and all(isinstance(pair, tuple) and len(pair) == 2 for pair in turn)
    return dict(turn) if pairs else turn


def _parsed(text: str) -> Any:
    """The conversation that a text spells out; any other text stays as it is."""
    if text.startswith("\n\nHuman:"):
        _, *pieces = HUMAN_ASSISTANT.split(text)
        roles = {"Human": "user", "Assistant": "assistant"}
        return [
            {"role": roles[name], "content": content.strip()}
            for name, content in zip(pieces[::2], pieces[1::2], strict=True)
        ]
    if not SERIALIZED.match(text):
        return text
    for read in (json.loads, ast.literal_eval):
        try:
            value = read(text.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        texts = isinstance(value, list) and all(isinstance(turn, str) for turn in value)
        turns = isinstance(value, list) and any(is_turn(turn) or is_text_part(turn) for turn in value)
        return value if texts or turns or is_turn(value) else text
    if LOOKS_SERIALIZED.match(text):
        raise BadRow(
            " is a conversation written as text that is neither JSON nor Python: save the table as JSON lines or Parquet"
        )
    return text

"""Control tokens that a conversation spells out as text, followed through the chat template.

In: messages, and the template as a function. Out: the rendered text with a placeholder for each control token that came
from a message. The template's own control tokens stay as they are, so the two can be told apart.
"""

import re
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from sppo_ray.errors import PromptError
from sppo_ray.records import Message

Render = Callable[[Sequence[Message]], str]

FIRST, LAST = 0xF0000, 0x10FFFD  # the private-use planes


@dataclass
class _Spelled:
    """One control token in a message. edit: how it is marked for the template."""

    name: str
    turn: int
    start: int
    edit: str = "{name}"


class SpelledTokens:
    """Control tokens by name, each with a secret placeholder of its own length: what a template does by length stays."""

    def __init__(self, names: Iterable[str]) -> None:
        ordered = sorted(names, key=len, reverse=True)
        first = FIRST + secrets.randbelow(LAST - FIRST - len(ordered) - 2)
        # Two marks: the one of a token that the template drops must not fall to its neighbour.
        self._left, self._right = chr(first), chr(first + 1)
        self._placeholders = {name: chr(first + n) * len(name) for n, name in enumerate(ordered, 2)}
        self._names = {placeholder: name for name, placeholder in self._placeholders.items()}
        self.pattern = _any(ordered)
        self._marked = re.compile(f"{self._left}({self.pattern.pattern})|({self.pattern.pattern}){self._right}")
        self._marks = re.compile(f"[{self._left}{self._right}]")
        self._placeholder = _any(self._names)

    def follow(self, messages: Sequence[Message], render: Render, kept: frozenset[str]) -> str:
        """The rendered messages with placeholders.

        kept: names that are the template's own even in the assistant's turns.
        A template may look at its own control tokens in a message, so the text must come out the same with and without
        placeholders. Where it does not, a token stays and is marked on one of its sides instead.
        """
        rendered = render(messages)
        spelled = [
            _Spelled(match[0], turn, match.start())
            for turn, message in enumerate(messages)
            for match in self.pattern.finditer(message["content"])
            if message["role"] != "assistant" or match[0] not in kept
        ]
        if not spelled:
            return rendered

        def try_out() -> str | None:
            try:
                text = render(self._edited(messages, spelled))
            except PromptError:  # the template looks for the token
                return None
            return text if self._marks.sub("", self.lift(text)) == rendered else None

        edits = ["{placeholder}", "{left}{name}", "{name}{right}"]
        for one in spelled:
            one.edit = edits[0]
        if (text := try_out()) is not None:
            return text
        for one in spelled:
            one.edit = "{name}"
        text = rendered
        for one in spelled:
            for one.edit in edits:
                if (found := try_out()) is not None:
                    text = found
                    break
            else:
                raise PromptError(
                    f"turn {one.turn + 1} holds {one.name!r}, which the chat template takes for its own: leave it out"
                )
        return self._marks.sub("", self._marked.sub(lambda match: self._placeholders[match[1] or match[2]], text))

    def lift(self, text: str) -> str:
        """The text with the names in place of their placeholders."""
        return self._placeholder.sub(lambda match: self._names[match[0]], text)

    def holds_placeholder(self, text: str) -> bool:
        return self._placeholder.search(text) is not None

    def _edited(self, messages: Sequence[Message], spelled: list[_Spelled]) -> list[Message]:
        edited = []
        for turn, message in enumerate(messages):
            text, end, parts = message["content"], 0, []
            for one in (one for one in spelled if one.turn == turn):
                words = {"name": one.name, "placeholder": self._placeholders[one.name]}
                parts += [text[end : one.start], one.edit.format(**words, left=self._left, right=self._right)]
                end = one.start + len(one.name)
            edited.append(Message(role=message["role"], content="".join([*parts, text[end:]])))
        return edited


def _any(texts: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, texts)) or r"(?!)")

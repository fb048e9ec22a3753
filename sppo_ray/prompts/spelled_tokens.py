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
    """One control token in a message. edit: what the template is shown in its place."""

    name: str
    turn: int
    start: int
    edit: str = ""


class SpelledTokens:
    """Control tokens by name, each with a secret placeholder of its own length: what a template does by length stays."""

    def __init__(self, names: Iterable[str]) -> None:
        ordered = sorted(names, key=len, reverse=True)
        self.pattern = re.compile("|".join(map(re.escape, ordered)) or r"(?!)")
        size = len(ordered) or 1
        first = FIRST + secrets.randbelow(LAST - FIRST - 3 * size)
        self._placeholders = {name: chr(first + n) * len(name) for n, name in enumerate(ordered)}
        self._names = {chr(first + n): name for n, name in enumerate(ordered)}
        # For a token with a mark on both sides, and for one with a mark on one side.
        self._marks = {name: (chr(first + size + n), chr(first + 2 * size + n)) for n, name in enumerate(ordered)}
        self._placeholder = re.compile(rf"([{chr(first)}-{chr(first + size - 1)}])\1*")
        self._mark = re.compile(f"[{chr(first + size)}-{chr(first + 3 * size - 1)}]")

    def follow(self, messages: Sequence[Message], rendered: str, render: Render, kept: frozenset[str]) -> str | None:
        """The rendered text with placeholders; None where no control token of a message arrives in it.

        rendered: the messages as they are.  kept: names that are the template's own even in the assistant's turns.
        A template may look for its own control tokens in a message, so an edit counts only if the text comes out as it
        does without. Where a placeholder changes it, the token itself stays, with a mark that tells whether it arrives.
        """
        spelled = [
            _Spelled(match[0], turn, match.start())
            for turn, message in enumerate(messages)
            for match in self.pattern.finditer(message["content"])
            if message["role"] != "assistant" or match[0] not in kept
        ]
        if not spelled:
            return None

        def edited() -> str | None:
            try:
                text = render(self._edited(messages, spelled))
            except PromptError:  # the template misses the token
                return None
            return text if self._mark.sub("", self.lift(text)) == rendered else None

        for one in spelled:
            one.edit = self._placeholders[one.name]
        if (text := edited()) is not None:
            return text if self._placeholder.search(text) else None
        for one in spelled:
            one.edit = one.name
        for one in spelled:
            name, (both, single) = one.name, self._marks[one.name]
            # Without effect on the text, the token is dropped by the template.
            for edit in (self._placeholders[name], "", both + name + both, single + name, name + single):
                one.edit = edit
                if (found := edited()) is not None:
                    text = found
                    break
            else:
                raise PromptError(
                    f"turn {one.turn + 1} holds {name!r}, which the chat template takes for its own: leave it out"
                )
        assert text is not None  # of the last edit, which holds with all others
        for name in {one.name for one in spelled}:
            (both, single), word = self._marks[name], re.escape(name)
            text = re.sub(f"{both}{word}{both}|{single}{word}|{word}{single}", self._placeholders[name], text)
        text = self._mark.sub("", text)
        return text if self._placeholder.search(text) else None

    def lift(self, text: str) -> str:
        """The text with the names in place of their placeholders."""
        return self._placeholder.sub(lambda match: self._named(match[1], len(match[0])), text)

    def _named(self, character: str, length: int) -> str:
        name = self._names[character]
        return name * (length // len(name))  # of one that the template has cut, nothing: the text differs

    def _edited(self, messages: Sequence[Message], spelled: list[_Spelled]) -> list[Message]:
        edited = []
        for turn, message in enumerate(messages):
            text, end, parts = message["content"], 0, []
            for one in (one for one in spelled if one.turn == turn):
                parts += [text[end : one.start], one.edit]
                end = one.start + len(one.name)
            edited.append(Message(role=message["role"], content="".join([*parts, text[end:]])))
        return edited

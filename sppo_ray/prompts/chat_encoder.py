"""Conversations as the policy's tokens, through its own chat template.

In: a tokenizer with a chat template, variables for that, messages. Out: token ids, those of `apply_chat_template`.
"""

import copy
import difflib
import secrets
import unicodedata
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from jinja2.defaults import DEFAULT_NAMESPACE
from tokenizers import AddedToken, Tokenizer
from transformers import PreTrainedTokenizerFast
from transformers.utils.chat_template_utils import _get_template_variables

from sppo_ray.errors import ConfigError, ModelError, PromptError, one_line
from sppo_ray.prompts.spelled_tokens import SpelledTokens
from sppo_ray.prompts.thought_tags import TAGS, thought_pattern
from sppo_ray.records import Message

# What `policy.chat_template_kwargs` may hold beside the template's own variables.
ARGUMENTS = {"chat_template", "tools", "documents"}
# Names in a template that are not the user's to set.
GIVEN = {"messages", "add_generation_prompt", "raise_exception", "strftime_now", *DEFAULT_NAMESPACE}

THOUGHT_TAGS = frozenset([*TAGS, *TAGS.values()])


class ChatEncoder:
    """Messages to token ids, as `apply_chat_template` gives them; control tokens that a message spells out stay text.

    Where a message spells one out, a twin of the tokenizer encodes the rendered text: it takes control tokens as text,
    and knows each of the template's own by a secret alias only. Tags of thoughts in an assistant's turn are the model's
    own words, not spelled out.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, template_kwargs: Mapping[str, Any] | None = None) -> None:
        self.tokenizer: Any = tokenizer
        self._kwargs = dict(template_kwargs or {})
        self._template = self._checked_template()
        self._added: dict[int, AddedToken] = tokenizer.backend_tokenizer.get_added_tokens_decoder()
        self._ids = {
            token.content: number
            for number, token in self._added.items()
            if token.special
            or token.content in THOUGHT_TAGS
            or (token.content.strip() and token.content in self._template)
        }
        self._spelled = SpelledTokens(self._ids)
        self._secret = secrets.token_hex(8)

    def ids(self, messages: Sequence[Message]) -> list[int]:
        """Raises `PromptError` where the template refuses the messages, say a system turn, or drops the last one's text."""
        rendered = self.render(messages)
        text = self._spelled.follow(messages, rendered, self.render, THOUGHT_TAGS)
        if text is None:
            ids = self.tokenizer(rendered, add_special_tokens=False, verbose=False)["input_ids"]
        else:
            encoding = self._twin.encode(self._spelled.lift(self._aliased(text)), add_special_tokens=False)
            ids = [self._real.get(number, number) for number in encoding.ids]
        if not self._arrived(messages[-1]["content"], ids):
            raise PromptError(
                f"the text of its last turn does not reach the policy: the chat template of "
                f"{self.tokenizer.name_or_path} leaves out or changes it"
            )
        return ids

    def render(self, messages: Sequence[Message], add_generation_prompt: bool = True) -> str:
        """The text that the template makes of the messages."""
        turns = [{"role": turn["role"], "content": turn["content"]} for turn in messages]
        try:
            return str(
                self.tokenizer.apply_chat_template(
                    turns, tokenize=False, add_generation_prompt=add_generation_prompt, **self._kwargs
                )
            )
        except Exception as error:  # a template is a program of the model's: it may fail in any way
            raise PromptError(f"the chat template refuses it ({one_line(error)})") from error

    def end_of_turn(self) -> int | None:
        """The control token that the template puts after an answer; None where it puts none, or takes no answer."""
        answer = "\ue000answer\ue001"
        rendered = self._example(Message(role="assistant", content=answer))
        found = self._spelled.pattern.match(rendered.partition(answer)[2].lstrip())
        return self._ids[found[0]] if found else None

    def thoughts(self) -> str | None:
        """The pattern of a thought in a response, by the tokenizer's own rule; None if it has none."""
        return thought_pattern(self._template, self.tokenizer.response_template, self._example())

    def _example(self, *answer: Message) -> str:
        """A rendered conversation, with a system turn if the template insists on one; empty if it takes neither."""
        turns = [Message(role="user", content="Hello"), *answer]
        for probe in (turns, [Message(role="system", content="Be kind."), *turns]):
            try:
                return self.render(probe, add_generation_prompt=not answer)
            except PromptError:
                continue
        return ""

    def _checked_template(self) -> str:
        name, given = self.tokenizer.name_or_path, self._kwargs
        try:
            template = self.tokenizer.get_chat_template(given.get("chat_template"), given.get("tools"))
            variables = _get_template_variables(template)
        except Exception as error:
            raise ModelError(
                f"the chat template of {name} cannot be used ({one_line(error)}): correct it, or choose one of several "
                "by its name with policy.chat_template_kwargs={chat_template: NAME}"
            ) from error
        for key in given.keys() - (variables - GIVEN) - ARGUMENTS:
            own = sorted(variables - GIVEN - set(self.tokenizer.special_tokens_map))
            near = difflib.get_close_matches(key, own, n=1)
            there = f"did you mean {near[0]}?" if near else f"it has {', '.join(own) or 'none to set'}"
            raise ConfigError(
                f"policy.chat_template_kwargs: the chat template of {name} has no variable {key!r}; {there}"
            )
        return template

    def _arrived(self, text: str, ids: list[int]) -> bool:
        there = self._plain(self._decode(ids))
        if self._plain(text) in there:
            return True
        # A tokenizer may change characters by itself, but it must know them.
        alone = self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return self.tokenizer.unk_token_id not in alone and self._plain(self._decode(alone)) in there

    def _decode(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids, clean_up_tokenization_spaces=False))

    def _plain(self, text: str) -> str:
        """Without what templates and tokenizers change: control tokens, whitespace, case, look-alikes of a character."""
        text = unicodedata.normalize("NFKC", self._spelled.pattern.sub("", text)).casefold()
        return "".join(text.replace("▁", " ").split())

    # The twin

    @cached_property
    def _twin(self) -> Tokenizer:
        # One pass over the whole text: merges and prefix spaces depend on what surrounds a piece.
        twin = copy.deepcopy(self.tokenizer.backend_tokenizer)
        twin.no_truncation()
        twin.no_padding()
        twin.add_special_tokens([self._added[number] for number in self._ids.values()])
        twin.encode_special_tokens = True
        twin.add_tokens([self._alias_token(self._added[number]) for number in self._ids.values()])
        return twin

    @cached_property
    def _real(self) -> dict[int, int]:
        aliases: dict[str, Any] = {name: self._twin.token_to_id(self._alias(name)) for name in self._ids}
        return {aliases[name]: number for name, number in self._ids.items()}

    def _aliased(self, text: str) -> str:
        return self._spelled.pattern.sub(lambda match: self._alias(match[0]), text)

    def _alias(self, name: str) -> str:
        return f"\ue000{self._secret}n{self._ids[name]}\ue001"

    def _alias_token(self, token: AddedToken) -> AddedToken:
        return AddedToken(
            self._alias(token.content),
            single_word=token.single_word,
            lstrip=token.lstrip,
            rstrip=token.rstrip,
            normalized=token.normalized,
            special=False,
        )

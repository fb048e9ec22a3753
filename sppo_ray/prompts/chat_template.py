"""Prompts as the policy's tokens: its own chat template, once; what is cut, and where sampling stops.

In: a model folder and `SourcePrompt`s. Out: `Prompt`s whose token ids sampler and trainer share; pairs cut to length.
"""

import copy
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import TemplateError
from tokenizers import AddedToken
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from sppo_ray.errors import ModelError, PromptError
from sppo_ray.prompts.reading import NAMED, SourcePrompt
from sppo_ray.records import Message, Prompt


@dataclass(frozen=True)
class Encoded:
    """truncated: how many prompts lost their beginning.  skipped: those left out, one phrase each."""

    prompts: list[Prompt]
    truncated: int
    skipped: list[str]


def load_tokenizer(model: str, trust_remote_code: bool = False) -> PreTrainedTokenizerFast:
    """The tokenizer of a model folder or hub name, with a chat template."""
    folder = Path(model).expanduser()
    # Transformers makes up an empty tokenizer for a folder that holds only a config.json.
    if folder.is_dir() and not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model")):
        raise ModelError(f"{model} holds no tokenizer: copy the model's tokenizer.json and tokenizer_config.json there")
    if not folder.is_dir() and not re.fullmatch(r"\w[\w.-]*(/[\w.-]+)?", model):
        raise ModelError(f"{model}: no such folder: correct policy.model")
    try:
        where = folder if folder.is_dir() else model
        tokenizer = AutoTokenizer.from_pretrained(where, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"the tokenizer of {model} cannot be loaded: {error}\n"
            "Correct policy.model, or download the model and name its folder"
        ) from error
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise ModelError(f"the tokenizer of {model} has no tokenizer.json: save it as a fast tokenizer")
    if not tokenizer.chat_template:
        raise ModelError(
            f"the tokenizer of {model} has no chat template: take the instruction-tuned model, or add its template "
            "as chat_template.jinja"
        )
    return tokenizer


class ChatEncoder:
    """Messages to token ids through the chat template; control tokens that a prompt spells out stay text.

    All else comes out as `apply_chat_template` gives it.
    A twin of the tokenizer takes control tokens as text and knows each by a secret alias only. The template is rendered
    with the prompt's control tokens disguised; then its own are replaced by their aliases and the disguise is lifted.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._tokenizer = tokenizer
        self._secret = secrets.token_hex(8)
        template = tokenizer.get_chat_template()
        added = tokenizer.backend_tokenizer.get_added_tokens_decoder()
        self._ids = {
            token.content: number
            for number, token in added.items()
            if token.special or (token.content.strip() and token.content in template)
        }
        # One pass over the whole text: merges and prefix spaces depend on what surrounds a piece.
        self._twin = copy.deepcopy(tokenizer.backend_tokenizer)
        self._twin.no_truncation()
        self._twin.no_padding()
        self._twin.add_special_tokens([added[number] for number in self._ids.values()])
        self._twin.encode_special_tokens = True
        self._twin.add_tokens([self._alias_token(added[number]) for number in self._ids.values()])
        self._real = {self._twin.token_to_id(self._word("alias", name)): number for name, number in self._ids.items()}
        names = sorted(self._ids, key=len, reverse=True)
        self._control = re.compile("|".join(map(re.escape, names)) or r"(?!)")
        self._disguised = {self._word("text", name): name for name in names}

    def ids(self, messages: Sequence[Message]) -> list[int]:
        """Raises `jinja2.TemplateError` where the template refuses the messages, say a system turn."""
        turns = [
            Message(role=turn["role"], content=self._control.sub(lambda m: self._word("text", m[0]), turn["content"]))
            for turn in messages
        ]
        rendered = self._render(turns, add_generation_prompt=True)
        rendered = self._control.sub(lambda match: self._word("alias", match[0]), rendered)
        rendered = re.sub(f"\ue000text{self._secret}n\\d+\ue001", lambda match: self._disguised[match[0]], rendered)
        return [self._real.get(number, number) for number in self._twin.encode(rendered, add_special_tokens=False).ids]

    def end_of_turn(self) -> int | None:
        """The control token that the template puts after an answer; None where it puts none."""
        answer = "\ue000answer\ue001"
        turns = [Message(role="user", content="Hello"), Message(role="assistant", content=answer)]
        rendered = self._render(turns, add_generation_prompt=False)
        found = self._control.match(rendered.partition(answer)[2].lstrip())
        return self._ids[found[0]] if found else None

    def _render(self, turns: list[Message], add_generation_prompt: bool) -> str:
        messages = [{"role": turn["role"], "content": turn["content"]} for turn in turns]
        return str(
            self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=add_generation_prompt)
        )

    def _word(self, kind: str, name: str) -> str:
        return f"\ue000{kind}{self._secret}n{self._ids[name]}\ue001"

    def _alias_token(self, token: AddedToken) -> AddedToken:
        return AddedToken(
            self._word("alias", token.content),
            single_word=token.single_word,
            lstrip=token.lstrip,
            rstrip=token.rstrip,
            normalized=token.normalized,
            special=False,
        )


def encode(
    tokenizer: PreTrainedTokenizerFast,
    prompts: Sequence[SourcePrompt],
    *,
    max_prompt_length: int,
    context: int | None = None,
    skip_bad: bool = False,
) -> Encoded:
    """The prompts as token ids, generation prompt included; of a long one the last `max_prompt_length` tokens.

    The release keeps the end, too, but cuts in the trainer only; here sampler and trainer see the same tokens.
    A prompt that the model's context cannot hold whole, or that its template refuses, is a `PromptError`, or left out
    with `skip_bad`.
    """
    encoder = ChatEncoder(tokenizer)
    encoded, bad, truncated = [], [], 0
    for prompt in prompts:
        try:
            ids = encoder.ids(prompt.messages)
        except TemplateError as error:
            bad.append(f"{prompt.prompt_id}: the chat template refuses it ({error})")
            continue
        if context is not None and len(ids) > context:
            bad.append(f"{prompt.prompt_id}: {len(ids)} tokens, the model's context holds {context}")
            continue
        truncated += len(ids) > max_prompt_length
        encoded.append(Prompt(prompt.prompt_id, prompt.text, _end(ids, max_prompt_length, tokenizer.bos_token_id)))
    if (bad and not skip_bad) or not encoded:
        examples = "; ".join(bad[:NAMED]) + ("; ..." if len(bad) > NAMED else "")
        raise PromptError(
            f"{len(bad)} of {len(prompts)} prompts cannot be given to the policy: {examples}\n"
            "Shorten or correct them, or leave them out with prompts.skip_bad_rows=true"
        )
    return Encoded(encoded, truncated, bad)


def _end(ids: list[int], length: int, bos: int | None) -> list[int]:
    """The last tokens of a prompt. The BOS stays first (the release cuts it off): without it a Gemma policy babbles."""
    if len(ids) > length and ids[0] == bos:
        return [bos, *ids[len(ids) - length + 1 :]]
    return ids[-length:]


def stop_token_ids(tokenizer: PreTrainedTokenizerFast, eos_token_id: int | list[int] | None) -> list[int]:
    """Where sampling stops: the eos ids of the model's generation config and tokenizer, and the template's end of turn.

    The stop token is sampled and trained as the response's last one; nothing is appended.
    """
    eos = eos_token_id if isinstance(eos_token_id, list) else [eos_token_id]
    ids = [*eos, tokenizer.eos_token_id, ChatEncoder(tokenizer).end_of_turn()]
    return sorted({number for number in ids if number is not None})

"""Prompts as the policy's tokens: its own chat template, once; what is cut, and where sampling stops.

In: a model folder and `SourcePrompt`s. Out: `Prompt`s whose token ids sampler and trainer share; pairs cut to length.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerFast

from sppo_ray.errors import ModelError, PromptError, one_line
from sppo_ray.models import HUB_NAME
from sppo_ray.prompts.chat_encoder import ChatEncoder
from sppo_ray.prompts.reading import NAMED, SourcePrompt
from sppo_ray.records import Prompt

__all__ = ["ChatEncoder", "Encoded", "encode", "find_model", "hidden_tokens", "load_tokenizer", "stop_token_ids"]


@dataclass(frozen=True)
class Encoded:
    """truncated: how many prompts lost their beginning.  skipped: those left out, one phrase each."""

    prompts: list[Prompt]
    truncated: int
    skipped: list[str]


def find_model(model: str, key: str = "policy.model") -> Path | str:
    """The model's folder on this machine, or its name on the hub. key: of the configuration, for messages."""
    folder = Path(model).expanduser()
    if not folder.is_dir() and not HUB_NAME.fullmatch(model):
        raise ModelError(f"{model}: no such folder: correct {key}")
    return folder if folder.is_dir() else model


def load_tokenizer(model: str, trust_remote_code: bool = False, key: str = "policy.model") -> PreTrainedTokenizerFast:
    """The tokenizer of a model folder or hub name, with a chat template. key: of the configuration, for messages."""
    where = find_model(model, key)
    # Transformers makes up an empty tokenizer for a folder that holds only a config.json.
    if isinstance(where, Path) and not any((where / name).is_file() for name in ("tokenizer.json", "tokenizer.model")):
        raise ModelError(f"{model} holds no tokenizer: copy the model's tokenizer.json and tokenizer_config.json there")
    try:
        tokenizer = AutoTokenizer.from_pretrained(where, trust_remote_code=trust_remote_code)
    except Exception as error:  # a file of another version of the library fails anywhere in it
        raise ModelError(
            f"the tokenizer of {model} cannot be loaded ({one_line(error)}): correct {key}, download the model "
            "and name its folder, or save its tokenizer with the installed version of transformers"
        ) from error
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise ModelError(f"the tokenizer of {model} has no tokenizer.json: save it as a fast tokenizer")
    if not tokenizer.chat_template:
        raise ModelError(
            f"the tokenizer of {model} has no chat template: take the instruction-tuned model, or add its template "
            "as chat_template.jinja"
        )
    return tokenizer


def encode(
    encoder: ChatEncoder,
    prompts: Sequence[SourcePrompt],
    *,
    max_prompt_length: int,
    context: int | None = None,
    skip_bad: bool = False,
) -> Encoded:
    """The prompts as token ids, generation prompt included; of a long one the last `max_prompt_length` tokens.

    The release keeps the end, too, but cuts in the trainer only; here sampler and trainer see the same tokens.
    A prompt that the model's context cannot hold whole, or that its template refuses or drops, is a `PromptError`, or
    left out with `skip_bad`.
    """
    encoded, bad, truncated = [], [], 0
    for prompt in prompts:
        try:
            ids = encoder.ids(prompt.messages)
        except PromptError as error:
            bad.append(f"{prompt.prompt_id}: {error}")
            continue
        if context is not None and len(ids) > context:
            bad.append(f"{prompt.prompt_id}: {len(ids)} tokens, the model's context holds {context}")
            continue
        truncated += len(ids) > max_prompt_length
        encoded.append(
            Prompt(prompt.prompt_id, prompt.text, _end(ids, max_prompt_length, encoder.tokenizer.bos_token_id))
        )
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


def stop_token_ids(encoder: ChatEncoder, eos_token_id: int | list[int] | None) -> list[int]:
    """Where sampling stops: the eos ids of the model's generation config and tokenizer, and the template's end of turn.

    The stop token is sampled and trained as the response's last one; nothing is appended.
    """
    eos = eos_token_id if isinstance(eos_token_id, list) else [eos_token_id]
    ids = [*eos, encoder.tokenizer.eos_token_id, encoder.end_of_turn()]
    return sorted({number for number in ids if number is not None})


def hidden_tokens(tokenizer: PreTrainedTokenizerFast, thoughts: str | None) -> set[int]:
    """The special tokens that a response's text leaves out: all but those that the pattern of a thought looks for."""
    pattern = (thoughts or "").replace("\\", "")
    added = tokenizer.backend_tokenizer.get_added_tokens_decoder()
    return {number for number, token in added.items() if token.special and token.content not in pattern}

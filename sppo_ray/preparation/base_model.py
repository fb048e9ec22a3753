"""The model that a run starts from, read and tried before anything starts.

In: the policy section of the configuration. Out: a `BaseModel`, or a `ModelError` with the remedy.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import AutoConfig, PreTrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from sppo_ray.config import PolicySettings
from sppo_ray.errors import ModelError, one_line
from sppo_ray.prompts import chat_template


@dataclass(frozen=True)
class BaseModel:
    """settings: with the pattern of thoughts.  context: its tokens.  stop_token_ids: where sampling stops."""

    settings: PolicySettings
    encoder: chat_template.ChatEncoder
    context: int
    stop_token_ids: list[int]


def read_model(settings: PolicySettings) -> BaseModel:
    """A model folder or hub name: configuration and tokenizer, not the weights."""
    config = _causal_config(settings)
    tokenizer = chat_template.load_tokenizer(settings.model, settings.trust_remote_code)
    encoder = chat_template.ChatEncoder(tokenizer, settings.chat_template_kwargs)
    stops = chat_template.stop_token_ids(encoder, _eos(settings, config))
    if settings.thoughts is None:
        settings = settings.model_copy(update={"thoughts": encoder.thoughts()})
    return BaseModel(settings, encoder, config.max_position_embeddings, stops)


def check_publishing(settings: PolicySettings) -> None:
    """Write what a published policy keeps of the model into a temporary folder: saving can fail where loading did not."""
    from sppo_ray.run_folder import publishing

    dtype = publishing.torch_dtype(settings.dtype)
    with tempfile.TemporaryDirectory() as folder:
        try:
            publishing.copy_base(settings.model, Path(folder), dtype, settings.trust_remote_code)
        except Exception as error:
            raise ModelError(
                f"{settings.model}: what is trained from it could not be published ({one_line(error)}): correct its "
                "config.json, generation_config.json or tokenizer, or save it again with the installed version of transformers"
            ) from error


def _causal_config(settings: PolicySettings) -> PreTrainedConfig:
    model = settings.model
    where = chat_template.find_model(model)
    try:
        config = AutoConfig.from_pretrained(where, trust_remote_code=settings.trust_remote_code)
    except Exception as error:
        raise ModelError(
            f"policy.model={model}: its config.json cannot be used ({one_line(error)}): correct it, or install a version "
            "of transformers that knows the model"
        ) from error
    text = config.get_text_config()
    if text is not config:
        raise ModelError(
            f"policy.model={model} is a {config.model_type} model with parts for images or sound; only its language model "
            f"can be trained: save that alone, as {text.model_type} (docs/models.md says how), and name its folder"
        )
    own_code = "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {})
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING and not own_code:
        raise ModelError(
            f"policy.model={model} is a {config.model_type} model, not a causal language model: take another"
        )
    if not isinstance(getattr(config, "max_position_embeddings", None), int):
        raise ModelError(
            f"policy.model={model}: config.json does not say how many tokens the model holds: add max_position_embeddings"
        )
    return config


def _eos(settings: PolicySettings, config: PreTrainedConfig) -> Any:
    """The eos ids of the generation config; a model without one has those of its config.json."""
    from sppo_ray.run_folder import publishing

    try:
        generation = publishing.generation_config(settings.model)
    except Exception as error:
        raise ModelError(
            f"policy.model={settings.model}: its generation_config.json cannot be used ({one_line(error)}): correct it"
        ) from error
    return config.eos_token_id if generation is None else generation.eos_token_id

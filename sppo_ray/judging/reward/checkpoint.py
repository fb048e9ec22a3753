"""The files of a reward model, read without its weights, so that a run refuses a bad one at once.

In: a folder or hub name. Out: its configuration and tokenizer, or a `ModelError` with the remedy.
"""

from typing import Any

from transformers import AutoConfig, PreTrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING

from sppo_ray.errors import ModelError, one_line
from sppo_ray.prompts import chat_template

KEY = "judge.model"
HEAD = "ForSequenceClassification"
EXAMPLE = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Because."}]


def read_checkpoint(model: str) -> tuple[PreTrainedConfig, Any]:
    """Configuration and tokenizer of a sequence classifier with one label and a chat template."""
    where = chat_template.find_model(model, KEY)
    try:
        config = AutoConfig.from_pretrained(where)
    except Exception as error:
        raise ModelError(
            f"{KEY}={model}: its config.json cannot be used ({one_line(error)}): copy the whole model, or install a "
            "version of transformers that knows it; models that bring code of their own are not supported"
        ) from error
    names = config.architectures or []
    if type(config) not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING or not any(name.endswith(HEAD) for name in names):
        raise ModelError(
            f"{KEY}={model} is a {' or '.join(names) or config.model_type}, not a sequence classifier: name a reward "
            f"model whose config.json has an architecture that ends with {HEAD}"
        )
    if config.num_labels != 1:
        raise ModelError(
            f"{KEY}={model} has {config.num_labels} labels; a reward model has one, its score: name another model"
        )
    tokenizer = chat_template.load_tokenizer(model, key=KEY)
    try:
        rendered = tokenizer.apply_chat_template(EXAMPLE, tokenize=False)
    except Exception as error:  # a template is a program of the model's: it may fail in any way
        raise ModelError(
            f"{KEY}={model}: its chat template refuses an answer ({one_line(error)}): correct it"
        ) from error
    if EXAMPLE[1]["content"] not in rendered:
        raise ModelError(f"{KEY}={model}: its chat template leaves out the answer: correct it")
    return config, tokenizer

"""The shapes of the models that the recipes name, and of any whose config.json is on this machine.

In: a model's name or folder. Out: its `Shape`, from which parameters, memory and arithmetic follow.
"""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from huggingface_hub import try_to_load_from_cache

from sppo_ray.errors import ConfigError, one_line
from sppo_ray.models.names import is_hub_name


@dataclass(frozen=True)
class Shape:
    """A transformer. kv_heads: key and value heads. norms: RMS or layer norms per layer."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocabulary: int
    context: int
    tied: bool = False  # one matrix for embeddings and logits
    gated: bool = True  # the MLP has three matrices, not two
    norms: int = 2
    capped: bool = False  # attention scores and logits go through a tanh (Gemma 2)
    source: str = "config.json"

    @property
    def embedding(self) -> int:
        return self.vocabulary * self.hidden

    @property
    def layer(self) -> int:
        """Parameters of one layer."""
        attention = 2 * self.hidden * self.head_dim * (self.heads + self.kv_heads)
        return attention + (3 if self.gated else 2) * self.hidden * self.intermediate + self.norms * self.hidden

    @property
    def linear(self) -> dict[str, tuple[int, int]]:
        """Inputs and outputs of the linear maps of one layer, by the names that most architectures give them."""
        hidden, queries, keys = self.hidden, self.heads * self.head_dim, self.kv_heads * self.head_dim
        names = ["q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj"] + ["gate_proj"] * self.gated
        inputs = {"o_proj": queries, "down_proj": self.intermediate}
        outputs = {"q_proj": queries, "k_proj": keys, "v_proj": keys, "up_proj": self.intermediate}
        outputs["gate_proj"] = self.intermediate
        return {name: (inputs.get(name, hidden), outputs.get(name, hidden)) for name in names}

    @property
    def parameters(self) -> int:
        return self.layers * self.layer + self.embedding * (1 if self.tied else 2) + self.hidden


_LLAMA: dict[str, Any] = {
    "heads": 32,
    "kv_heads": 8,
    "head_dim": 128,
    "layers": 32,
    "hidden": 4096,
    "intermediate": 14336,
}
_GEMMA_3: dict[str, Any] = {"tied": True, "norms": 4, "source": "hub"}
_QWEN_3: dict[str, Any] = {"vocabulary": 151936, "context": 40960, "source": "hub"}
_GEMMA: dict[str, Any] = {"vocabulary": 256000, "context": 8192, "tied": True, "norms": 4, "capped": True}
_PLAYGROUND: dict[str, Any] = {
    "layers": 4,
    "hidden": 96,
    "heads": 4,
    "kv_heads": 2,
    "head_dim": 32,
    "intermediate": 256,
}

# Each from the config.json of the model's hub page; "here": sppo_ray/playground.
NAMED = {
    "google/gemma-2-9b-it": Shape(42, 3584, 16, 8, 256, 14336, **_GEMMA, source="hub"),
    "google/gemma-2-27b-it": Shape(46, 4608, 32, 16, 128, 36864, **_GEMMA, source="hub"),
    "mistralai/Mistral-7B-Instruct-v0.2": Shape(**_LLAMA, vocabulary=32000, context=32768, source="hub"),
    "meta-llama/Meta-Llama-3-8B-Instruct": Shape(**_LLAMA, vocabulary=128256, context=8192, source="hub"),
    "mistralai/Mistral-7B-Instruct-v0.3": Shape(**_LLAMA, vocabulary=32768, context=32768, source="hub"),
    "mistralai/Mistral-Nemo-Instruct-2407": Shape(40, 5120, 32, 8, 128, 14336, 131072, 131072, source="hub"),
    "mistralai/Mistral-Small-24B-Instruct-2501": Shape(40, 5120, 32, 8, 128, 32768, 131072, 32768, source="hub"),
    "meta-llama/Llama-3.1-8B-Instruct": Shape(**_LLAMA, vocabulary=128256, context=131072, source="hub"),
    "meta-llama/Llama-3.1-70B-Instruct": Shape(80, 8192, 64, 8, 128, 28672, 128256, 131072, source="hub"),
    "Qwen/Qwen3-0.6B": Shape(28, 1024, 16, 8, 128, 3072, **_QWEN_3, tied=True),
    "Qwen/Qwen3-1.7B": Shape(28, 2048, 16, 8, 128, 6144, **_QWEN_3, tied=True),
    "Qwen/Qwen3-4B": Shape(36, 2560, 32, 8, 128, 9728, **_QWEN_3, tied=True),
    "Qwen/Qwen3-8B": Shape(36, 4096, 32, 8, 128, 12288, **_QWEN_3),
    "Qwen/Qwen3-14B": Shape(40, 5120, 40, 8, 128, 17408, **_QWEN_3),
    "Qwen/Qwen3-32B": Shape(64, 5120, 64, 8, 128, 25600, **_QWEN_3),
    "HuggingFaceTB/SmolLM2-135M-Instruct": Shape(30, 576, 9, 3, 64, 1536, 49152, 8192, tied=True, source="hub"),
    "microsoft/phi-4": Shape(40, 5120, 40, 10, 128, 17920, 100352, 16384, source="hub"),
    # Of the larger Gemma 3 models, the language model alone.
    "google/gemma-3-1b-it": Shape(26, 1152, 4, 1, 256, 6912, 262144, 32768, **_GEMMA_3),
    "google/gemma-3-4b-it": Shape(34, 2560, 8, 4, 256, 10240, 262208, 131072, **_GEMMA_3),
    "google/gemma-3-12b-it": Shape(48, 3840, 16, 8, 256, 15360, 262208, 131072, **_GEMMA_3),
    "google/gemma-3-27b-it": Shape(62, 5376, 32, 16, 128, 21504, 262208, 131072, **_GEMMA_3),
    "llm-blender/PairRM": Shape(24, 1024, 16, 16, 64, 4096, 128104, 2048, tied=True, gated=False, source="hub"),
    "playground": Shape(**_PLAYGROUND, vocabulary=1239, context=4096, tied=True, norms=4, capped=True, source="here"),
}


NEEDED = {
    "model_type",
    "num_hidden_layers",
    "hidden_size",
    "num_attention_heads",
    "intermediate_size",
    "vocab_size",
    "max_position_embeddings",
}


@cache
def model_shape(model: str, key: str, file: Path | None = None) -> Shape:
    """The shape of a model: from its own config.json where that is on this machine, else from the table.

    key: of the configuration, for messages.  file: the config.json, where it is not in the model's folder.
    """
    file = file or Path(model) / "config.json"
    at_hand = file if file.exists() else _cached(model)
    if at_hand is not None:
        return from_config(json.loads(at_hand.read_text()))
    if model in NAMED:
        return NAMED[model]
    raise ConfigError(
        f"{key}={model}: its shape is unknown: give a folder with its config.json, or one of {', '.join(NAMED)}"
    )


def _cached(model: str) -> Path | None:
    """config.json of a model that was downloaded to this machine before."""
    if not is_hub_name(model):
        return None
    found = try_to_load_from_cache(model, "config.json")
    return Path(found) if isinstance(found, str) else None


def from_config(config: dict[str, Any]) -> Shape:
    """A shape from the keys of a Hugging Face config.json; of a model with parts for images, of its language model."""
    if "text_config" in config or not config.keys() >= NEEDED:
        config = _completed(config)
    heads, hidden, kind = config["num_attention_heads"], config["hidden_size"], config["model_type"]
    encoder = kind.startswith("deberta")
    return Shape(
        layers=config["num_hidden_layers"],
        hidden=hidden,
        heads=heads,
        kv_heads=config.get("num_key_value_heads") or heads,
        head_dim=config.get("head_dim") or hidden // heads,
        intermediate=config["intermediate_size"],
        vocabulary=config["vocab_size"],
        context=config["max_position_embeddings"],
        tied=encoder or config.get("tie_word_embeddings", kind.startswith("gemma")),
        gated=not encoder,
        norms=4 if kind.startswith(("gemma2", "gemma3")) else 2,
        capped=config.get("attn_logit_softcapping") is not None,
    )


def _completed(config: dict[str, Any]) -> dict[str, Any]:
    """The keys of the language model's part with the defaults of its class: a config.json may leave them out."""
    from transformers import AutoConfig

    try:
        text = AutoConfig.for_model(**config).get_text_config()
        return text.to_dict() | {key: getattr(text, key) for key in NEEDED}
    except Exception as error:
        raise ConfigError(f"the shape of a {config.get('model_type')} model is unknown ({one_line(error)})") from error

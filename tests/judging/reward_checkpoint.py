"""A tiny reward model with random weights: a Llama with one score, or a DeBERTa, and a byte-level tokenizer with a chat template.

In: a folder. Out: a Hugging Face model folder.
"""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForSequenceClassification,
    DebertaV2Config,
    LlamaConfig,
    PreTrainedTokenizerFast,
)

TEMPLATE = "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
SPECIAL = ["<|user|>", "<|assistant|>", "<|end|>", "<pad>"]
SIZES: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}


def build_reward_model(
    folder: Path, kind: str = "llama", labels: int = 1, context: int = 256, padding: bool = True
) -> Path:
    tokenizer = Tokenizer(
        models.BPE(vocab=dict(zip(sorted(pre_tokenizers.ByteLevel.alphabet()), range(256), strict=True)), merges=[])
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, chat_template=TEMPLATE)
    fast.add_special_tokens({"additional_special_tokens": SPECIAL})
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    shared = SIZES | {"vocab_size": len(fast), "num_labels": labels, "initializer_range": 0.3}
    pad = fast.convert_tokens_to_ids("<pad>") if padding else None
    config = (
        LlamaConfig(**shared, max_position_embeddings=context, pad_token_id=pad)
        if kind == "llama"
        else DebertaV2Config(
            **shared,
            max_position_embeddings=context,
            pad_token_id=pad,
            relative_attention=True,
            pos_att_type=["p2c", "c2p"],
        )
    )
    model = AutoModelForSequenceClassification.from_config(config)
    model.save_pretrained(folder)
    return folder

"""A tiny chat model that judges: a Llama with random weights whose next token is A, B or C more often than not.

In: a folder. Out: a Hugging Face model folder.
"""

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIAL = ["<|user|>", "<|assistant|>", "<|end|>"]


def build_chat_model(folder: Path) -> Path:
    tokenizer = Tokenizer(
        models.BPE(vocab=dict(zip(sorted(pre_tokenizers.ByteLevel.alphabet()), range(256), strict=True)), merges=[])
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, chat_template=TEMPLATE, eos_token="<|end|>")
    fast.add_special_tokens({"additional_special_tokens": SPECIAL})
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(fast),
            hidden_size=128,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            max_position_embeddings=2048,
            initializer_range=0.1,
            bos_token_id=None,
            eos_token_id=fast.convert_tokens_to_ids("<|end|>"),
        )
    )
    with torch.no_grad():  # the first dimension is large in every state, and large for the letters alone
        model.model.embed_tokens.weight[:, 0] = 8.0
        model.lm_head.weight[:, 0] = 0.0
        model.lm_head.weight[fast.convert_tokens_to_ids(["A", "B", "C"]), 0] = 1.5
    model.save_pretrained(folder)
    return folder

"""Models of random weights: Gemma-2-9B for trainer and sampler, PairRM for the judge, or small ones of their kind.

In: a folder. Out: checkpoints as the hub has them.
"""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import (
    AutoModelForCausalLM,
    DebertaV2Config,
    DebertaV2Model,
    DebertaV2Tokenizer,
    Gemma2Config,
    PreTrainedTokenizerFast,
)

from sppo_ray.run_folder.shards import write_shard

GEMMA: dict[str, Any] = {
    "hidden_size": 3584, "num_hidden_layers": 42, "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 256,
    "intermediate_size": 14336, "vocab_size": 256_000, "query_pre_attn_scalar": 256, "sliding_window": 4096,
}  # fmt: skip
DEBERTA: dict[str, Any] = {
    "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096,
    "position_buckets": 256, "max_position_embeddings": 512, "relative_attention": True,
    "share_att_key": True, "pos_att_type": ["p2c", "c2p"], "norm_rel_ebd": "layer_norm",
    "position_biased_input": False, "type_vocab_size": 0,
}  # fmt: skip
SMALL: dict[str, Any] = {"hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 128, "num_attention_heads": 2}
SMALL_GEMMA = SMALL | {"vocab_size": 512, "num_key_value_heads": 1, "head_dim": 32, "query_pre_attn_scalar": 32}
WORDS = "the answer is a longer text of many plain words".split()


def random_gemma(root: Path, tiny: bool, device: torch.device, layers: int | None = None) -> tuple[Path, int]:
    """A Gemma-2 folder of bfloat16 weights, written tensor by tensor, and its number of parameters. layers: all if not given."""
    shape = GEMMA | (SMALL_GEMMA if tiny else {}) | ({"num_hidden_layers": layers} if layers else {})
    config = Gemma2Config(**shape)
    with torch.device("meta"):
        network = AutoModelForCausalLM.from_config(config)
    shapes = {name: tuple(parameter.shape) for name, parameter in network.named_parameters()}
    count = sum(torch.Size(size).numel() for size in shapes.values())
    folder = root / f"gemma-{config.num_hidden_layers}"
    if folder.exists():  # of another part
        return folder, count
    config.dtype = torch.bfloat16
    config.architectures = ["Gemma2ForCausalLM"]
    config.save_pretrained(folder)

    def tensors() -> Iterator[tuple[str, torch.Tensor]]:
        for name, size in shapes.items():
            tensor = torch.zeros(size, dtype=torch.bfloat16, device=device)
            yield name, (tensor if len(size) == 1 else tensor.normal_(std=0.02)).cpu()

    write_shard(folder / "model.safetensors", shapes, torch.bfloat16, tensors(), Counter())
    return folder, count


def add_tokenizer(folder: Path) -> None:
    """Give a Gemma-2 folder a tokenizer of as many words as its vocabulary has, which generators ask for."""
    size = json.loads((folder / "config.json").read_text())["vocab_size"]
    words = Tokenizer(WordLevel({f"w{number}": number for number in range(size)}, unk_token="w3"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="w0", eos_token="w1", bos_token="w2")
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    tokenizer.save_pretrained(folder)


def random_pairrm(root: Path, tiny: bool) -> Path:
    """A PairRM checkpoint in llm-blender's format."""
    shape, folder = DEBERTA | (SMALL if tiny else {}), root / "pairrm"
    base = folder / "base"
    pieces = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]", *(f"\u2581{word}" for word in WORDS)]
    tokenizer = DebertaV2Tokenizer(vocab=[(piece, -float(place)) for place, piece in enumerate(pieces)])
    tokenizer.save_pretrained(base)
    torch.manual_seed(0)
    network = DebertaV2Model(DebertaV2Config(**shape, vocab_size=len(tokenizer), initializer_range=0.05))
    network.save_pretrained(base)
    network.resize_token_embeddings(len(tokenizer) + 4, mean_resizing=False)  # llm-blender adds four prefix tokens
    weights = {f"pretrained_model.{name}": value.contiguous() for name, value in network.state_dict().items()}
    size = shape["hidden_size"]
    heads = {"head_layer.1.weight": (size, 2 * size), "head_layer.1.bias": (size,), "head_layer.4.weight": (1, size)}
    weights |= {name: torch.randn(s) * 0.1 for name, s in heads.items()} | {"head_layer.4.bias": torch.zeros(1)}
    save_file(weights, folder / "model.safetensors")
    settings = {"ranker_type": "pairranker", "model_type": "deberta", "model_name": str(base), "n_tasks": 1,
                "source_maxlength": 1224, "candidate_maxlength": 412, "fp16": torch.cuda.is_available()}  # fmt: skip
    (folder / "config.json").write_text(json.dumps(settings))
    return folder

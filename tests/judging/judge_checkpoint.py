"""A tiny PairRM checkpoint with random weights, in llm-blender's own format, for tests of the judge.

In: a folder and texts to train its tokenizer on. Out: `<folder>/base` (DeBERTa and tokenizer) and `<folder>/pairrm`.
"""

import json
import re
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import DebertaV2Config, DebertaV2Model, DebertaV2Tokenizer

SPECIAL = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"]
PREFIX_TOKENS = 4  # added by llm-blender's collator


def build_checkpoint(
    folder: Path, texts: list[str], source: int = 1224, candidate: int = 412, vocabulary: int = 2000
) -> Path:
    """Returns the checkpoint's folder; its scores are spread over several units."""
    base, checkpoint = folder / "base", folder / "pairrm"
    # A prefix token must not be a piece already: llm-blender's collator would then add fewer than PREFIX_TOKENS.
    tokenizer = DebertaV2Tokenizer(vocab=_unigram([re.sub(r"<\|\w*\|>", "", text) for text in texts], vocabulary))
    tokenizer.save_pretrained(base)
    torch.manual_seed(0)
    config = DebertaV2Config(
        vocab_size=len(tokenizer),
        hidden_size=64,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=192,
        relative_attention=True,
        position_buckets=32,
        max_position_embeddings=64,  # rows are longer: distances beyond share one bucket
        share_att_key=True,
        pos_att_type=["p2c", "c2p"],
        norm_rel_ebd="layer_norm",
        position_biased_input=False,
        type_vocab_size=0,
        initializer_range=0.15,
    )
    model = DebertaV2Model(config)
    model.save_pretrained(base)
    model.resize_token_embeddings(len(tokenizer) + PREFIX_TOKENS, mean_resizing=False)
    weights = {f"pretrained_model.{name}": value.contiguous() for name, value in model.state_dict().items()}
    weights |= {
        "head_layer.1.weight": torch.randn(64, 128) * 0.5,
        "head_layer.1.bias": torch.zeros(64),
        "head_layer.4.weight": torch.randn(1, 64),
        "head_layer.4.bias": torch.zeros(1),
    }
    checkpoint.mkdir()
    save_file(weights, checkpoint / "model.safetensors")
    settings = {
        "ranker_type": "pairranker",
        "model_type": "deberta",
        "model_name": str(base),
        "source_maxlength": source,
        "candidate_maxlength": candidate,
        "n_tasks": 1,
    }
    (checkpoint / "config.json").write_text(json.dumps(settings))
    return checkpoint


def _unigram(texts: list[str], size: int) -> list[tuple[str, float]]:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.train_from_iterator(
        texts, trainers.UnigramTrainer(vocab_size=size, special_tokens=SPECIAL, unk_token="[UNK]", show_progress=False)
    )
    return [(piece, score) for piece, score in json.loads(tokenizer.to_str())["model"]["vocab"]]

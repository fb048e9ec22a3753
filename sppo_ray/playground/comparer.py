"""The judge's network and its input, in PairRM's layout.

In: texts. Out: batches of `[CLS]<|source|>..[SEP][CLS]<|candidate1|>..[SEP][CLS]<|candidate2|>..[SEP]`, and scores.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import DebertaV2Config, DebertaV2Model, PreTrainedTokenizerBase

DROPOUT = 0.05  # llm-blender's default; the encoder itself has none


class Comparer(nn.Module):
    """Parameter names match llm-blender's CrossCompareReranker, so its loader accepts the weights.

    others: of `DebertaV2Config`, in place of the playground's sizes.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, **others: int) -> None:
        super().__init__()
        shape: dict[str, Any] = dict(
            vocab_size=len(tokenizer),
            hidden_size=64,
            num_hidden_layers=3,
            num_attention_heads=2,
            intermediate_size=192,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            type_vocab_size=0,
            relative_attention=True,
            position_buckets=32,
            pos_att_type=["p2c", "c2p"],
            share_att_key=True,
            norm_rel_ebd="layer_norm",
            position_biased_input=False,
            pad_token_id=tokenizer.pad_token_id,
            # At the usual 0.02 a model this narrow learns only style.
            initializer_range=0.1,
        )
        config = DebertaV2Config(**shape | others)
        self.pretrained_model = DebertaV2Model(config)
        size = config.hidden_size
        self.head_layer = nn.Sequential(
            nn.Dropout(DROPOUT), nn.Linear(2 * size, size), nn.Tanh(), nn.Dropout(DROPOUT), nn.Linear(size, 1)
        )

    def encode(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self.pretrained_model(input_ids=ids, attention_mask=mask).last_hidden_state

    def score(self, states: Tensor, source_at: Tensor, candidate_at: Tensor) -> Tensor:
        """(batch,) scores from the states at the prefixes of source and candidate."""
        rows = torch.arange(len(states))
        return self.head_layer(torch.cat([states[rows, source_at], states[rows, candidate_at]], dim=-1)).squeeze(-1)


class Layout:
    """Encodes rows of (source, candidate, candidate); each part is tokenised with its own [CLS] and [SEP]."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self.prefixes = ("<|source|>", "<|candidate1|>", "<|candidate2|>")

    def parts(self, texts: list[str], place: int) -> list[list[int]]:
        return self.tokenizer([self.prefixes[place] + text for text in texts])["input_ids"]

    def join(self, parts: list[list[list[int]]]) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Token ids, mask, and the position of each part's prefix, which follows its [CLS]."""
        rows = [[token for piece in row for token in piece] for row in zip(*parts, strict=True)]
        ids = pad_sequence([torch.tensor(row) for row in rows], True, self.tokenizer.pad_token_id)
        starts, prefix_at = torch.zeros(len(rows), dtype=torch.long), []
        for part in parts:
            prefix_at.append(starts + 1)
            starts = starts + torch.tensor([len(piece) for piece in part])
        return ids, (torch.arange(ids.shape[1]) < starts[:, None]).long(), prefix_at

"""Splits one worker's share of a batch into forward passes: by length, within a budget of tokens.

In: responses with their prompts. Out: groups of them of like length, as right-padded tensors.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from sppo_ray.records import Pair, Response


@dataclass(frozen=True)
class Row:
    """One response to train on. sign: +1 the chosen one of its pair, -1 the rejected one."""

    prompt: list[int]
    response: Response
    weight: float
    sign: int

    def __len__(self) -> int:
        return len(self.prompt) + len(self.response.token_ids)


# For an empty forward pass: under ZeRO-3 all workers must make the same number of them.
FILLER = Row([0], Response([0], [0.0], 0.5), weight=0.0, sign=1)


def rows(pairs: list[Pair]) -> list[Row]:
    """Chosen and rejected of each pair in turn."""
    return [
        Row(pair.prompt_token_ids, response, pair.weight, sign)
        for pair in pairs
        for response, sign in ((pair.chosen, 1), (pair.rejected, -1))
    ]


def micro_batches(share: list[Row], tokens: int, most: int, together: int = 1) -> list[list[Row]]:
    """Rows from long to short in groups of at most `most` rows and `tokens` tokens, padding included.

    together: 2 keeps the two rows of a pair, chosen first, in one group; 1 sorts all rows by themselves.
    Rows of more tokens are a group of their own.
    """
    units = [share[start : start + together] for start in range(0, len(share), together)]
    groups: list[list[Row]] = []
    width = 0  # of the last group
    for unit in sorted(units, key=_longest, reverse=True):
        if groups and len(groups[-1]) + together <= min(most, tokens // width):
            groups[-1] += unit
        else:
            groups.append(unit)
            width = _longest(unit)
    return groups


def _longest(rows: list[Row]) -> int:
    return max(map(len, rows))


@dataclass(frozen=True)
class Batch:
    """Right-padded sequences of prompt and response: (rows, length) but for the last four, which are (rows,)."""

    token_ids: Tensor
    attention_mask: Tensor
    scored: Tensor  # mask of the response tokens
    reference: Tensor  # reference log-probability of each response token, in nats; 0 elsewhere
    win_rate: Tensor
    anchor_gap: Tensor
    weight: Tensor
    sign: Tensor


def collate(group: list[Row], device: torch.device) -> Batch:
    shape = len(group), max(map(len, group))
    token_ids = torch.zeros(shape, dtype=torch.long)
    attention_mask = torch.zeros_like(token_ids)
    scored = torch.zeros(shape, dtype=torch.bool)
    reference = torch.zeros(shape)
    for i, row in enumerate(group):
        token_ids[i, : len(row)] = torch.tensor(row.prompt + row.response.token_ids)
        attention_mask[i, : len(row)] = 1
        scored[i, len(row.prompt) : len(row)] = True
        reference[i, len(row.prompt) : len(row)] = torch.tensor(row.response.reference_logprobs)
    win_rate = torch.tensor([row.response.win_rate for row in group])
    anchor_gap = torch.tensor([row.response.anchor_gap for row in group])
    weight = torch.tensor([row.weight for row in group])
    sign = torch.tensor([row.sign for row in group])
    tensors = token_ids, attention_mask, scored, reference, win_rate, anchor_gap, weight, sign
    return Batch(*(tensor.to(device) for tensor in tensors))

"""Judges compare the K responses to a prompt; the pair to train on is chosen from their comparisons.

In: prompts and responses as plain text. Out: logits (N, K, K) that response i beats response j, then `Judged` and `Pair`.
"""

from sppo_ray.judging.judge import Judge
from sppo_ray.judging.pairrm import PairRM, check_checkpoint, read_settings
from sppo_ray.judging.pairs import cut_pair, filler, judged_rows, pair
from sppo_ray.judging.thoughts import answer, answers

__all__ = [
    "Judge",
    "PairRM",
    "answer",
    "answers",
    "check_checkpoint",
    "cut_pair",
    "filler",
    "judged_rows",
    "pair",
    "read_settings",
]

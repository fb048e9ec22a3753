"""Judges compare the K responses to a prompt; the pair to train on is chosen from their comparisons.

In: prompts and responses as plain text. Out: logits (N, K, K) that response i beats response j, then `Judged` and `Pair`.
Judge kinds are registered by name; a `JudgeKind` answers all questions about a judge before it is loaded.
"""

from sppo_ray.judging.judge import Demand, Judge, JudgeKind, Metered, Usage
from sppo_ray.judging.pairrm import PairRM
from sppo_ray.judging.pairs import cut_pair, filler, judged_rows, pair, trained
from sppo_ray.judging.registry import judge_kind, load_judge
from sppo_ray.judging.thoughts import answer, answers

__all__ = [
    "Demand",
    "Judge",
    "JudgeKind",
    "Metered",
    "PairRM",
    "Usage",
    "answer",
    "answers",
    "cut_pair",
    "filler",
    "judge_kind",
    "judged_rows",
    "load_judge",
    "pair",
    "trained",
]

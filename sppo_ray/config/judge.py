"""The settings of a judge.

In: the section `judge` of a configuration, or `evaluation.judge`. Out: a frozen `JudgeSettings`.
"""

from typing import Annotated, Literal

from sppo_ray.config.values import FREE, Positive, PositiveFloat, Section
from sppo_ray.preference import Estimator


class JudgeSettings(Section):
    """What compares the responses, and how its comparisons become win rates."""

    kind: str = "pairrm"
    """`pairrm`, `reward` (a sequence classifier with one label), `python` (a function), or `package.module:Class` of your own."""
    model: str
    """pairrm, reward: the model's folder or hub name, or `playground`; python: `package.module:function`, or `playground`."""
    estimator: Estimator = "pairwise"
    """How comparisons become win rates: `pairwise` as in the paper, `pooled` as in the authors' release."""
    temperature: PositiveFloat = 1.0
    """Divides the comparison logits before the sigmoid: 1 as published, 2 for PairRM's calibrated probabilities."""
    source_max_length: Positive = 1224
    """pairrm: tokens of the prompt that the judge reads."""
    candidate_max_length: Positive = 412
    """pairrm: tokens of each response that the judge reads; what a short prompt leaves free is added."""
    orders: Literal[1, 2] = 2
    """pairrm: 2 compares every pair in both orders, which shows the bias for a place; 1 in one random order, half the work."""
    batch_tokens: Annotated[Positive, FREE] = 32768
    """pairrm, reward: tokens per forward pass, padding included."""

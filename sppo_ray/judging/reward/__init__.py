"""Reward models: a sequence classifier with one label scores each response once.

In: a model folder or hub name, then texts. Out: comparisons whose logits are differences of scores.
"""

from sppo_ray.judging.reward.judge import RewardModel
from sppo_ray.judging.reward.kind import RewardKind

__all__ = ["RewardKind", "RewardModel"]

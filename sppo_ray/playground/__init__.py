"""A small built-in world in which self-play learns on two CPU cores within minutes; nothing is downloaded.

In: settings. Out: folders with a policy, a judge and prompts, and a rule that scores any answer.
"""

from sppo_ray.playground.answers import rule_score, rule_scores
from sppo_ray.playground.builder import Playground, build, build_reward, cache_folder
from sppo_ray.playground.settings import PlaygroundSettings

__all__ = ["Playground", "PlaygroundSettings", "build", "build_reward", "cache_folder", "rule_score", "rule_scores"]

"""What came out: win rates on held-out prompts, diagnostics of an iteration, signs of an exploited judge.

In: candidates, judgements and training log of an iteration. Out: numbers for the report, and warnings in words.
"""

from sppo_ray.evaluation import alpaca, judge_report
from sppo_ray.evaluation.comparison import (
    Rule,
    against_first,
    align,
    best_of,
    duels,
    mean_characters,
    rule_wins,
    win_rate,
    wins,
)
from sppo_ray.evaluation.diagnostics import cycle_share, diagnose
from sppo_ray.evaluation.exploitation import degeneration
from sppo_ray.evaluation.length_control import length_controlled, more_characters

__all__ = [
    "Rule",
    "against_first",
    "align",
    "alpaca",
    "best_of",
    "cycle_share",
    "degeneration",
    "diagnose",
    "duels",
    "judge_report",
    "length_controlled",
    "mean_characters",
    "more_characters",
    "rule_wins",
    "win_rate",
    "wins",
]

"""Self-play on matrix games, where the theorems of SPPO, INPO and COMAL can be checked with exact numbers.

In: a matrix of preferences. Out: policies, duality gaps, the bound of the theorem.
"""

from sppo_ray.theory.anchored import anchored_self_play, log_kl, pairwise_minimum
from sppo_ray.theory.matrix_games import (
    INTRANSITIVE,
    ROCK_PAPER_SCISSORS,
    average_gap,
    duality_gap,
    has_cycle,
    minimum,
    random_game,
    self_play,
    theorem_bound,
    theorem_eta,
)

__all__ = [
    "INTRANSITIVE",
    "ROCK_PAPER_SCISSORS",
    "anchored_self_play",
    "average_gap",
    "duality_gap",
    "has_cycle",
    "log_kl",
    "minimum",
    "pairwise_minimum",
    "random_game",
    "self_play",
    "theorem_bound",
    "theorem_eta",
]

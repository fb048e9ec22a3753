"""Self-play on matrix games, where the theorems of the paper can be checked with exact numbers.

In: a matrix of preferences. Out: policies, duality gaps, the bound of the theorem.
"""

from sppo_ray.theory.matrix_games import (
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
    "ROCK_PAPER_SCISSORS",
    "average_gap",
    "duality_gap",
    "has_cycle",
    "minimum",
    "random_game",
    "self_play",
    "theorem_bound",
    "theorem_eta",
]

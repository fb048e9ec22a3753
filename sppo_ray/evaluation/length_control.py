"""Length-controlled win rate (Dubois et al., arXiv 2404.04475): what it would be if both answers were equally long.

In: wins and differences of length per prompt. Out: the win rate with a 95 % interval. It is `length_controlled_minimal` of
`alpaca_eval`, without the difficulty of the instructions, which is known for the leaderboard's 805 only.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sppo_ray.records import Candidates

RESAMPLES = 1000
FOLDS = 5  # this and the penalties are those of `alpaca_eval`
COSTS = np.logspace(-4, 4, 10)  # of the log loss, against a weight of 1 of the L1 penalty
SWEEPS = 50

Array = NDArray[np.float64]


def length_controlled(per_prompt: Sequence[float], more_characters: Sequence[float], seed: int) -> dict[str, Any]:
    """The win rate at equal lengths, with a bootstrap 95 % interval over prompts; None for fewer than five prompts.

    per_prompt: wins in [0, 1].  more_characters: by how much the answer that may win is longer.
    """
    won, longer = np.asarray(per_prompt, dtype=np.float64), np.asarray(more_characters, dtype=np.float64)
    if len(won) < FOLDS:
        return {"lc_win_rate": None, "lc_interval": None}
    spread = longer.std(ddof=1)
    features = np.stack([np.ones_like(won), np.tanh(longer / (spread or 1.0))])
    rate = _sigmoid(_fit(features, won, np.ones((1, len(won))), _best_cost(features, won))[0, 0])
    counts = np.random.default_rng(seed).multinomial(len(won), np.full(len(won), 1 / len(won)), size=RESAMPLES)
    # Without a penalty that counts: it would pull every draw towards 1/2, and the interval would be too narrow.
    draws = _sigmoid(_fit(features, won, counts.astype(np.float64), COSTS[-1])[:, 0])
    low, high = np.percentile(draws, [2.5, 97.5])
    return {"lc_win_rate": float(rate), "lc_interval": [float(low), float(high)]}


def more_characters(a: list[Candidates], b: list[Candidates]) -> list[float]:
    """By how much a's answers to each prompt are longer than b's, on average."""
    return [
        float(np.mean([len(text) for text in mine.responses]) - np.mean([len(text) for text in other.responses]))
        for mine, other in zip(a, b, strict=True)
    ]


def _best_cost(features: Array, won: Array) -> float:
    """The cost with the lowest log loss on the folds left out."""
    folds = np.arange(len(won))[::-1] % FOLDS
    left_out = folds == np.arange(FOLDS)[:, None]
    losses = []
    for cost in COSTS:
        scores = _fit(features, won, (~left_out).astype(np.float64), cost) @ features
        loss = np.logaddexp(0.0, scores) - won * scores
        losses.append(np.mean(np.sum(loss * left_out, axis=1) / left_out.sum(axis=1)))
    return float(COSTS[np.argmin(losses)])


def _fit(features: Array, won: Array, counts: Array, cost: float) -> Array:
    """Weights (B, 2) of B logistic regressions with an L1 penalty, by coordinate descent.

    features: (2, N).  won: (N,).  counts: (B, N), how often each regression has each prompt.
    """
    weights = np.zeros((len(counts), len(features)))
    for _ in range(SWEEPS):
        before = weights.copy()
        for index, feature in enumerate(features):
            chance = _sigmoid(weights @ features)
            slope = cost * (counts * (chance - won)) @ feature
            bend = cost * (counts * chance * (1 - chance)) @ feature**2 + 1e-9
            here = weights[:, index]
            best = here - slope / bend
            best = np.sign(best) * np.maximum(np.abs(best) - 1 / bend, 0.0)
            weights[:, index] = here + np.clip(best - here, -1.0, 1.0)
        if np.abs(weights - before).max() < 1e-6:
            break
    return weights


def _sigmoid(scores: Any) -> Any:
    return 1.0 / (1.0 + np.exp(-np.clip(scores, -500.0, 500.0)))

"""From comparison logits to win rates and to the pair that is trained (arXiv 2405.00675; both published estimators).

In: c[i, j], the judge's logit that response i (placed left) beats response j (placed right), zero diagonal.
Out: win rates w[i] of each response against the policy that sampled all K, and the chosen and rejected indices.
"""

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Estimator = Literal["pairwise", "pooled"]


def preference_probabilities(
    comparisons: ArrayLike, estimator: Estimator = "pairwise", temperature: float = 1.0
) -> NDArray[np.float64]:
    """P[i, j], the probability that response i beats response j: (..., K, K) logits to (..., K, K) in [0, 1].

    `pairwise`: sigmoid((c[i, j] - c[j, i]) / temperature), a general preference that may be intransitive (the paper).
    `pooled`: sigmoid((S[i] - S[j]) / temperature) with S[i] = mean over all K j of (c[i, j] - c[j, i]) (the release).
    A temperature of 1 is as published; 2 is calibrated, since PairRM was trained with P = sigmoid(logit).
    """
    margins = _antisymmetric(comparisons)
    if estimator == "pooled":
        scores = margins.mean(axis=-1)
        margins = scores[..., :, None] - scores[..., None, :]
    return 0.5 * (1.0 + np.tanh(margins / (2.0 * temperature)))


def win_rates(
    comparisons: ArrayLike, estimator: Estimator = "pairwise", temperature: float = 1.0
) -> NDArray[np.float64]:
    """w[i] = mean over all K j of P[i, j], with P[i, i] = 1/2: (..., K, K) logits to (..., K) in [0, 1]."""
    return preference_probabilities(comparisons, estimator, temperature).mean(axis=-1)


def select_pair(
    comparisons: ArrayLike, estimator: Estimator = "pairwise", temperature: float = 1.0
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Indices (...,) of the chosen (highest) and rejected (lowest score) response; the first one on ties.

    The score is w for `pairwise` and S for `pooled`.
    """
    if estimator == "pooled":
        scores = _antisymmetric(comparisons).mean(axis=-1)
    else:
        scores = win_rates(comparisons, estimator, temperature)
    return scores.argmax(axis=-1), scores.argmin(axis=-1)


def _antisymmetric(comparisons: ArrayLike) -> NDArray[np.float64]:
    logits = np.asarray(comparisons, dtype=np.float64)
    if logits.ndim < 2 or logits.shape[-1] != logits.shape[-2]:
        raise ValueError(f"comparisons have shape {logits.shape}; expected (..., K, K)")
    return logits - np.swapaxes(logits, -1, -2)

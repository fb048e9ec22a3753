"""Scores of single responses, and probabilities, as the logits of comparisons.

In: one score per response, P[i, j] = sigmoid(s_i - s_j); or probabilities. Out: logits of all ordered pairs; log odds.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

SURE = 1e-6  # probabilities nearer to 0 or 1 count as this near: their logits would be infinite


def score_logits(scores: ArrayLike) -> NDArray[np.float32]:
    """(..., K) scores to (..., K, K) c[i, j] = (s_i - s_j) / 2: estimators take c[i, j] - c[j, i], which is s_i - s_j."""
    values = np.asarray(scores, dtype=np.float32)
    return (values[..., :, None] - values[..., None, :]) / np.float32(2)


def log_odds(chances: ArrayLike) -> NDArray[np.float64]:
    """log(p / (1 - p)) of probabilities, finite also at 0 and 1."""
    clipped = np.asarray(chances, dtype=np.float64).clip(SURE, 1 - SURE)
    return np.asarray(np.log(clipped) - np.log1p(-clipped))

"""Scores of single responses as comparisons, for judges that do not compare.

In: one score per response, P[i, j] = sigmoid(s_i - s_j). Out: logits of all ordered pairs.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def score_logits(scores: ArrayLike) -> NDArray[np.float32]:
    """(..., K) scores to (..., K, K) c[i, j] = (s_i - s_j) / 2: estimators take c[i, j] - c[j, i], which is s_i - s_j."""
    values = np.asarray(scores, dtype=np.float32)
    return (values[..., :, None] - values[..., None, :]) / np.float32(2)

"""Batches of rows under a token budget, which judges that run a network share.

In: the lengths of rows. Out: which rows to compute together, with little padding.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
MAX_PADDING = 0.05  # share of a batch's tokens


def batches(lengths: Ints, budget: int) -> Iterator[Ints]:
    """Batches of row indices of similar length, longest first: rows * longest <= budget, at most MAX_PADDING of it padding."""
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        longest = lengths[order[start]]
        window = order[start : start + max(1, budget // longest)]
        dense = lengths[window].cumsum() >= (1 - MAX_PADDING) * longest * np.arange(1, len(window) + 1)
        yield window[dense]
        start += int(dense.sum())

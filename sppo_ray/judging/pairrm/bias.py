"""The position terms of disentangled attention on a CPU, compiled: distances that share a bucket are one run of keys.

In: the terms of queries and keys for each bucket. Out: the bias of each attention score.
"""

import numba
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


def runs(buckets: Ints) -> tuple[Ints, Ints]:
    """The start of each run of equal buckets, followed by the end of the line; and the bucket of each run."""
    starts = np.flatnonzero(np.diff(buckets, prepend=buckets[0] - 1))
    return np.append(starts, len(buckets)), buckets[starts]


@numba.njit(cache=True, nogil=True)
def fill(bias: Floats, from_query: Floats, from_key: Floats, first: int, starts: Ints, buckets: Ints) -> None:
    """bias[r, h, i, j] = from_query[r, h, i, b] + from_key[r, h, b, j], where b is the bucket of distance first + i - j.

    bias: (rows, heads, n, width).  from_query: (rows, heads, n, B).  from_key: (rows, heads, B, width).
    starts, buckets: from `runs`, over the distances 1 - width to width - 1.
    """
    rows, heads, n, width = bias.shape
    for row in range(rows):
        for head in range(heads):
            for i in range(n):
                own, scores = from_query[row, head, i], bias[row, head, i]
                end = first + i + width - 1  # j = end - (place of the distance in the line)
                for run in range(len(buckets)):
                    low, high = max(0, end - starts[run + 1] + 1), min(width, end - starts[run] + 1)
                    if low < high:
                        query, keys = own[buckets[run]], from_key[row, head, buckets[run]]
                        # Unsigned: an index that may be negative would keep the loop from being vectorised.
                        for j in range(np.uint64(low), np.uint64(high)):
                            scores[j] = query + keys[j]

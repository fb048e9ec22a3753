"""The position terms of disentangled attention on a CPU, compiled.

In: the terms of queries and keys for each bucket. Out: the bias of each attention score.
"""

import numba
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@numba.njit(cache=True, nogil=True)
def fill(bias: Floats, from_query: Floats, from_key: Floats, first: int, buckets: NDArray[np.uint64]) -> None:
    """bias[r, h, i, j] = from_query[r, h, i, b] + from_key[r, h, b, j], where b is the bucket of distance first + i - j.

    bias: (rows, heads, n, width).  from_query: (rows, heads, n, B).  from_key: (rows, heads, B, width), contiguous.
    buckets: (2 * width - 1,), of the distances width - 1 down to 1 - width: those from one query to all keys stand in a row.
    """
    rows, heads, n, width = bias.shape
    for row in range(rows):
        for head in range(heads):
            keys = from_key[row, head].ravel()
            for i in range(n):
                own, scores = from_query[row, head, i], bias[row, head, i]
                bucket = buckets[width - 1 - first - i :]
                # Unsigned: an index that may be negative would keep the loop from being vectorised.
                for j in range(np.uint64(width)):
                    scores[j] = own[bucket[j]] + keys[bucket[j] * np.uint64(width) + j]

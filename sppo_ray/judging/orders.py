"""Which ordered pairs a judge compares: all of them, or each pair once in random order (`judge.orders`).

In: prompts and K responses to each. Out: the comparisons to make; from those that were made, the logits of both orders.
"""

from collections.abc import Sequence
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

ORDERS = {1: "each pair once in random order", 2: "all ordered pairs"}


def to_compare(prompts: Sequence[str], candidates: Sequence[Sequence[str]], orders: int) -> NDArray[np.bool_]:
    """Which comparisons (N, K, K) to make: [n, i, j] places response i of prompt n left of response j.

    orders: 2 for all ordered pairs; 1 for each pair of different texts once. Which of the two is left is drawn from a seed
    made of the prompt and its responses, so it depends neither on the other prompts nor on the machine.
    """
    each = len(candidates[0]) if candidates else 0
    wanted = np.tile(~np.eye(each, dtype=bool), (len(candidates), 1, 1))
    if orders == 2:
        return wanted
    for row, (prompt, texts) in enumerate(zip(prompts, candidates, strict=True)):
        seed = sha256("\0".join([prompt, *texts]).encode("utf-8", "surrogatepass")).digest()
        upper = np.triu(np.random.default_rng(list(seed)).random((each, each)) < 0.5, 1)
        drawn = upper | np.triu(~upper, 1).T
        first = [list(texts).index(text) for text in texts]  # equal texts are compared alike, and never with each other
        wanted[row] = drawn[np.ix_(first, first)]
    return wanted


def both_orders(comparisons: NDArray[np.float32], made: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Logits (N, K, K) of both orders: those of an order that was not made are the other's, c[j, i] = -c[i, j]."""
    kept = np.where(made, comparisons, np.float32(0))
    return np.where(made, kept, 0 - kept.swapaxes(1, 2))

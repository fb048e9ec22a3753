"""The protocol of a judge: which of K responses to a prompt is better, for every ordered pair of them.

In: prompts and K responses to each, plain text without control tokens.
Out: c[i, j] = left score - right score, the logit that response i, placed left, beats response j.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Judge(Protocol):
    def compare(self, prompts: Sequence[str], candidates: Sequence[Sequence[str]]) -> NDArray[np.float32]:
        """N prompts, N lists of K texts: (N, K, K) logits, zero diagonal."""
        ...

    def truncated(self, prompts: Sequence[str], candidates: Sequence[Sequence[str]]) -> NDArray[np.float32]:
        """Of the same: (N,) shares of a prompt's comparisons in which it or one of the two responses was cut."""
        ...

    def sleep(self) -> None:
        """Give up the device memory until `wake`."""
        ...

    def wake(self) -> None: ...

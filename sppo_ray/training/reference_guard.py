"""The reference guard: are the sampler's log-probabilities those of the policy that is trained?

In: d = log pi_t by the trainer minus log pi_t by the sampler, for each response token of an iteration's first batch, in nats.
Out: a `ReferenceGap`, or `ReferenceMismatch` if the two compute differently. Rounding in bfloat16 alone makes a mean |d| of
about 0.03. Stale weights may differ by less than that: engines tell those exactly, by checksums.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from sppo_ray.errors import ReferenceMismatch
from sppo_ray.records import ReferenceGap

# Where the KL is this many times that of any earlier iteration of the run, a tenth of the tolerance holds.
KL_FACTOR, STRICTER = 10, 10


def measure(differences: ArrayLike) -> ReferenceGap:
    d = np.asarray(differences, dtype=np.float64)
    size = np.abs(d)
    return ReferenceGap(
        mean_abs=float(size.mean()),
        p95_abs=float(np.quantile(size, 0.95)),
        mean=float(d.mean()),
        k3=float((np.expm1(d) - d).mean()),
    )


def check(gap: ReferenceGap, tolerance: float, earlier_k3: Sequence[float] = ()) -> None:
    """Raise `ReferenceMismatch` if the gap is above the limit or not a number. earlier_k3: of the run's earlier iterations."""
    jump = bool(earlier_k3) and gap.k3 > KL_FACTOR * max(earlier_k3)
    limit = tolerance / STRICTER if jump else tolerance
    if gap.mean_abs <= limit:  # false for NaN
        return
    if not math.isfinite(gap.mean_abs):
        raise ReferenceMismatch(
            "the log-probabilities of the first batch are not numbers, in the trainer or in the sampler: the policy's weights "
            "are damaged, or its forward pass overflows. Generate text with policy.model to see which; where it overflows, "
            "a new run needs policy.dtype=float32 or another policy.attention"
        )
    why = f"training.reference_tolerance is {tolerance:g}"
    if jump:
        why += f", a tenth of which holds because the KL is more than {KL_FACTOR} times that of any earlier iteration"
    accepted = float(f"{2 * gap.mean_abs * tolerance / limit:.1g}")
    raise ReferenceMismatch(
        f"on the first batch the sampler's log-probabilities differ from the trainer's by {gap.mean_abs:.3g} nats per token "
        f"(95 % of tokens by less than {gap.p95_abs:.3g}; trainer minus sampler {gap.mean:+.2g}; KL {gap.k3:.2g}); {why}. "
        "They compute differently. With training.reference=recompute the trainer computes both; with "
        f"training.reference_tolerance={accepted:g} the difference is accepted. The same command with either continues the run"
    )

"""Diagnostics of one iteration: how the judge decided, what was sampled, how far the policy moved, what looks exploited.

In: the iteration's `Candidates` and `Judged`, its training log, the held-out responses of its policy and of the base.
Out: `Diagnostics`, a row of report.json, with warnings in words.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from difflib import SequenceMatcher
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sppo_ray.evaluation.exploitation import Drift, drift, warnings
from sppo_ray.preference import preference_probabilities
from sppo_ray.records import Candidates, Judged, KeptShare, ReferenceGap

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
CONFIDENT = 0.95  # a win with P above it, or below 1 - it
NEAR_IDENTICAL = 0.9  # share of words that two texts have in common, in order
SETTLED = 0.25  # the last part of an epoch, in which the learning rate ends and the policy hardly moves


@dataclass(frozen=True)
class Diagnostics:
    """Shares and rates are in [0, 1]; None where the data do not say. Judge numbers are over all pairs of candidates.

    responses_set_aside: whose comparisons or log-probabilities are not finite numbers, among the prompts that were judged.
    equal_share: of prompts whose candidates are all judged equal, so that chosen and rejected are the same response.
    left_out_share: of prompts whose pair is not trained, as its win rates differ by less than `training.min_margin`.
    cycle_share: of prompts whose candidates contain a cycle of strict preferences, P[i, j] > 1/2.
    position_bias: mean of c[i, j] + c[j, i] over i < j, logits; above 0 the judge favours the left place. None where the
        judge compared each pair in one order only.
    truncation_rate: of comparisons in which the judge saw a text cut.
    length_correlation: mean over prompts of Pearson's r of win rate and length in tokens within the prompt.
    near_identical_pairs, confident_near_identical: pairs of texts that differ and share nine words in ten in order, and
        the share of them that the judge decides confidently (P above 0.95 or below 0.05).
    judge_confidence, confident_share: mean |P - 1/2|, and share of pairs decided confidently.
    win_rate_chosen, win_rate_rejected: quantiles.
    kl_previous: nats per response, as `previous_kl` estimates it.  kl_previous_per_token: over the mean length.
    duplicate_share: of candidates whose text an earlier candidate of the prompt has.
    skipped_steps: optimizer steps that left the weights as they were, because the loss or its gradient was not a number.
    reference: sampler against trainer, on the first batch.
    kept: what the snapshot, which is rounded, keeps of the update.
    drift: of the responses to the held-out prompts from the base's.
    """

    prompts: int
    responses_set_aside: int
    equal_share: float
    left_out_share: float
    cycle_share: float
    position_bias: float | None
    truncation_rate: float
    length_correlation: float | None
    near_identical_pairs: int
    confident_near_identical: float | None
    judge_confidence: float
    confident_share: float
    win_rate_chosen: dict[str, float]
    win_rate_rejected: dict[str, float]
    kl_previous: float | None
    kl_previous_per_token: float | None
    duplicate_share: float
    skipped_steps: int
    reference: ReferenceGap | None
    kept: KeptShare | None
    drift: Drift | None
    warnings: list[str]

    def row(self) -> dict[str, Any]:
        return asdict(self)


def diagnose(
    scored: Iterable[tuple[Candidates, Judged]],
    training: Sequence[Mapping[str, Any]],
    held_out: list[Candidates],
    base: list[Candidates],
    *,
    temperature: float = 1.0,
    orders: int = 2,
    min_margin: float = 0.0,
    kept: KeptShare | None = None,
) -> Diagnostics:
    """Everything about one iteration. scored is read once, prompt by prompt, so that an iteration need not fit in memory.

    held_out, base: responses of the iteration's policy and of the base to the same prompts; both may be empty.
    orders: in which the judge compared each pair, 1 or 2.
    The judge is described by its own pairwise preferences, whatever the estimator: pooled ones cannot form a cycle.
    """
    facts = [_Facts.of(candidates, judged) for candidates, judged in scored]
    comparisons, lengths, win_rates, near = (
        np.array([getattr(fact, name) for fact in facts]) for name in ("comparisons", "lengths", "win_rates", "near")
    )
    left, right = np.triu_indices(comparisons.shape[-1], 1)
    wins = preference_probabilities(comparisons, "pairwise", temperature)[:, left, right]
    known = ~np.isnan(wins)  # without responses that were set aside
    near &= known
    confident = np.maximum(wins, 1 - wins) > CONFIDENT
    kl = previous_kl(training)
    numbers: dict[str, Any] = {
        "prompts": len(facts),
        "responses_set_aside": int(np.isnan(win_rates).sum()),
        "equal_share": float(np.mean([fact.equal for fact in facts])),
        "left_out_share": float(np.mean([fact.chosen - fact.rejected < min_margin for fact in facts])),
        "cycle_share": cycle_share(comparisons),
        "position_bias": position_bias(comparisons) if orders == 2 else None,
        "truncation_rate": float(np.mean([fact.truncated for fact in facts])),
        "length_correlation": length_correlation(win_rates, lengths),
        "near_identical_pairs": int(near.sum()),
        "confident_near_identical": float(confident[near].mean()) if near.any() else None,
        "judge_confidence": float(np.abs(wins - 0.5)[known].mean()),
        "confident_share": float(confident[known].mean()),
        "win_rate_chosen": quantiles([fact.chosen for fact in facts]),
        "win_rate_rejected": quantiles([fact.rejected for fact in facts]),
        "kl_previous": kl,
        "kl_previous_per_token": None if kl is None else kl / float(lengths.mean()),
        "duplicate_share": sum(fact.duplicates for fact in facts) / lengths.size,
        "skipped_steps": sum(bool(row.get("skipped")) for row in training),
        "reference": next((gap for gap in map(ReferenceGap.of, training) if gap), None),
        "kept": kept,
    }
    moved = drift(held_out, base) if held_out else None
    return Diagnostics(**numbers, drift=moved, warnings=warnings(numbers, moved))


def cycle_share(comparisons: ArrayLike) -> float:
    """Share of prompts with a directed cycle in "i beats j", c[i, j] > c[j, i]: (N, K, K) logits; ties beat nobody."""
    logits = np.asarray(comparisons, dtype=np.float64)
    beats = (logits > np.swapaxes(logits, -1, -2)).astype(np.float64)
    walks = beats
    for _ in range(beats.shape[-1] - 1):
        walks = (walks @ beats > 0).astype(np.float64)
    return float(walks.any(axis=(1, 2)).mean())  # a walk of K steps over K responses comes back somewhere


def position_bias(comparisons: ArrayLike) -> float:
    """Mean of c[i, j] + c[j, i] over all pairs of all prompts, logits: (N, K, K)."""
    logits = np.asarray(comparisons, dtype=np.float64)
    left, right = np.triu_indices(logits.shape[-1], 1)
    return float(np.nanmean(logits[:, left, right] + logits[:, right, left]))


def length_correlation(win_rates: ArrayLike, lengths: ArrayLike) -> float | None:
    """Mean over prompts of Pearson's r between win rate and length, both (N, K); prompts where either is constant say nothing."""
    w, n = (np.asarray(values, dtype=np.float64) for values in (win_rates, lengths))
    varied = (np.ptp(w, axis=1) > 0) & (np.ptp(n, axis=1) > 0)
    if not varied.any():
        return None
    w, n = (values[varied] - values[varied].mean(axis=1, keepdims=True) for values in (w, n))
    return float(((w * n).sum(axis=1) / np.sqrt((w**2).sum(axis=1) * (n**2).sum(axis=1))).mean())


def previous_kl(training: Sequence[Mapping[str, Any]]) -> float | None:
    """Estimate of KL(pi_t || pi), the sampler against the trained policy, in nats per response; None without a step taken.

    The mean of log pi_t - log pi (k1) over the chosen and rejected responses of the last quarter of the training log,
    where the policy is almost the published one and has not been trained on the responses yet (in the first epoch).
    They come from pi_t at the run's temperature, but are the best and worst of K and not a fair draw: to first order
    the two tilts cancel. An estimate near 0 may be slightly negative.
    """
    taken = [row for row in training if row["pairs"] and not row.get("skipped")]
    if not taken:
        return None
    rows = taken[-max(1, round(len(taken) * SETTLED)) :]
    pairs = sum(row["pairs"] for row in rows)
    return sum(-row["pairs"] * (row["chosen_log_ratio"] + row["rejected_log_ratio"]) / 2 for row in rows) / pairs


def quantiles(values: Sequence[float]) -> dict[str, float]:
    return {f"{q:g}": float(value) for q, value in zip(QUANTILES, np.quantile(values, QUANTILES), strict=True)}


def near_identical(one: str, other: str) -> bool:
    """Whether two texts differ and share nine words in ten, in order."""
    if one == other:
        return False
    words = one.split(), other.split()
    if 2 * min(map(len, words)) < NEAR_IDENTICAL * sum(map(len, words)):
        return False
    matcher = SequenceMatcher(None, *words, autojunk=False)
    return matcher.quick_ratio() >= NEAR_IDENTICAL and matcher.ratio() >= NEAR_IDENTICAL


@dataclass(frozen=True)
class _Facts:
    """What the diagnostics keep of one prompt; near is of the pairs i < j."""

    comparisons: NDArray[np.float32]
    lengths: list[int]
    win_rates: list[float]
    near: list[bool]
    chosen: float
    rejected: float
    equal: bool
    duplicates: int
    truncated: float

    @staticmethod
    def of(candidates: Candidates, judged: Judged) -> "_Facts":
        texts = judged.responses
        return _Facts(
            comparisons=np.array(judged.comparisons, dtype=np.float32),
            lengths=[len(ids) for ids in candidates.token_ids],
            win_rates=judged.win_rates,
            near=[near_identical(one, other) for one, other in combinations(texts, 2)],
            chosen=judged.win_rates[judged.chosen],
            rejected=judged.win_rates[judged.rejected],
            equal=judged.chosen == judged.rejected,
            duplicates=len(texts) - len(set(texts)),
            truncated=judged.truncated,
        )

"""Win rates of one policy's answers against another's.

In: comparison logits of answer against answer, or a rule that scores any answer. Out: win rates with 95 % intervals.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sppo_ray.config import JudgeSettings
from sppo_ray.preference import select_pair
from sppo_ray.records import Candidates

Rule = Callable[[str, str], float | None]  # prompt, answer -> score; None for a prompt that it does not know

RESAMPLES = 1000

log = logging.getLogger(__name__)


def wins(comparisons: ArrayLike) -> NDArray[np.float64]:
    """1 where the first of two answers wins, 1/2 on ties, else 0: (N, 2, 2) logits of both orders to (N,)."""
    logits = np.asarray(comparisons, dtype=np.float64)
    return _wins(logits[:, 0, 1], logits[:, 1, 0])


def win_rate(per_prompt: Sequence[float], seed: int) -> dict[str, Any]:
    """The mean of wins per prompt, with a bootstrap 95 % interval over prompts."""
    values = np.asarray(per_prompt, dtype=np.float64)
    draws = np.random.default_rng(seed).integers(len(values), size=(RESAMPLES, len(values)))
    low, high = np.percentile(values[draws].mean(axis=1), [2.5, 97.5])
    return {"win_rate": float(values.mean()), "interval": [float(low), float(high)]}


def align(a: list[Candidates], b: list[Candidates]) -> tuple[list[Candidates], list[Candidates]]:
    """The answers of both to the prompts that both were asked, in the order of the first."""
    other = {row.prompt_id: row for row in b}
    shared = [row for row in a if row.prompt_id in other]
    return shared, [other[row.prompt_id] for row in shared]


def duels(a: list[Candidates], b: list[Candidates]) -> tuple[list[str], list[list[str]]]:
    """Prompts and pairs of answers for the judge: the n-th answer of one against the n-th of the other."""
    rows = [
        (mine.prompt, list(pair))
        for mine, other in zip(a, b, strict=True)
        for pair in zip(mine.responses, other.responses, strict=True)
    ]
    return [prompt for prompt, _ in rows], [pair for _, pair in rows]


def best_of(comparisons: ArrayLike, judge: JudgeSettings) -> NDArray[np.intp]:
    """The index of the best of n answers to each prompt, the one with the highest win rate: (N, n, n) logits to (N,)."""
    return select_pair(comparisons, judge.estimator, judge.temperature)[0]


def against_first(comparisons: ArrayLike, chosen: NDArray[np.intp]) -> NDArray[np.float64]:
    """1 where the chosen of n answers beats the first, 1/2 where it is as good or the first itself: (N, n, n) to (N,)."""
    logits = np.asarray(comparisons, dtype=np.float64)
    rows = np.arange(len(logits))
    return _wins(logits[rows, chosen, 0], logits[rows, 0, chosen])


def _wins(left: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
    """From the logits of both orders. Where they are not finite numbers, nobody wins."""
    known = np.isfinite(left) & np.isfinite(right)
    if not known.all():
        log.warning(
            "the judge's comparisons of %d of %d pairs are not numbers: they count as ties", (~known).sum(), known.size
        )
    return 0.5 + 0.5 * np.sign(np.where(known, left, 0.0) - np.where(known, right, 0.0))


def mean_characters(candidates: list[Candidates]) -> float:
    return float(np.mean([len(text) for row in candidates for text in row.responses]))


def rule_wins(rule: Rule, new: list[Candidates], old: list[Candidates]) -> float | None:
    """The rule's win rate of one policy's answers against another's, every answer against every other, ties half.

    None where the rule knows none of the prompts.
    """
    rates = []
    for mine, other in zip(new, old, strict=True):
        scores = [[rule(row.prompt, answer) for answer in row.responses] for row in (mine, other)]
        if None in scores[0] + scores[1]:
            continue
        a, b = np.asarray(scores[0], dtype=np.float64), np.asarray(scores[1], dtype=np.float64)
        rates.append((0.5 + 0.5 * np.sign(a[:, None] - b[None, :])).mean())
    return float(np.mean(rates)) if rates else None

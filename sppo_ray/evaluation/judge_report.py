"""What a judge does on a set of prompts, and how far two judges agree on it.

In: comparison logits, in groups (N, K, K) of prompts with K responses each. Out: numbers for a report.
A pair is two responses to one prompt; the judge's decision is the sign of its margin c[i, j] - c[j, i], 0 for a tie.
"""

from collections.abc import Sequence
from itertools import pairwise
from math import comb
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sppo_ray.config import JudgeSettings
from sppo_ray.evaluation.diagnostics import position_bias
from sppo_ray.preference import preference_probabilities

Groups = Sequence[NDArray[np.float32]]
MARGINS = (0.0, 0.1, 0.25, 0.4, 0.5)  # edges of |P - 1/2|


def describe(groups: Groups, truncated: NDArray[np.float32], seconds: float, settings: JudgeSettings) -> dict[str, Any]:
    """What one judge does. truncated: per prompt, the share of its comparisons with a cut text. seconds: that they took.

    position_bias: mean of c[i, j] + c[j, i], logits; None where each pair was compared in one order only.
    """
    comparisons = sum(logits.shape[0] * logits.shape[1] * (logits.shape[1] - 1) for logits in groups)
    pairs, decisions = comparisons // 2, np.sign(_margins(groups, settings))
    bias = sum(position_bias(logits) * logits.shape[0] * comb(logits.shape[1], 2) for logits in groups) / pairs
    made = pairs * settings.orders
    return {
        "judge": settings.model,
        "kind": settings.kind,
        "comparisons": made,
        "comparisons_per_second": made / seconds,
        "ties": float((decisions == 0).mean()),
        "position_bias": bias if settings.orders == 2 else None,
        "intransitive_triples": intransitive_triples(groups),
        "truncation_rate": float(np.mean(truncated)),
    }


def agreement(a: Groups, b: Groups, first: JudgeSettings, second: JudgeSettings) -> dict[str, Any]:
    """How far judge b decides the same pairs as judge a: share and Cohen's kappa, over all and by how sure a is.

    by_margin: |P - 1/2| of a within [from, to), the last one included.
    """
    sure, decided = _margins(a, first), _margins(b, second)
    found = _agreement(sure, decided)
    edges = pairwise(MARGINS)
    found["by_margin"] = [
        {"from": low, "to": high}
        | _agreement(
            *(margins[(np.abs(sure) >= low) & ((np.abs(sure) < high) | (high == 0.5))] for margins in (sure, decided))
        )
        for low, high in edges
    ]
    return found


def intransitive_triples(groups: Groups) -> float | None:
    """Share of the triples of responses to one prompt in which strict preferences come round; None without a triple."""
    triples = sum(logits.shape[0] * comb(logits.shape[1], 3) for logits in groups)
    if not triples:
        return None
    cyclic = 0.0
    for logits in groups:
        beats = (logits > logits.swapaxes(1, 2)).astype(np.float64)
        cyclic += np.trace(beats @ beats @ beats, axis1=1, axis2=2).sum() / 3
    return float(cyclic / triples)


def cohens_kappa(a: ArrayLike, b: ArrayLike) -> float | None:
    """Agreement of two lists of decisions beyond chance (Cohen 1960); None where chance alone makes them agree."""
    one, other = np.asarray(a), np.asarray(b)
    expected = sum((one == kind).mean() * (other == kind).mean() for kind in np.union1d(one, other))
    return None if expected == 1 else float(((one == other).mean() - expected) / (1 - expected))


def _agreement(a: NDArray[np.float64], b: NDArray[np.float64]) -> dict[str, Any]:
    if not a.size:
        return {"pairs": 0, "agreement": None, "kappa": None}
    one, other = np.sign(a), np.sign(b)
    return {"pairs": a.size, "agreement": float((one == other).mean()), "kappa": cohens_kappa(one, other)}


def _margins(groups: Groups, settings: JudgeSettings) -> NDArray[np.float64]:
    """P[i, j] - 1/2 of all pairs i < j, by the judge's own pairwise preferences; 0 where they are not numbers."""
    found = []
    for logits in groups:
        chances = preference_probabilities(logits, "pairwise", settings.temperature)
        found.append(chances[:, *np.triu_indices(logits.shape[1], 1)].ravel() - 0.5)
    return np.nan_to_num(np.concatenate(found))

"""The pairs of an iteration that the page shows, and what it shows of each.

In: the judged prompts of an iteration. Out: those of the widest margin and of the most disagreement.
"""

import heapq
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from sppo_ray.config import Config
from sppo_ray.evaluation import cycle_share
from sppo_ray.preference import preference_probabilities
from sppo_ray.records import Judged
from sppo_ray.run_folder import Ledger

EACH = 100  # pairs per iteration, by margin and by disagreement each
CYCLE = 1e6  # logits: puts prompts with a cycle before all others


def browsed(ledger: Ledger, config: Config, iteration: int, each: int = EACH) -> list[dict[str, Any]]:
    """The pairs of an iteration that the page shows: those of widest margin, then those of most disagreement."""
    found = heapq.nlargest(each, ledger.rows(Judged, iteration), key=margin)
    already = {judged.prompt_id for judged in found}
    disputed = heapq.nlargest(each, ledger.rows(Judged, iteration), key=disagreement)
    return [shown(row, config, iteration) for row in found + [row for row in disputed if row.prompt_id not in already]]


def margin(judged: Judged) -> float:
    return judged.win_rates[judged.chosen] - judged.win_rates[judged.rejected]


def disagreement(judged: Judged) -> float:
    """By how many logits the judge changes its mind when two responses change places; cycles above everything."""
    return _position(judged) + CYCLE * cycle_share([judged.comparisons])


def _position(judged: Judged) -> float:
    logits = np.asarray(judged.comparisons)
    return float(np.nanmax(np.abs(logits + logits.T)))


def shown(judged: Judged, config: Config, iteration: int) -> dict[str, Any]:
    """A judged prompt as a page shows it: its numbers, the matrix of preferences, the responses with their marks."""
    marks = {judged.rejected: "rejected", judged.chosen: "chosen"}
    judge = config.judge
    preferences = preference_probabilities(judged.comparisons, judge.estimator, judge.temperature)
    return {
        "iteration": iteration,
        "prompt": judged.prompt,
        "margin": round(margin(judged), 6),
        "rank": round(disagreement(judged), 6),
        "disagreement": _position(judged),
        "cycle": cycle_share([judged.comparisons]) > 0,
        "matrix": _known(preferences),
        "responses": [
            {"text": text, "win_rate": win_rate, "mark": marks.get(index, "")}
            for index, (text, win_rate) in enumerate(zip(judged.responses, _known(judged.win_rates), strict=True))
        ],
    }


def _known(values: ArrayLike) -> list[Any]:
    """The values as lists, None in place of NaN: of a response that was set aside."""
    array = np.asarray(values, dtype=np.float64)
    known = array.astype(object)
    known[np.isnan(array)] = None
    found: list[Any] = known.tolist()
    return found

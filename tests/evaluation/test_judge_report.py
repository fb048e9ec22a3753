"""Numbers of a judge and of two judges together, worked by hand."""

import numpy as np
import pytest

from sppo_ray.config import JudgeSettings
from sppo_ray.evaluation.judge_report import agreement, cohens_kappa, describe, intransitive_triples

SETTINGS = JudgeSettings(model="m")
RING = np.float32([[0, 1, 0], [0, 0, 1], [1, 0, 0]])  # 0 beats 1 beats 2 beats 0
ORDER = np.float32([[0, 1, 1], [0, 0, 1], [0, 0, 0]])


def pairs(*logits: float) -> np.ndarray:
    """One prompt of two responses per logit, by which the first wins."""
    return np.float32([[[0, logit / 2], [-logit / 2, 0]] for logit in logits])


def test_kappa_by_hand() -> None:
    """8 of 10 agree; chance alone: 0.5 x 0.7 + 0.5 x 0.3 = 0.5."""
    a, b = [1] * 5 + [-1] * 5, [1] * 5 + [1, 1, -1, -1, -1]
    assert cohens_kappa(a, b) == pytest.approx((0.8 - 0.5) / (1 - 0.5))
    assert cohens_kappa(a, a) == 1 and cohens_kappa([1, -1], [-1, 1]) == -1
    assert cohens_kappa([1, 1], [1, 1]) is None


def test_triples_that_come_round() -> None:
    assert intransitive_triples([np.stack([RING, ORDER])]) == 0.5
    # Four responses: the ring, and one that beats all three. Of its 4 triples one comes round.
    above = np.zeros((1, 4, 4), np.float32)
    above[0, 1:, 1:], above[0, 0, 1:] = RING, 1
    assert intransitive_triples([above]) == 0.25
    assert intransitive_triples([above, np.stack([RING] * 4)]) == 5 / 8
    assert intransitive_triples([pairs(1.0)]) is None


def test_one_judge() -> None:
    biased = np.float32([[[0, 2], [-1, 0]]])
    found = describe([np.stack([RING, ORDER]), biased], np.float32([0, 0.5, 1]), 2.0, SETTINGS)
    # 2 x 6 comparisons and 2; c[i, j] + c[j, i] is 1 for each of the six pairs of three, and for the one of two.
    assert (found["comparisons"], found["comparisons_per_second"], found["position_bias"]) == (14, 7.0, 1.0)
    assert (found["truncation_rate"], found["intransitive_triples"], found["ties"]) == (0.5, 0.5, 0.0)
    once = describe([biased], np.float32([0]), 2.0, SETTINGS.model_copy(update={"orders": 1}))
    assert (once["comparisons"], once["position_bias"]) == (1, None)


def test_two_judges_by_how_sure_the_first_is() -> None:
    """sigmoid(0.1) is 0.525 and sigmoid(4) 0.982: two unsure pairs, of which one agrees, and three sure ones that all do."""
    a, b = pairs(0.1, -0.1, 4, -4, 4), pairs(3, 3, 1, -1, 1)
    found = agreement([a], [b], SETTINGS, SETTINGS)
    assert (found["pairs"], found["agreement"]) == (5, 0.8)
    # Chance: 3/5 x 4/5 + 2/5 x 1/5 = 14/25.
    assert found["kappa"] == pytest.approx((0.8 - 0.56) / 0.44)
    unsure, *between, sure = found["by_margin"]
    assert (unsure["pairs"], unsure["agreement"], unsure["kappa"]) == (2, 0.5, 0.0)
    assert (sure["from"], sure["pairs"], sure["agreement"], sure["kappa"]) == (0.4, 3, 1.0, 1.0)
    assert [one["agreement"] for one in between] == [None, None]


def test_ties_are_decisions_of_their_own() -> None:
    assert agreement([pairs(0, 1)], [pairs(0, 0)], SETTINGS, SETTINGS)["agreement"] == 0.5

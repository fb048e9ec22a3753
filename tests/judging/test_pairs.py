"""From a judged prompt to a training row: the sampled tokens, their targets, and what is cut above the lengths."""

import math

import numpy as np
import pytest

from sppo_ray.config import load_config
from sppo_ray.judging import cut_pair, filler, judged_rows, pair
from sppo_ray.records import Anchored, Candidates, Judged, Response, SetAside

LN3 = math.log(3)


def response(tokens: int, start: int = 100) -> Response:
    """Token i has the log-probability -i / 100, so that a wrong cut shows."""
    ids = list(range(start, start + tokens))
    return Response(ids, [-number / 100 for number in ids], 0.5)


def cut(prompt: int, chosen: int, rejected: int) -> tuple[list[int], Response, Response]:
    return cut_pair(list(range(prompt)), response(chosen), response(rejected), max_length=10, max_prompt_length=6)


def judged(responses: int = 3) -> tuple[Candidates, Judged]:
    """Response 1 beats 0 by ln 9 (P = 9/10) and 2 by ln 3 (3/4); 0 and 2 are even."""
    candidates = Candidates(
        "p",
        "Why?",
        [1, 2],
        ["a", "b", "c"],
        [[10], [20, 21], [30]],
        [[-1.0], [-2.0, -2.1], [-3.0]],
        ["stop"] * 3,
        "iter-0",
    )
    comparisons = [[0.0, -LN3, 0.0], [LN3, 0.0, LN3], [0.0, 0.0, 0.0]]
    rates = [(0.5 + 0.1 + 0.5) / 3, (0.9 + 0.5 + 0.75) / 3, (0.5 + 0.25 + 0.5) / 3]
    return candidates, Judged("p", "Why?", ["a", "b", "c"], comparisons, rates, 1, 0, "iter-0")


def configured(*overrides: str):
    return load_config("playground", overrides=list(overrides))


def test_a_pair_trains_the_sampled_tokens_with_the_sampler_s_log_probabilities():
    row = pair(*judged(), configured())
    assert row.prompt_token_ids == [1, 2]
    assert (row.chosen.token_ids, row.chosen.reference_logprobs) == ([20, 21], [-2.0, -2.1])
    assert (row.rejected.token_ids, row.rejected.reference_logprobs) == ([10], [-1.0])
    assert (row.prompt_id, row.weight) == ("p", 1.0)


@pytest.mark.parametrize(
    "loss, estimator, chosen, rejected",
    [
        ("sppo", "pairwise", 2.15 / 3, 1.1 / 3),
        ("sppo_single", "pairwise", 0.9, 0.1),
        # S of 0, 1, 2 is -2/3, 1 and -1/3 times ln 3, so P[1, 0] = sigmoid(5/3 ln 3).
        ("sppo_single", "pooled", 3 ** (5 / 3) / (1 + 3 ** (5 / 3)), 1 / (1 + 3 ** (5 / 3))),
        ("sppo_hard", "pairwise", 1.0, 0.0),
    ],
)
def test_targets(loss, estimator, chosen, rejected):
    row = pair(*judged(), configured(f"training.loss={loss}", f"judge.estimator={estimator}"))
    assert row.chosen.win_rate == pytest.approx(chosen)
    assert row.rejected.win_rate == pytest.approx(rejected)


def test_the_gap_to_the_anchors_is_of_the_tokens_that_are_trained():
    """Under an anchor of weight 1/3 the chosen response has -4.5 where the sampler has -4.1; under one of 1/2, -5.1."""
    anchors = [
        (1 / 3, Anchored("p", [-2.0, -2.5], [-4.0], "iter-0")),
        (1 / 2, Anchored("p", [-2.0, -3.1], [-1.0], "iter-1")),
    ]
    whole = pair(*judged(), configured(), anchors)
    assert whole.chosen.anchor_gap == pytest.approx(-0.4 / 3 - 1.0 / 2)
    assert whole.rejected.anchor_gap == pytest.approx(-3.0 / 3)
    # Cut to one token, the chosen response has -2 under all three.
    cut = pair(*judged(), configured("policy.max_length=3", "policy.max_prompt_length=2"), anchors)
    assert (cut.chosen.token_ids, cut.chosen.anchor_gap) == ([20], 0.0)
    assert pair(*judged(), configured()).chosen.anchor_gap == 0.0


def test_a_pair_that_fits_is_not_cut():
    prompt, chosen, rejected = cut(7, 3, 2)  # a prompt above its own limit is kept, as in the release
    assert (len(prompt), len(chosen.token_ids), len(rejected.token_ids)) == (7, 3, 2)


def test_a_long_prompt_loses_its_beginning_first():
    prompt, chosen, rejected = cut(9, 4, 2)
    assert prompt == [3, 4, 5, 6, 7, 8]
    assert (len(chosen.token_ids), len(rejected.token_ids)) == (4, 2)


def test_then_both_responses_lose_their_end():
    prompt, chosen, rejected = cut(9, 5, 8)
    assert prompt == [3, 4, 5, 6, 7, 8]
    for found in (chosen, rejected):
        assert found.token_ids == [100, 101, 102, 103]
        assert found.reference_logprobs == [-1.0, -1.01, -1.02, -1.03]


def test_one_long_response_leaves_the_short_one_whole():
    prompt, chosen, rejected = cut(3, 8, 2)
    assert prompt == [0, 1, 2]
    assert (len(chosen.token_ids), len(rejected.token_ids)) == (
        4,
        2,
    )  # to max_length - max_prompt_length, as the release


@pytest.mark.parametrize("prompt", [1, 5, 6, 9])
@pytest.mark.parametrize("chosen", [1, 4, 5, 20])
@pytest.mark.parametrize("rejected", [1, 4, 20])
def test_nothing_is_ever_longer_than_max_length(prompt, chosen, rejected):
    ids, *responses = cut(prompt, chosen, rejected)
    for found in responses:
        assert len(ids) + len(found.token_ids) <= 10
        assert len(found.token_ids) == len(found.reference_logprobs)


def test_a_filler_trains_nothing():
    assert filler().weight == 0.0


def candidates(name: str, logprob: float = -1.0) -> Candidates:
    return Candidates(
        name, "Why?", [1], ["a", "b", "c"], [[1], [2], [3]], [[-1.0], [logprob], [-1.0]], ["stop"] * 3, "iter-0"
    )


def rows_of(logits: list, *rows: Candidates) -> tuple[list[Judged], list[SetAside]]:
    comparisons = np.array(logits, dtype=np.float32)
    return judged_rows(rows, comparisons, np.zeros(len(rows), dtype=np.float32), configured().judge)


NAN = math.nan
BROKEN = [[0.0, NAN, LN3], [NAN, NAN, NAN], [0.0, NAN, 0.0]]


def test_a_response_with_nan_comparisons_is_neither_chosen_nor_rejected():
    """Of the other two, 0 beats 2 by ln 3: P = 3/4, win rates (1/2 + 3/4) / 2 and (1/2 + 1/4) / 2."""
    (row,), unusable = rows_of([BROKEN], candidates("p"))
    assert unusable == [] and (row.chosen, row.rejected) == (0, 2)
    assert row.win_rates == pytest.approx([0.625, NAN, 0.375], nan_ok=True)
    single = pair(candidates("p"), row, configured("training.loss=sppo_single"))
    assert (single.chosen.win_rate, single.rejected.win_rate) == (pytest.approx(0.75), pytest.approx(0.25))


@pytest.mark.parametrize("logprob", [NAN, -math.inf])
def test_a_response_with_nan_log_probabilities_is_neither_chosen_nor_rejected(logprob):
    plain = [[0.0, -9.0, LN3], [9.0, 0.0, 9.0], [0.0, -9.0, 0.0]]  # 1 would be chosen
    (row,), _ = rows_of([plain], candidates("p", logprob))
    assert (row.chosen, row.rejected) == (0, 2)
    assert row.win_rates == pytest.approx([0.625, NAN, 0.375], nan_ok=True)


def test_a_prompt_with_fewer_than_two_usable_responses_is_set_aside():
    judged, unusable = rows_of(
        [np.full((3, 3), NAN), np.zeros((3, 3)), BROKEN], candidates("p"), candidates("q"), candidates("r")
    )
    assert [row.prompt_id for row in judged] == ["q", "r"]
    assert [(prompt.prompt_id, prompt.stage) for prompt in unusable] == [("p", "judge")]
    assert "of 3 of its 3 responses are not finite numbers" in unusable[0].why


def test_a_block_without_prompts_is_judged():
    assert judged_rows([], np.zeros((0, 3, 3), np.float32), np.zeros(0, np.float32), configured().judge) == ([], [])

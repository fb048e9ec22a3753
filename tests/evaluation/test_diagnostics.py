"""Diagnostics: every number against one worked by hand, and the limits against a healthy and an exploiting policy."""

import math
from dataclasses import replace

import pytest

from sppo_ray.evaluation import cycle_share, diagnose
from sppo_ray.evaluation.diagnostics import length_correlation, near_identical, position_bias, previous_kl
from sppo_ray.evaluation.exploitation import drift, repetition
from tests.run_folders import candidates, judged, training_row

ORDER = [[0, 1, 1], [-1, 0, 1], [-1, -1, 0]]
ROCK_PAPER_SCISSORS = [[0, -1, 1], [1, 0, -1], [-1, 1, 0]]
TIES = [[0, 2, 2], [2, 0, 2], [2, 2, 0]]


def test_cycles_are_those_of_strict_preferences():
    assert cycle_share([ORDER]) == 0.0
    assert cycle_share([TIES]) == 0.0
    assert cycle_share([ORDER, ROCK_PAPER_SCISSORS]) == 0.5


def test_a_cycle_of_four_without_one_of_three_is_found():
    # 0 > 1 > 2 > 3 > 0, everything else tied
    ring = [[0, 1, 0, -1], [-1, 0, 1, 0], [0, -1, 0, 1], [1, 0, -1, 0]]
    assert cycle_share([ring]) == 1.0
    ring[3][0] = ring[0][3] = 0
    assert cycle_share([ring]) == 0.0


def test_position_bias_is_the_mean_of_both_orders_together():
    assert position_bias([ORDER]) == 0.0
    assert position_bias([TIES]) == 4.0
    assert position_bias([[[0, 3], [-1, 0]], [[0, 0], [1, 0]]]) == 1.5


def test_length_correlation_is_within_prompts_and_skips_constant_ones():
    assert length_correlation([[0.2, 0.5, 0.8]], [[10, 20, 30]]) == pytest.approx(1.0)
    assert length_correlation([[0.2, 0.5, 0.8], [0.8, 0.5, 0.2]], [[10, 20, 30], [1, 2, 3]]) == pytest.approx(0.0)
    # r of (0, 1, 2) with (0, 2, 1): 1 / 2
    assert length_correlation([[0, 1, 2], [0.5, 0.5, 0.5]], [[0, 2, 1], [1, 2, 3]]) == pytest.approx(0.5)
    assert length_correlation([[0.5, 0.5]], [[1, 2]]) is None


def test_kl_is_minus_the_mean_log_ratio_of_the_last_quarter():
    early = [training_row(step, chosen=-100.0) for step in range(1, 7)]
    # (1 * (1 - 3) / 2 + 3 * (0 - 4) / 2) / 4 pairs = -7 / 4
    assert previous_kl([*early, training_row(7, 1.0, -3.0), training_row(8, 0.0, -4.0, pairs=3)]) == 1.75


def test_near_identical_texts_share_nine_words_in_ten_but_differ():
    ten = "one two three four five six seven eight nine ten"
    assert not near_identical(ten, ten)
    assert near_identical(ten, ten.replace("five", "5"))
    assert not near_identical(ten, ten.replace("five", "5").replace("six", "6"))
    assert not near_identical(ten, "ten nine eight seven six five four three two one")


def test_repetition_is_the_share_of_four_grams_seen_before():
    assert repetition([1, 2, 3]) == 0.0
    assert repetition([1, 2, 3, 4, 5]) == 0.0
    # 1234 2341 3412 4123 1234: one of five
    assert repetition([1, 2, 3, 4, 1, 2, 3, 4]) == pytest.approx(0.2)


def test_drift_compares_lengths_and_the_commonest_sentence():
    new = [candidates(["Yes. Bye.", "No. Bye."]), candidates(["Bye. Bye.", "Maybe."])]
    base = [candidates(["Yes.", "No."]), candidates(["Bye.", "Maybe."])]
    found = drift(new, base)
    assert found.length_ratio == 7 / 4
    assert (found.sentence, found.sentence_share, found.base_sentence_share) == ("Bye.", 0.75, 0.25)


def test_all_numbers_of_one_iteration():
    ten = "one two three four five six seven eight nine ten"
    first = candidates([ten, ten.replace("five", "5"), ten])
    second = candidates(["a", "b c", "d e f"], prompt="p1")
    scored = [
        (first, replace(judged(first, [[0, 4, 0], [0, 0, 0], [0, 0, 0]], [0.7, 0.3, 0.5]), truncated=0.5)),
        (second, judged(second, ROCK_PAPER_SCISSORS, [0.5, 0.4, 0.6])),
    ]
    found = diagnose(scored, [training_row(1, 1.0, -2.0)], [], [])
    assert found.prompts == 2
    assert found.cycle_share == 0.5
    assert found.position_bias == pytest.approx(4 / 6)
    assert diagnose(scored, [], [], [], orders=1).position_bias is None  # of one order nothing is known
    assert found.truncation_rate == 0.25
    # Only the second prompt's lengths vary: (0.5, 0.4, 0.6) with (1, 2, 3) has r = 1 / 2.
    assert found.length_correlation == pytest.approx(0.5)
    # Margins of the first prompt are 4, 0, 0 and sigmoid(4) > 0.95; of its two near-identical pairs one is confident.
    assert (found.near_identical_pairs, found.confident_near_identical) == (2, 0.5)
    assert found.confident_share == pytest.approx(1 / 6)
    sigmoid = [1 / (1 + math.exp(-margin)) for margin in (4, 0, 0, 2, 2, 2)]
    assert found.judge_confidence == pytest.approx(sum(p - 0.5 for p in sigmoid) / 6)
    assert found.win_rate_chosen["0.5"] == pytest.approx(0.65)
    assert found.win_rate_rejected["0.05"] == pytest.approx(0.305)
    assert found.duplicate_share == 1 / 6
    assert found.kl_previous == 0.5
    assert found.kl_previous_per_token == pytest.approx(0.5 / 6)
    assert found.drift is None
    assert [words.split(":")[0] for words in found.warnings] == ["judge"]
    assert "25% of its comparisons" in found.warnings[0]


NAN = math.nan


def test_pairs_that_say_nothing_are_counted_and_warned_of():
    even, decided = candidates(["a", "b"]), candidates(["c", "d"])
    scored = [(even, judged(even, [[0, 0], [0, 0]], [0.5, 0.5]))] * 2
    scored.append((decided, judged(decided, [[0, 1], [-1, 0]], [0.69, 0.31])))
    found = diagnose(scored, [training_row(1)], [], [])
    assert (found.equal_share, found.left_out_share) == (pytest.approx(2 / 3), 0.0)
    shares = [diagnose(scored, [], [], [], min_margin=margin).left_out_share for margin in (0.1, 0.5)]
    assert shares == [pytest.approx(2 / 3), 1.0]  # the margins are 0, 0 and 0.38
    assert any("all candidates equal for 67% of the prompts (limit 50%)" in words for words in found.warnings)
    assert not any("equal" in words for words in diagnose(scored[1:], [training_row(1)], [], []).warnings)


def test_responses_that_cannot_be_compared_are_counted_and_left_out_of_the_judge_s_numbers():
    ten = "one two three four five six seven eight nine ten"
    sampled = candidates([ten, ten.replace("one", "1"), ten.replace("two", "2")])
    broken = judged(sampled, [[0, NAN, 4], [NAN, NAN, NAN], [0, NAN, 0]], [0.74, 0.0, 0.26])
    scored = [(sampled, replace(broken, win_rates=[0.74, NAN, 0.26], chosen=0, rejected=2))]
    found = diagnose(scored, [training_row(1)], [], [])
    assert (found.responses_set_aside, found.position_bias, found.confident_share) == (1, 4.0, 1.0)
    assert (found.near_identical_pairs, found.confident_near_identical) == (1, 1.0)
    assert found.judge_confidence == pytest.approx(1 / (1 + math.exp(-4)) - 0.5)
    assert (found.cycle_share, found.length_correlation) == (0.0, None)
    assert any("1 responses were set aside and never trained" in words for words in found.warnings)


def test_skipped_steps_are_counted_and_tell_nothing_of_the_policy():
    sampled = candidates(["one", "two two"])
    scored = [(sampled, judged(sampled, [[0, 1], [-1, 0]], [0.69, 0.31]))]
    nowhere = training_row(2) | {"loss": None, "chosen_log_ratio": None, "rejected_log_ratio": None, "skipped": True}
    found = diagnose(scored, [training_row(1, 1.0, -3.0), nowhere, nowhere], [], [])
    assert (found.skipped_steps, found.kl_previous) == (2, 1.0)
    assert any("2 optimizer steps were skipped" in words for words in found.warnings)
    nothing = diagnose(scored, [nowhere, training_row(3, pairs=0)], [], [])
    assert nothing.kl_previous is None and nothing.kl_previous_per_token is None


def test_the_reference_gap_is_the_first_step_s():
    sampled = candidates(["one", "two two"])
    scored = [(sampled, judged(sampled, [[0, 1], [-1, 0]], [0.69, 0.31]))]
    found = diagnose(scored, [training_row(1), training_row(2)], [], [])
    assert found.row()["reference"] == {"mean_abs": 0.001, "p95_abs": 0.003, "mean": -0.0002, "k3": 1e-6}


def test_a_number_that_cannot_be_computed_is_said_and_not_compared():
    """NaN is neither above nor below a limit."""
    sampled = candidates(["one", "two two"])
    scored = [(sampled, judged(sampled, [[0, 1], [-1, 0]], [0.69, 0.31]))]
    found = diagnose(scored, [training_row(1, NAN)], [], [])
    assert "diagnostics: kl_previous, kl_previous_per_token cannot be computed: not a number" in found.warnings


ANSWERS = [f"The opposite of {word} is {other} ." for word, other in [("a", "bb"), ("ccc", "dddd"), ("ee", "f")]]
HELP = " Hope this helps ."


def _warned(new, kl=0.1):
    sampled = candidates(["one", "two two"])
    scored = [(sampled, judged(sampled, [[0, 1], [-1, 0]], [0.69, 0.31]))]
    found = diagnose(scored, [training_row(1, -kl, -kl)], [candidates(new)], [candidates(ANSWERS)])
    return [words.split(":")[0] for words in found.warnings]


def test_a_policy_that_repeats_a_closer_is_flagged_in_words():
    assert _warned([text + HELP * 3 for text in ANSWERS]) == ["length", "repetition", "repetition"]


def test_a_policy_that_moves_too_far_is_flagged():
    assert _warned(ANSWERS, kl=3.0) == ["policy"]


def test_a_healthy_policy_is_not_flagged():
    assert _warned([ANSWERS[0], ANSWERS[1] + HELP, ANSWERS[2]]) == []


def test_what_a_model_wrote_reaches_a_warning_without_control_characters():
    sampled = candidates(["one", "two"])
    scored = [(sampled, judged(sampled, [[0, 1], [-1, 0]], [0.69, 0.31]))]
    found = diagnose(scored, [training_row(1)], [candidates(["\x1b[31mred."] * 2)], [candidates(["fine."] * 2)])
    assert "'?[31mred.'" in found.warnings[0]

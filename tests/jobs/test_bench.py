"""What a ratio of several rounds shows, and what decides whether it reaches its goal."""

from jobs.benchmarks import at_least, at_most


def test_the_lower_quartile_of_the_rounds_decides() -> None:
    # Quartiles of 2, 4, 5, 6, 8 are its second and fourth: 4 and 6.
    rounds = [6.0, 2.0, 8.0, 5.0, 4.0]
    found = at_least("r", rounds, 4, "slow")
    assert (found.ratio, found.ok, found.detail) == (5, True, {"rounds": 5, "quartiles": [4, 6]})
    noisy = "larger than the margin: the quartiles lie on both sides of the goal"
    short = at_least("r", rounds, 4.5, "slow")
    assert (short.ok, short.detail["noise"], short.detail["reason"]) == (False, noisy, "slow")
    assert not at_most("r", rounds, 5.5).ok and at_most("r", rounds, 6).ok
    assert "noise" not in at_least("r", rounds, 7).detail


def test_one_ratio_of_everything_is_compared_as_it_is() -> None:
    assert at_least("r", 4.0, 4, "slow").ok and at_least("r", 4.0, 4, "slow").detail == {}
    assert not at_most("r", 4.1, 4).ok

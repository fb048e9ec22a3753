"""The plan's memory of a train worker against what the operating system saw; the table is `make bench BENCH=memory`."""

from jobs.benchmarks.memory import CASES, TOLERANCE, compare


def test_two_workers_of_a_small_mistral_take_what_the_plan_says() -> None:
    planned, measured = compare(CASES[-1], workers=2)
    assert abs(planned.total / measured - 1) < TOLERANCE

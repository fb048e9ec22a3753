"""Seconds, rates and time left of the stages, on a clock that the tests set."""

from typing import Any

import pytest

from jobs.sppo import describe
from sppo_ray.reporting import MemberStatus, PoolStatus, RunStatus, Stage, TokenCount, new_stages, seconds_left, status


class Clock:
    now = 0.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(status, "time", clock)
    return clock


def generators(*tokens: int | None, **values: Any) -> PoolStatus:
    members = [
        MemberStatus(f"generator-{n}", "up", 1, 1, 0, "iter-0", tokens=count, **values)
        for n, count in enumerate(tokens)
    ]
    return PoolStatus("generator", len(members), 1, 4, 0, members, [])


def test_a_pause_is_no_part_of_a_stages_seconds(clock: Clock) -> None:
    """40 prompts in 10 s, a pause of 1,000 s, 40 in 10 s: 4 a second throughout, and 20 s in all."""
    stage = Stage("sampling", "prompts", 80)
    stage.begin()
    clock.now = 10.0
    stage.add(40)
    stage.pause(True)
    clock.now = 900.0
    assert (stage.rate, seconds_left({"generate": stage})) == (4.0, {"generate": 10.0})
    clock.now = 1010.0
    stage.pause(False)
    clock.now = 1020.0
    stage.add(40)
    assert (stage.rate, stage.seconds) == (4.0, 20.0)


def test_a_pause_before_a_stage_began_is_none_of_its_time(clock: Clock) -> None:
    stage = Stage("judging", "prompts", 8)
    stage.pause(True)
    clock.now = 50.0
    stage.begin()
    clock.now = 60.0
    stage.pause(False)
    clock.now = 64.0
    stage.add(4)
    assert (stage.rate, stage.seconds) == (1.0, 4.0)


def test_seconds_count_from_when_a_stage_could_begin(clock: Clock) -> None:
    """Sampling that takes 95 s and ends with one last block within 0.6 s of the others took 95 s."""
    stage = Stage("sampling", "prompts", 32)
    clock.now = 100.0
    stage.begin()
    clock.now = 194.4
    stage.add(26)
    clock.now = 195.0
    stage.begin()  # told again: the first time counts
    stage.add(6)
    assert stage.seconds == 95.0 and stage.rate == pytest.approx(32 / 95)
    clock.now = 400.0
    assert stage.rate == pytest.approx(32 / 95) and seconds_left({"generate": stage}) == {"generate": 0.0}


def test_nothing_is_known_of_a_stage_that_has_done_nothing(clock: Clock) -> None:
    stage = Stage("sampling", "prompts", 32)
    assert stage.rate is None and seconds_left({"generate": stage}) == {"generate": None}
    stage.began = 1.0
    clock.now = 50.0
    assert stage.rate is None and stage.seconds == 0.0


def test_what_was_in_the_run_folder_tells_nothing_of_the_rate(clock: Clock) -> None:
    stage = Stage("sampling", "prompts", 100)
    clock.now = 10.0
    stage.begin()
    stage.add(60, kept=True)
    clock.now = 20.0
    stage.add(10)
    assert (stage.done, stage.rate) == (70, 1.0) and seconds_left({"generate": stage})["generate"] == 30.0


def test_a_trainer_that_goes_on_from_a_checkpoint_counts_its_own_pairs(clock: Clock) -> None:
    stage = Stage("training", "pairs", 40)
    stage.began = 0.0
    clock.now = 2.0
    stage.reach(24, 4)  # the step after the checkpoint of 20 pairs
    clock.now = 8.0
    stage.reach(28, 4)
    assert stage.rate == 1.0 and seconds_left({"train": stage})["train"] == 12.0


def test_time_left_after_a_tenth_of_a_stage(clock: Clock) -> None:
    """60 prompts in 10 blocks of 6, 6 blocks in flight; 200 tokens per prompt at 80 tokens/s: 150 s in all.

    The first block ends after 90 s, when the engine has sampled 7,200 tokens, so 60 s are left. The blocks that are done
    would say 810 s: 54 prompts at 6 in 90 s.
    """
    stage, count = Stage("sampling", "prompts", 60), TokenCount(generators(1_000))
    stage.begin()
    assert count.under_way(generators(4_600)) == 0.0  # no prompt is done: what one takes is not known
    clock.now = 90.0
    stage.began = 0.0
    stage.add(6)
    count.finish(6, 1_200)
    stage.under_way = count.under_way(generators(1_000 + 7_200))
    assert stage.under_way == 30.0 and stage.rate == pytest.approx(36 / 90)
    assert seconds_left({"generate": stage})["generate"] == pytest.approx(60.0)


def test_tokens_of_an_engine_that_restarted_or_joined_count() -> None:
    count = TokenCount(generators(100))
    count.finish(1, 50)
    count.under_way(generators(200))
    assert count.under_way(generators(30, 70)) == (100 + 30 + 70 - 50) / 50
    assert count.under_way(generators(None, None)) == 3.0


def test_no_stage_ends_before_the_one_whose_rows_it_takes(clock: Clock) -> None:
    stages = new_stages(100)
    for stage in stages.values():
        stage.began = 0.0
    clock.now = 10.0
    stages["generate"].add(20)  # 2 per second: 40 s for the other 80
    stages["judge"].began = 8.0
    stages["judge"].add(20)  # 10 per second, 8 s if it need not wait
    assert seconds_left(stages) == {"generate": 40.0, "judge": 40.0, "train": None}


def test_the_log_says_how_far_stages_and_engines_are(clock: Clock) -> None:
    clock.now = 10.0
    stages = new_stages(100)
    stages["generate"].began = 0.0
    pools = {
        "generators": generators(50, 60, tokens_per_second=610.4, sequences=80),
        "rankers": PoolStatus("ranker", 1, 1, 1, 0, [MemberStatus("ranker-0", "up", 1, 1, 0, None)], []),
    }
    run = RunStatus(1, 3, "sampling, judging", stages=stages, pools=pools)
    engines = "generators: 1,221 tokens/s, 160 sequences in flight"
    assert list(describe(run).items()) == [
        ("iteration 1: sampling, judging", ""),
        ("sampling  0 of 100 prompts", ""),
        (engines, ""),
    ]
    stages["generate"].add(20)
    assert describe(run)["sampling  20 of 100 prompts"] == ", 2/s, 40 s left"  # changes, and is no news
    pools["rankers"].members.append(MemberStatus("ranker-1", "starting", None, 0, 0, None))
    assert list(describe(run))[2:] == [engines, "rankers: 1 of 2 starting"]

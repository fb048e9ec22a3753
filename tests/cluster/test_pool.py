"""The pool on a real cluster with fake engines: work survives the death of a member, late members hold the current policy."""

import asyncio
import os
import signal
import time
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray

from actors.engines import Pool, PoolState, generator
from actors.run.scoring import EnginePools, sample_block
from sppo_ray.config import PoolSettings, load_config
from sppo_ray.errors import ConfigError, ModelError, PoolAsleep, RunFailed, SnapshotMismatch
from sppo_ray.fakes import FakeGenerator
from sppo_ray.records import Candidates, Prompt, Snapshot
from sppo_ray.run_folder import Ledger

pytestmark = pytest.mark.usefixtures("cluster")

CONFIG = load_config(overrides=["generators.cpus=0.1"])
BASE, NEXT = Snapshot(0, "base"), Snapshot(1, "policy")
PROMPTS = [Prompt(f"p{number}", f"prompt {number}", [1, number]) for number in range(3)]


def open_pool(ledger: Ledger, build: Any, size: int = 2, least: int | None = None, **settings: Any) -> Any:
    pool_settings = PoolSettings(min=least or size, max=size, **settings)
    pool = Pool.remote("generator", partial(generator.start, CONFIG, build, ledger), pool_settings)
    ray.get(pool.open.remote(BASE))
    return pool


def members_up(pool: Any, count: int) -> list[Any]:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        members = [member for member in ray.get(pool.status.remote()).members if member.state == "up"]
        if len(members) == count:
            return members
        time.sleep(0.1)
    raise AssertionError(f"{count} members were not up in time")


def test_work_of_a_killed_member_is_done_all_the_same(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    pool = open_pool(ledger, partial(FakeGenerator, BASE, seconds=1.0))
    before = members_up(pool, 2)
    paths = [ledger.block(Candidates, 1, block) for block in range(4)]
    calls = [pool.call.remote("generate", path, PROMPTS, 5, "iter-0") for path in paths]
    time.sleep(0.5)
    os.kill(before[0].pid, signal.SIGKILL)
    ray.get(calls)

    expected = FakeGenerator(BASE).generate(PROMPTS, 5, "iter-0")
    assert all(ledger.read(Candidates, path) == expected for path in paths)
    after = members_up(pool, 2)
    assert [member.restarts for member in after] == [1, 0]
    assert after[0].pid != before[0].pid and after[1].pid == before[1].pid


def test_a_restarted_member_holds_the_current_snapshot(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    pool = open_pool(ledger, partial(FakeGenerator, BASE), size=1)
    ray.get(pool.open.remote(NEXT))
    os.kill(members_up(pool, 1)[0].pid, signal.SIGKILL)
    path = ledger.block(Candidates, 2, 0)
    ray.get(pool.call.remote("generate", path, PROMPTS, 5, "iter-1"))

    assert {row.snapshot for row in ledger.read(Candidates, path)} == {"iter-1"}
    assert members_up(pool, 1)[0].snapshot == "iter-1"


def test_a_member_that_died_idle_and_came_back_empty_is_started_again(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    pool = open_pool(ledger, partial(FakeGenerator, BASE), size=1)
    _, actor = ray.get(pool.member.remote())
    os.kill(members_up(pool, 1)[0].pid, signal.SIGKILL)
    ray.get(actor.placed.options(max_task_retries=-1).remote())  # Ray has it running again; the pool knows of nothing
    path = ledger.block(Candidates, 1, 0)
    ray.get(pool.call.remote("generate", path, PROMPTS, 5, "iter-0"))

    assert ledger.read(Candidates, path) == FakeGenerator(BASE).generate(PROMPTS, 5, "iter-0")
    assert members_up(pool, 1)[0].restarts == 1


def broken_engine() -> FakeGenerator:
    raise ModelError("there is no such model")


def test_a_users_mistake_at_an_engines_start_ends_the_run_with_its_cause(tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match="there is no such model"):
        open_pool(Ledger(tmp_path), broken_engine, size=1)


def engine_at_the_second_try(tried: Path) -> FakeGenerator:
    if not tried.exists():
        tried.touch()
        raise OSError("the address is in use")
    return FakeGenerator(BASE)


def test_a_start_that_fails_once_is_tried_again(tmp_path: Path) -> None:
    pool = open_pool(Ledger(tmp_path), partial(engine_at_the_second_try, tmp_path / "tried"), size=1)
    assert [member.failure for member in members_up(pool, 1)] == [None]


def test_an_engine_with_stale_weights_ends_the_run_in_words(tmp_path: Path) -> None:
    pool = open_pool(Ledger(tmp_path), partial(FakeGenerator, BASE, stale=True), size=1)
    with pytest.raises(SnapshotMismatch, match="generator-0: the loaded weights are not those of iter-1"):
        ray.get(pool.open.remote(NEXT))


class Rascal(FakeGenerator):
    """Does what `how` says to the prompt p1, the first time only if `once` names a file to remember that by."""

    def __init__(self, how: str, once: Path | None = None) -> None:
        super().__init__(BASE)
        self._how, self._once = how, once

    def generate(self, prompts: list[Prompt], candidates: int, snapshot: str) -> list[Candidates]:
        if any(prompt.prompt_id == "p1" for prompt in prompts) and not (self._once and self._once.exists()):
            if self._once:
                self._once.touch()
            if self._how == "raise":
                raise ValueError("no such token")
            if self._how == "die":
                os._exit(1)
            time.sleep(3600)
        return super().generate(prompts, candidates, snapshot)


def test_an_engine_that_hangs_is_replaced(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    pool = open_pool(ledger, partial(Rascal, "hang", tmp_path / "once"), size=1, hang_seconds=3)
    path = ledger.block(Candidates, 1, 0)
    ray.get(pool.call.remote("generate", path, PROMPTS, 5, "iter-0"))

    assert ledger.read(Candidates, path) == FakeGenerator(BASE).generate(PROMPTS, 5, "iter-0")
    (outage,) = ray.get(pool.status.remote()).outages
    assert (outage.member, outage.calls) == ("generator-0", 1) and "no answer in 3 s" in outage.why and outage.seconds


@pytest.mark.parametrize("how", ["raise", "die"])
def test_a_prompt_that_engines_fail_on_is_set_aside_and_the_others_are_not(how: str, tmp_path: Path) -> None:
    ledger, path = Ledger(tmp_path), Ledger(tmp_path).block(Candidates, 1, 0)
    pool = open_pool(ledger, partial(Rascal, how), size=1, tries=2)
    _, failed = asyncio.run(sample_block(EnginePools(CONFIG, ledger, pool, None), path, PROMPTS, 5, "iter-0"))

    assert [row.prompt_id for row in ledger.read(Candidates, path)] == ["p0", "p2"]
    (prompt,) = ledger.set_aside(1)
    assert (prompt.prompt_id, prompt.stage) == ("p1", "generate")
    assert prompt.why.count("generator-0") == 2 and ("no such token" if how == "raise" else "died") in prompt.why
    assert failed == [prompt]
    assert not list(path.parent.glob("*.parts"))


def test_a_member_that_goes_finishes_its_work_first(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    pool = open_pool(ledger, partial(FakeGenerator, BASE, seconds=1.0), size=2, least=1)
    before = members_up(pool, 2)
    paths = [ledger.block(Candidates, 1, block) for block in range(4)]
    calls = [pool.call.remote("generate", path, PROMPTS, 5, "iter-0") for path in paths]
    time.sleep(0.3)
    ray.get(pool.desire.remote(PoolState(BASE, target=1)))
    ray.get(calls)

    (left,) = members_up(pool, 1)
    gone = next(member for member in before if member.name != left.name)
    while psutil.pid_exists(gone.pid):
        time.sleep(0.05)
    status = ray.get(pool.status.remote())
    assert status.outages == [] and len(status.members) == 1  # nothing was done twice
    ray.get(pool.desire.remote(PoolState(BASE, target=2)))
    assert len(members_up(pool, 2)) == 2


def test_a_size_that_cannot_be_is_refused(tmp_path: Path) -> None:
    pool = open_pool(Ledger(tmp_path), partial(FakeGenerator, BASE), size=1)
    with pytest.raises(ConfigError, match=r"2 is not between min = 1 and max = 1"):
        ray.get(pool.desire.remote(PoolState(BASE, target=2)))


def test_a_pool_that_sleeps_serves_again_with_the_next_policy(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    pool = open_pool(ledger, partial(FakeGenerator, BASE), size=1)
    ray.get(pool.desire.remote(PoolState(BASE, asleep=True)))
    ray.get(pool.settled.remote())
    assert [member.state for member in ray.get(pool.status.remote()).members] == ["asleep"]
    with pytest.raises(PoolAsleep):
        ray.get(pool.member.remote())
    ray.get(pool.open.remote(NEXT))
    path = ledger.block(Candidates, 2, 0)
    ray.get(pool.call.remote("generate", path, PROMPTS, 5, "iter-1"))
    assert {row.snapshot for row in ledger.read(Candidates, path)} == {"iter-1"}


def test_a_paused_pool_gives_out_no_work_until_it_goes_on(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    pool = open_pool(ledger, partial(FakeGenerator, BASE), size=1)
    ray.get(pool.desire.remote(PoolState(BASE, paused=True)))
    call = pool.call.remote("generate", ledger.block(Candidates, 1, 0), PROMPTS, 5, "iter-0")
    assert ray.wait([call], timeout=1.0)[0] == [] and ray.get(pool.status.remote()).waiting == 1
    ray.get(pool.desire.remote(PoolState(BASE)))
    ray.get(call)


class Counted(FakeGenerator):
    """Notes each call in a file."""

    def __init__(self, notes: Path) -> None:
        super().__init__(BASE, seconds=1.0)
        self._notes = notes

    def generate(self, prompts: list[Prompt], candidates: int, snapshot: str) -> list[Candidates]:
        with self._notes.open("a") as file:
            file.write(f"{os.getpid()}\n")
        return super().generate(prompts, candidates, snapshot)


def test_the_death_of_one_of_four_costs_the_blocks_in_flight_on_it(tmp_path: Path) -> None:
    ledger, notes = Ledger(tmp_path), tmp_path / "notes"
    pool = open_pool(ledger, partial(Counted, notes), size=4)
    victim = members_up(pool, 4)[0]
    paths = [ledger.block(Candidates, 1, block) for block in range(24)]
    calls = [pool.call.remote("generate", path, PROMPTS, 5, "iter-0") for path in paths]
    while notes.exists() is False or str(victim.pid) not in notes.read_text():
        time.sleep(0.05)
    os.kill(victim.pid, signal.SIGKILL)
    ray.get(calls)

    (outage,) = ray.get(pool.status.remote()).outages
    assert outage.member == victim.name and 1 <= outage.calls <= 2  # two blocks at once on a member
    assert len(notes.read_text().split()) <= len(paths) + 2

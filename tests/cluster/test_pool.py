"""The pool on a real cluster with fake engines: work survives the death of a member, late members hold the current policy."""

import os
import signal
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import ray

from actors import generator
from actors.pool import Pool
from sppo_ray.config import Pool as Settings
from sppo_ray.config import load_config
from sppo_ray.errors import RunFailed
from sppo_ray.fakes import FakeGenerator
from sppo_ray.ledger import Ledger
from sppo_ray.records import Candidates, Prompt, Snapshot

pytestmark = pytest.mark.usefixtures("cluster")

CONFIG = load_config(overrides=["generators.cpus=0.1"])
BASE, NEXT = Snapshot(0, "base"), Snapshot(1, "policy")
PROMPTS = [Prompt(f"p{number}", f"prompt {number}", [1, number]) for number in range(3)]


def open_pool(ledger: Ledger, build: Any, size: int = 2) -> Any:
    pool = Pool.remote("generator", partial(generator.start, CONFIG, build, ledger), Settings(min=size, max=size))
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


def broken_engine() -> FakeGenerator:
    raise OSError("there is no such model")


def test_an_engine_that_cannot_start_is_an_error_with_its_cause(tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match="there is no such model"):
        open_pool(Ledger(tmp_path), broken_engine, size=1)

"""The pool with stub actors: routing, deaths, and every state that a coordinator can want, in any order."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from actors.engines import PoolState, members
from actors.engines.pool import Routing
from sppo_ray.config import PoolSettings
from sppo_ray.errors import BlockFailed, ConfigError, EngineFailed, ModelError, RunFailed, SnapshotMismatch
from sppo_ray.records import Snapshot
from tests.engines.stubs import World

BASE, NEXT = Snapshot(0, "base"), Snapshot(1, "policy")
OPEN = PoolState(BASE)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time passes a hundred times faster."""
    monkeypatch.setattr(members, "TEND_SECONDS", 0.01)
    monkeypatch.setattr(members, "FIRST_RETRY_SECONDS", 0.01)
    monkeypatch.setattr(members, "MOST_RETRY_SECONDS", 0.04)
    monkeypatch.setattr(members.ray, "kill", World.kill)


def play(
    story: Callable[[World, Routing], Awaitable[None]], room: Callable[[], int] | None = None, **settings: Any
) -> World:
    """Run a story on a pool of stub actors."""

    async def run() -> World:
        world = World()
        pool = Routing("generator", world.start, PoolSettings(**({"min": 2, "max": 2} | settings)), room)
        async with asyncio.timeout(10):
            await story(world, pool)
        return world

    return asyncio.run(run())


async def until(reached: Callable[[], Any]) -> None:
    while not reached():
        await asyncio.sleep(0.001)


async def states(pool: Routing) -> list[str]:
    return [member.state for member in (await pool.status()).members]


def test_work_goes_to_the_least_loaded_and_no_member_has_more_than_its_blocks() -> None:
    async def story(world: World, pool: Routing) -> None:
        await pool.open(BASE)
        world.hold.clear()
        calls = [asyncio.ensure_future(pool.call("generate")) for _ in range(5)]
        await until(lambda: world.calls["generate"] == 4)
        await asyncio.sleep(0.02)
        status = await pool.status()
        assert [member.load for member in status.members] == [2, 2] and status.waiting == 1
        assert [name for name, method, *_ in world.log if method == "generate"] == ["generator-0", "generator-1"] * 2
        world.hold.set()
        await asyncio.gather(*calls)

    play(story, blocks=2)


def test_work_of_a_dead_member_moves_on_and_nothing_else_is_done_twice() -> None:
    async def story(world: World, pool: Routing) -> None:
        await pool.open(BASE)
        world.hold.clear()
        calls = [asyncio.ensure_future(pool.call("generate", block)) for block in range(4)]
        await until(lambda: world.calls["generate"] == 4)
        world.actors[0].die()
        world.hold.set()
        await asyncio.gather(*calls)
        done = [block for _, method, *block in world.log if method == "generate"]
        assert sorted(done) == [[0], [0], [1], [2], [2], [3]]
        await until(lambda: pool._members[0].state == "up")
        (outage,) = (await pool.status()).outages
        assert (outage.member, outage.calls) == ("generator-0", 2) and outage.seconds is not None

    play(story)


def test_a_call_that_hangs_is_done_elsewhere_and_its_member_replaced() -> None:
    async def story(world: World, pool: Routing) -> None:
        await pool.open(BASE)
        world.hold.clear()
        call = asyncio.ensure_future(pool.call("generate"))
        await until(lambda: pool._outages)
        world.hold.set()
        assert "did generate" in await call
        assert "no answer in 0.1 s" in pool._outages[0].why

    play(story, hang_seconds=0.1)


def test_a_block_that_fails_everywhere_says_why_each_time() -> None:
    async def story(world: World, pool: Routing) -> None:
        await pool.open(BASE)
        world.errors["generate"] = [ValueError("no such token"), EngineFailed("beyond repair")]
        with pytest.raises(
            BlockFailed, match=r"generator-0: ValueError: no such token; generator-.: EngineFailed: beyond"
        ):
            await pool.call("generate")
        await until(lambda: pool._members[0].state == pool._members[1].state == "up")
        assert len(pool._outages) == 1  # of the engine that failed; a ValueError is the request's

    play(story, tries=2)


def test_a_start_that_fails_is_tried_again_later_and_later_on_a_new_actor() -> None:
    async def story(world: World, pool: Routing) -> None:
        world.errors["ready"] = [OSError("the hub does not answer") for _ in range(3)]
        opened = asyncio.ensure_future(pool.open(BASE))
        waits = []
        for failed in range(1, 4):
            await until(lambda failed=failed: pool._members and pool._members[0].failed_starts == failed)
            (member,) = (await pool.status()).members
            assert member.state == "starting" and member.failure == "OSError: the hub does not answer"
            assert member.retry_at is not None and world.alive == []  # it holds nothing meanwhile
            waits.append(round(members.FIRST_RETRY_SECONDS * 2 ** (failed - 1), 2))
        await opened
        (member,) = (await pool.status()).members
        assert (member.state, member.failure, member.retry_at) == ("up", None, None)
        assert len(world.actors) == 4

    play(story, min=1, max=1)


def test_a_users_mistake_ends_a_pool_that_never_served() -> None:
    async def story(world: World, pool: Routing) -> None:
        world.errors["ready"] = [ModelError("policy.model: there is no such model")]
        with pytest.raises(
            RunFailed, match=r"generator-0 cannot start: ModelError: policy.model: there is no such model"
        ):
            await pool.open(BASE)
        with pytest.raises(RunFailed, match="there is no such model"):
            await pool.call("generate")

    play(story, min=1, max=4)


def test_a_member_that_was_given_up_is_not_counted_as_one_that_serves() -> None:
    async def story(world: World, pool: Routing) -> None:
        await pool.desire(replace(OPEN, target=1))
        await pool.settled()
        world.errors["ready"] = [ModelError("this node lacks the model")]
        await pool.desire(replace(OPEN, target=2))
        await until(lambda: [member.state for member in pool._members] == ["up", "failed", "up"])
        await pool.call("generate")

    play(story, min=1, max=3)


def test_a_pool_that_can_no_longer_have_its_least_size_ends_the_run() -> None:
    async def story(world: World, pool: Routing) -> None:
        await pool.open(BASE)
        world.errors["ready"] = [ModelError("the model was removed")]
        world.actors[1].die()
        await asyncio.gather(*(pool.call("generate") for _ in range(2)))  # the second goes to it
        await until(lambda: pool._fatal)
        with pytest.raises(RunFailed, match=r"generator-1 cannot start: ModelError: the model was removed"):
            await pool.call("generate")

    play(story, min=2, max=2)


def test_weights_that_are_not_the_snapshots_end_the_run_in_words() -> None:
    async def story(world: World, pool: Routing) -> None:
        await pool.open(BASE)
        world.errors["load"] = [SnapshotMismatch("the loaded weights are not those of iter-1")]
        with pytest.raises(SnapshotMismatch, match=r"generator-.: the loaded weights are not those of iter-1"):
            await pool.open(NEXT)

    play(story)


def test_a_paused_pool_stays_paused_when_it_is_opened_for_the_next_snapshot() -> None:
    async def story(world: World, pool: Routing) -> None:
        await pool.open(BASE)
        await pool.pause()
        await pool.open(NEXT)
        call = asyncio.ensure_future(pool.call("generate"))
        await asyncio.sleep(0.05)
        assert not call.done() and (await pool.status()).waiting == 1
        assert {actor.snapshot for actor in world.actors} == {"iter-1"}
        await pool.resume()
        await call

    play(story)


def test_a_pool_that_restarts_does_nothing_until_it_is_told_and_then_what_was_wanted() -> None:
    wanted = PoolState(NEXT, target=3, paused=True)

    async def story(world: World, pool: Routing) -> None:
        call, settled = (
            asyncio.ensure_future(work) for work in (pool.call("generate"), pool.settled())
        )  # Ray repeats both
        await asyncio.sleep(0.05)
        assert world.actors == [] and not settled.done()
        for _ in range(3):
            status = await pool.desire(wanted)
        assert (status.target, len(status.members)) == (3, 3)
        await settled
        await until(lambda: [member.state for member in pool._members] == ["up"] * 3)
        assert not call.done() and world.calls["load"] == 3
        await pool.desire(replace(wanted, paused=False))
        await call

    play(story, min=1, max=4)


def test_no_engine_starts_while_the_pool_sleeps() -> None:
    async def story(world: World, pool: Routing) -> None:
        await pool.open(BASE)
        await pool.sleep()
        assert not any(actor.device for actor in world.actors) and await states(pool) == ["asleep", "asleep"]
        pool._lost(pool._members[0], "its process died", 0)
        await until(lambda: world.actors[0].calls.count("placed") == 2)  # Ray has it running again
        await asyncio.sleep(0.05)
        assert world.calls["ready"] == 2 and not world.actors[0].device
        await pool.open(NEXT)
        assert world.calls["ready"] == 3 and {actor.snapshot for actor in world.actors} == {"iter-1"}

    play(story)


def test_sleep_waits_for_an_engine_that_is_starting() -> None:
    async def story(world: World, pool: Routing) -> None:
        world.hold.clear()
        opened = asyncio.ensure_future(pool.open(BASE))
        await until(lambda: world.calls["ready"] == 2)
        asleep = asyncio.ensure_future(pool.sleep())
        await asyncio.sleep(0.05)
        assert not asleep.done()
        world.hold.set()
        await asleep
        assert not any(actor.device for actor in world.actors)
        opened.cancel()

    play(story)


def test_a_size_out_of_range_is_refused_and_nothing_changes() -> None:
    async def story(world: World, pool: Routing) -> None:
        await pool.open(BASE)
        with pytest.raises(ConfigError, match="generators: 5 is not between min = 1 and max = 3"):
            await pool.scale(5)
        assert (await pool.status()).target == 3

    play(story, min=1, max=3)


def test_the_target_survives_the_next_snapshot_sleep_and_rest() -> None:
    async def story(world: World, pool: Routing) -> None:
        await pool.open(BASE)
        await pool.scale(2)
        await until(lambda: len(pool._members) == 2)
        await pool.rest()
        await until(lambda: len(pool._members) == 1)
        await pool.sleep()
        await pool.open(NEXT)
        await until(lambda: [member.snapshot for member in pool._members] == ["iter-1"] * 2)

    play(story, min=1, max=3, shrink_idle=True)


def test_members_that_go_finish_their_work_and_each_goes_once() -> None:
    async def story(world: World, pool: Routing) -> None:
        await pool.open(BASE)
        await until(lambda: sum(member.state == "up" for member in pool._members) == 4)
        world.hold.clear()
        calls = [asyncio.ensure_future(pool.call("generate")) for _ in range(8)]
        await until(lambda: world.calls["generate"] == 8)
        await pool.scale(2)
        await asyncio.gather(*(pool._adjust() for _ in range(3)))
        assert sorted(await states(pool)) == ["draining", "draining", "up", "up"]
        world.hold.set()
        await asyncio.gather(*calls)
        await until(lambda: len(pool._members) == 2)
        assert pool._outages == []

    play(story, min=1, max=4)


def test_the_pool_has_no_more_members_than_the_cluster_has_room_for() -> None:
    async def story(world: World, pool: Routing) -> None:
        await pool.open(BASE)
        await asyncio.sleep(0.03)
        assert len(world.actors) == 2

    play(story, room=lambda: 2, min=1, max=4)


def test_tokens_per_second_move_with_every_poll() -> None:
    async def story(world: World, pool: Routing) -> None:
        await pool.open(BASE)

        async def sample() -> None:
            while True:
                await asyncio.sleep(0.01)
                world.actors[0].tokens += 10

        sampling = asyncio.ensure_future(sample())
        await asyncio.sleep(0.5)
        (member,) = (await pool.status()).members
        assert member.sequences == 3 and member.tokens is not None and 200 < member.tokens <= 500
        assert member.tokens_per_second is not None and 400 < member.tokens_per_second < 1100
        sampling.cancel()

    play(story, min=1, max=1)


@pytest.mark.parametrize("seed", range(20))
def test_whatever_is_wanted_in_whatever_order_the_last_state_is_reached(seed: int) -> None:
    """States change while engines start, load, sleep and die; every call is answered once the pool is open."""
    rng = random.Random(seed)

    async def story(world: World, pool: Routing) -> None:
        state = OPEN
        calls = []
        for number in range(30):
            change = rng.choice([{"paused": rng.random() < 0.5}, {"asleep": rng.random() < 0.5}, {"target": rng.randint(1, 4)}, {"snapshot": rng.choice([BASE, NEXT])}])  # fmt: skip
            state = replace(state, **change)
            await pool.desire(state)
            calls.append(asyncio.ensure_future(pool.call("generate", number)))
            if rng.random() < 0.3 and world.alive:
                rng.choice(world.alive).die()
            if rng.random() < 0.2:
                world.errors["ready"] = [OSError("no memory")]
            world.hold.set() if rng.random() < 0.7 else world.hold.clear()
            await asyncio.sleep(rng.choice([0, 0.001, 0.02]))
        world.hold.set()
        await pool.desire(replace(state, asleep=True))
        await pool.settled()
        assert not any(actor.device for actor in world.alive)
        await pool.desire(PoolState(NEXT, target=3))
        await pool.settled()
        done = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(answer, (str, BlockFailed)) for answer in done)
        await until(lambda: [member.state for member in pool._members] == ["up"] * 3)
        assert {member.snapshot for member in pool._members} == {"iter-1"}
        await until(lambda: len(world.alive) == 3)

    play(story, min=1, max=4)

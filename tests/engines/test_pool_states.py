"""The pool with stub actors: every state that a coordinator can want, in any order."""

import asyncio
import random
from dataclasses import replace

import pytest

from actors.engines import PoolState
from actors.engines.pool import Routing
from sppo_ray.errors import BlockFailed, ConfigError
from sppo_ray.records import Snapshot
from tests.engines.stubs import World, play, until

BASE, NEXT = Snapshot(0, "base"), Snapshot(1, "policy")
OPEN = PoolState(BASE)


async def states(pool: Routing) -> list[str]:
    return [member.state for member in (await pool.status()).members]


async def settle(pool: Routing, state: PoolState) -> None:
    await pool.desire(state)
    await pool.settled()


def test_a_paused_pool_stays_paused_when_it_is_opened_for_the_next_snapshot() -> None:
    async def story(world: World, pool: Routing) -> None:
        await pool.open(BASE)
        await pool.desire(PoolState(BASE, paused=True))
        await pool.open(NEXT)
        call = asyncio.ensure_future(pool.call("generate"))
        await asyncio.sleep(0.05)
        assert not call.done() and (await pool.status()).waiting == 1
        assert {actor.snapshot for actor in world.actors} == {"iter-1"}
        await pool.desire(PoolState(NEXT))
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
        await settle(pool, PoolState(BASE, asleep=True))
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
        asleep = asyncio.ensure_future(settle(pool, PoolState(BASE, asleep=True)))
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
            await pool.desire(PoolState(BASE, target=5))
        assert (await pool.status()).target == 3

    play(story, min=1, max=3)


def test_the_target_survives_the_next_snapshot_sleep_and_rest() -> None:
    async def story(world: World, pool: Routing) -> None:
        await pool.open(BASE)
        await pool.desire(PoolState(BASE, target=2))
        await until(lambda: len(pool._members) == 2)
        await pool.desire(PoolState(BASE, target=2, idle=True))
        await until(lambda: len(pool._members) == 1)
        await settle(pool, PoolState(BASE, target=2, asleep=True, idle=True))
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
        await pool.desire(PoolState(BASE, target=2))
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
        await settle(pool, replace(state, asleep=True))
        assert not any(actor.device for actor in world.alive)
        await settle(pool, PoolState(NEXT, target=3))
        done = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(answer, (str, BlockFailed)) for answer in done)
        await until(lambda: [member.state for member in pool._members] == ["up"] * 3)
        assert {member.snapshot for member in pool._members} == {"iter-1"}
        await until(lambda: len(world.alive) == 3)

    play(story, min=1, max=4)

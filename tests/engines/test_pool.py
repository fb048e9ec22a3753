"""The pool with stub actors: routing, deaths, and starts that fail."""

import asyncio
from dataclasses import replace

import pytest

from actors.engines import PoolState, member, members
from actors.engines.pool import Routing
from sppo_ray.errors import BlockFailed, EngineFailed, ModelError, RunFailed, SnapshotMismatch
from sppo_ray.records import Snapshot
from tests.engines.stubs import World, play, until

BASE, NEXT = Snapshot(0, "base"), Snapshot(1, "policy")
OPEN = PoolState(BASE)


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


def test_a_pool_that_never_served_ends_after_the_same_failure_again_and_again() -> None:
    async def story(world: World, pool: Routing) -> None:
        world.errors["ready"] = [OSError("the GPU is too small") for _ in range(100)]
        with pytest.raises(RunFailed, match="generator-0 cannot start, after 12 starts: OSError: the GPU is too small"):
            await pool.open(BASE)
        assert world.calls["ready"] == 12

    play(story, min=1, max=1)


def test_a_pool_that_has_served_never_gives_up() -> None:
    async def story(world: World, pool: Routing) -> None:
        await pool.open(BASE)
        world.errors["ready"] = [OSError("the node has no network") for _ in range(15)]
        world.hold.clear()
        call = asyncio.ensure_future(pool.call("generate"))
        await until(lambda: world.calls["generate"])
        world.actors[0].die()
        world.hold.set()
        await call
        assert world.calls["ready"] == 1 + 15 + 1

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
        assert member.sequences == 3 and member.tokens is not None and 0 < member.tokens <= 500
        assert member.tokens_per_second is not None and 0 < member.tokens_per_second <= 1100  # 1000 on an idle machine
        sampling.cancel()

    play(story, min=1, max=1)


def test_a_large_pool_asks_its_members_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(members, "MOST_POLLS", 2)
    monkeypatch.setattr(member, "RATE_SECONDS", 0.0)  # so that the time between two turns is longer

    async def story(world: World, pool: Routing) -> None:
        await pool.open(BASE)
        asked = [world.polls[f"generator-{n}"] for n in range(5)]
        await until(lambda: all(world.polls[f"generator-{n}"] >= asked[n] + 4 for n in range(5)))
        counts = [world.polls[f"generator-{n}"] - asked[n] for n in range(5)]
        assert max(counts) - min(counts) <= 1
        assert all(one.tokens_per_second == 0 for one in (await pool.status()).members)

    play(story, min=5, max=5)


def test_an_engine_that_died_while_nobody_asked_it_anything_is_replaced() -> None:
    async def story(world: World, pool: Routing) -> None:
        await pool.open(BASE)
        world.errors["progress"] = [EngineFailed("vLLM's engine process 7 ended")]
        await until(lambda: world.calls["ready"] == 2)
        await until(lambda: pool._members[0].state == "up")
        (outage,) = pool._outages
        assert outage.why == "generator-0: EngineFailed: vLLM's engine process 7 ended"

    play(story, min=1, max=1)


def test_a_late_error_of_an_earlier_process_is_no_second_death() -> None:
    async def story(world: World, pool: Routing) -> None:
        await pool.open(BASE)
        member = pool._members[0]
        for _ in range(2):  # two calls were in flight when it died; the second says so after the member serves again
            pool._lost(member, "its process died", 0)
            await until(lambda: member.state == "up")
        assert member.restarts == len(pool._outages) == 1

    play(story)

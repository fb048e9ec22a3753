"""The board in one process: who waits for whom, and what the status counts."""

import asyncio
from collections.abc import Awaitable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from actors.run.board import Board
from actors.run.scoring import EnginePools
from sppo_ray.errors import BlockFailed, JudgeUnavailable


async def waits(awaitable: Awaitable[Any]) -> tuple[bool, asyncio.Future[Any]]:
    """Whether it is still waiting after everything else has had its turn."""
    task = asyncio.ensure_future(awaitable)
    for _ in range(5):
        await asyncio.sleep(0)
    return not task.done(), task


def test_each_epoch_trains_every_pair():
    board = Board()
    asyncio.run(board.begin(1, prompts=40, epochs=3))
    stages = asyncio.run(board.status()).stages
    assert {name: stage.total for name, stage in stages.items()} == {"generate": 40, "judge": 40, "train": 120}


def test_a_step_waits_while_the_run_is_paused():
    async def run() -> None:
        board = Board()
        await board.begin(1, 40)
        board._status.paused = True
        waiting, step = await waits(board.may_step(1))
        assert waiting
        board._status.paused = False
        await board._tell()
        assert await step is True

    asyncio.run(run())


def test_workers_get_one_answer_for_a_step_even_when_the_stop_comes_between_them():
    async def run() -> None:
        board = Board()
        await board.begin(1, 40)
        assert await board.may_step(1) is True  # the first worker
        board._stopping = True
        assert await board.may_step(1) is True  # the second one, of the same step
        assert await board.may_step(2) is False and await board.may_step(2) is False

    asyncio.run(run())


def test_a_granted_step_goes_on_through_a_pause():
    """One worker has step 1; the other must not wait for the resume, or the first waits for it in a collective."""

    async def run() -> None:
        board = Board()
        await board.begin(1, 40)
        assert await board.may_step(1) is True
        board._status.paused = True
        assert await asyncio.wait_for(board.may_step(1), 1) is True
        waiting, step = await waits(board.may_step(2))
        assert waiting
        step.cancel()

    asyncio.run(run())


def test_the_steps_of_the_next_iteration_are_granted_anew():
    async def run() -> None:
        board = Board()
        await board.begin(1, 40)
        assert await board.may_step(7) is True
        await board.begin(2, 40)
        board._stopping = True
        assert await board.may_step(1) is False

    asyncio.run(run())


def test_a_block_reported_twice_counts_once():
    async def run() -> None:
        board = Board()
        await board.begin(1, 40)
        for _ in range(2):
            await board.done("generate", 1, 0, 20)
        assert board._status.stages["generate"].done == 20

    asyncio.run(run())


def test_judged_returns_when_its_own_block_is_done():
    async def run() -> None:
        board = Board()
        await board.begin(1, 40)
        waiting, judged = await waits(board.judged(1, 1))
        await board.done("judge", 1, 0, 20)
        still, _ = await waits(asyncio.shield(judged))
        assert waiting and still
        await board.done("judge", 1, 1, 20)
        await asyncio.wait_for(judged, 1)

    asyncio.run(run())


def test_saving_ends_with_its_trainer():
    """A trainer that dies while it writes a checkpoint must not keep a stop waiting once it has started again."""

    async def run() -> None:
        board = Board()
        await board.begin(1, 40)
        await board.saving(True)
        waiting, free = await waits(board._until(lambda: not board._saving))
        assert waiting
        await board.training(1)
        await asyncio.wait_for(free, 1)

    asyncio.run(run())


class Remote:
    """A method as Ray actors have it."""

    def __init__(self, function: Any) -> None:
        self.remote = function


class StubPool:
    """Writes what it is asked for, after its turn in the loop; keeps the order of the calls."""

    def __init__(self, write: Any) -> None:
        self.calls: list[Any] = []
        self.call = Remote(self._call)
        self._write = write

    async def _call(self, method: str, *arguments: Any, alone: bool = False) -> Any:
        self.calls.append((method, *arguments[:1]))
        await asyncio.sleep(0)
        return self._write(method, *arguments)


def test_a_block_is_judged_after_it_is_sampled_and_what_is_there_is_left_alone(tmp_path):
    from sppo_ray.config import load_config
    from sppo_ray.fakes import FakeGenerator
    from sppo_ray.records import Candidates, Judged, Prompt, SetAside, Snapshot
    from sppo_ray.run_folder import Ledger

    config = load_config(overrides=["block=2"])
    ledger, fake = Ledger(tmp_path), FakeGenerator(Snapshot(0, "base"))
    prompts = [Prompt(f"p{n}", f"prompt {n}", [n]) for n in range(5)]
    ledger.write_prompts(1, prompts)

    def write(method: str, *arguments: Any) -> list[SetAside]:
        if method == "generate":
            path, part, count, snapshot = arguments
            ledger.write(fake.generate(part, count, snapshot), Candidates, path)
        else:
            candidates, path = arguments
            rows = ledger.read(Candidates, candidates)
            ledger.write(
                [Judged(r.prompt_id, r.prompt, r.responses, [], [], 0, 1, r.snapshot) for r in rows], Judged, path
            )
        return []

    generators, rankers = StubPool(write), StubPool(write)
    pools = EnginePools(config, ledger, generators, rankers)

    async def run() -> Board:
        board = Board()
        await board.begin(1, 5)
        await board.score(pools, 1, "iter-0")
        return board

    board = asyncio.run(run())
    assert len(generators.calls) == len(rankers.calls) == 3
    assert [board._status.stages[name].done for name in ("generate", "judge")] == [5, 5]
    ledger.block(Judged, 1, 1).unlink()
    board = asyncio.run(run())
    assert len(generators.calls) == 3 and rankers.calls[3:] == [("judge", ledger.block(Candidates, 1, 1))]
    assert board._status.stages["judge"].done == 5


def test_unusable_comparisons_of_a_block_that_is_judged_prompt_by_prompt_are_counted(tmp_path):
    """The block fails as a whole; on its own, the judge compares the first prompt and not the second."""
    from sppo_ray.config import load_config
    from sppo_ray.fakes import FakeGenerator
    from sppo_ray.records import Candidates, Judged, Prompt, SetAside, Snapshot
    from sppo_ray.run_folder import Ledger

    ledger, fake = Ledger(tmp_path), FakeGenerator(Snapshot(0, "base"))
    prompts = [Prompt(f"p{n}", f"prompt {n}", [n]) for n in range(2)]
    ledger.write_prompts(1, prompts)
    unusable = SetAside("p1", "judge", "not finite numbers")

    def judge(method: str, candidates: Path, path: Path) -> list[SetAside]:
        rows = ledger.read(Candidates, candidates)
        if len(rows) == 2:
            raise BlockFailed("out of luck")
        failed = [unusable] if rows[0].prompt_id == "p1" else []
        if failed:
            ledger.write_set_aside(path, failed)
        left = [] if failed else [Judged("p0", "", [], [], [], 0, 1, "iter-0")]
        ledger.write(left, Judged, path)
        return failed

    def generate(method: str, path: Path, part: list[Prompt], count: int, snapshot: str) -> None:
        ledger.write(fake.generate(part, count, snapshot), Candidates, path)

    async def run() -> Board:
        board = Board()
        await board.begin(1, 2)
        await board.score(EnginePools(load_config(), ledger, StubPool(generate), StubPool(judge)), 1, "iter-0")
        return board

    assert asyncio.run(run())._status.set_aside == 1
    assert [row.prompt_id for row in ledger.judged(1, 0)] == ["p0"] and ledger.set_aside(1) == [unusable]
    folders = {path.name for path in ledger.iteration(1).rglob("*") if path.is_dir()}
    assert folders == {"candidates", "judged", "judged-set-aside"}


def test_a_stage_begins_when_it_has_what_it_needs(monkeypatch):
    """Sampling when it is asked for, judging with the first sampled block, training with a judged block and a trainer."""
    now = [0.0]
    monkeypatch.setattr("sppo_ray.reporting.status.time.time", lambda: now[0])

    async def run() -> None:
        board = Board()
        await board.begin(1, 4)
        await board.training(1)
        now[0] = 5.0

        async def pass_time(*_: Any) -> None:
            for seconds, (stage, block, tokens) in [
                (95.0, ("generate", 0, 40)),
                (97.0, ("judge", 0, None)),
                (100.0, ("generate", 1, 40)),
                (104.0, ("judge", 1, None)),
            ]:
                now[0] = seconds
                await board.done(stage, 1, block, 2, tokens=tokens)

        monkeypatch.setattr("actors.run.board.score", pass_time)
        await board.score(EnginePools(None, None, None, None), 1, "iter-0")  # type: ignore[arg-type]
        stages = board._status.stages
        assert [stages[name].began for name in ("generate", "judge", "train")] == [5.0, 95.0, 97.0]
        assert [stages[name].seconds for name in ("generate", "judge")] == [95.0, 9.0]

    asyncio.run(run())


def test_training_begins_with_its_trainer_where_the_pairs_are_there_first():
    async def run() -> None:
        board = Board()
        await board.begin(1, 2)
        await board.done("generate", 1, 0, 2)
        await board.done("judge", 1, 0, 2)
        assert board._status.stages["train"].began is None
        await board.training(2)  # of the next iteration
        assert board._status.stages["train"].began is None
        await board.training(1)
        assert board._status.stages["train"].began is not None

    asyncio.run(run())


def test_a_judge_that_is_unavailable_pauses_the_run_in_words_and_is_called_again():
    async def run() -> None:
        board, calls = Board(), []

        async def call(method: str, *arguments: Any) -> str:
            calls.append(method)
            await board._until(lambda: not board._status.paused)  # as a pool does
            if len(calls) == 1:
                raise JudgeUnavailable("it does not answer")
            return "judged"

        rankers = SimpleNamespace(call=SimpleNamespace(remote=call))
        pools = EnginePools(None, None, None, rankers, board.judge_unavailable)
        waiting, judging = await waits(pools.call_judge("judge"))
        assert waiting and (board._status.paused, board._status.pause_reason) == (True, "it does not answer")
        await board._set_paused(False)
        await board._tell()
        assert await judging == "judged" and calls == ["judge", "judge"] and board._status.pause_reason is None

    asyncio.run(run())


def test_a_run_that_stops_is_not_paused_by_its_judge():
    board = Board()
    board._stopping = True
    asyncio.run(board.judge_unavailable("it does not answer"))
    assert not board._status.paused

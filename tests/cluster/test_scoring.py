"""Scoring and the dataset of pairs on a real cluster with fake engines: every pair once, in the order of the prompts."""

import asyncio
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.data import DataContext, ExecutionOptions

from actors.engines import Pool, PoolState, generator, ranker
from actors.run.board import Board
from actors.run.pairs import training_pairs
from actors.run.scoring import EnginePools, score
from sppo_ray.config import Config, PoolSettings, load_config
from sppo_ray.fakes import FakeGenerator, FakeJudge
from sppo_ray.preference import win_rates
from sppo_ray.records import Judged, Prompt, Snapshot
from sppo_ray.run_folder import Ledger

pytestmark = pytest.mark.usefixtures("cluster")

BASE = Snapshot(0, "base")
CONFIG = load_config(overrides=["block=4", "generators.cpus=0.1", "rankers.cpus=0.1"])
POOL = PoolSettings()
PROMPTS = [Prompt(f"p{number}", f"prompt {number}", [1, 2, number]) for number in range(10)]


@pytest.fixture
def pools(tmp_path: Path) -> EnginePools:
    ledger = Ledger(tmp_path)
    ledger.write_prompts(1, PROMPTS)
    pools = [
        Pool.remote("generator", partial(generator.start, CONFIG, partial(FakeGenerator, BASE), ledger), POOL),
        Pool.remote("ranker", partial(ranker.start, CONFIG, FakeJudge, ledger), POOL),
    ]
    ray.get([pools[0].open.remote(BASE), pools[1].open.remote()])
    return EnginePools(CONFIG, ledger, *pools)


def score_all(pools: EnginePools, board: Any = None) -> Any:
    """Returns the board that has counted."""
    board = board or ray.remote(num_cpus=0)(Board).remote()
    ray.get(board.begin.remote(1, len(PROMPTS)))
    ray.get(board.score.remote(pools, 1, "iter-0"))
    return board


class Turns(Board):
    """Notes how many blocks are sampled and how many are judged when the rankers' turn comes."""

    async def turn(self, pool: str) -> None:
        done = [sum(stage == name for name, *_ in self._done) for stage in ("generate", "judge")]
        self.seen = (pool, *done)


def test_on_one_gpu_all_blocks_are_sampled_before_the_first_is_judged(pools: EnginePools) -> None:
    one_gpu = ["placement=colocated", "generators.gpus=0.55", "rankers.gpus=0.4", "block=4"]
    pools = replace(pools, config=load_config(overrides=one_gpu))
    board = Turns()

    async def run() -> None:
        await board.begin(1, len(PROMPTS))
        await score(pools, 1, "iter-0", board)

    asyncio.run(run())
    assert board.seen == ("rankers", 3, 0)
    assert len(board._done) == 6


def shares(pools: EnginePools, board: Any, config: Config = CONFIG) -> list[list[Any]]:
    """What each of the two train workers reads."""
    DataContext.get_current().enable_progress_bars = False
    dataset = training_pairs(config, pools.ledger, board, 1)
    dataset.context.execution_options = ExecutionOptions(preserve_order=True)
    readers = [read.remote(split) for split in dataset.streaming_split(2, equal=True)]
    return ray.get(readers)


@ray.remote(num_cpus=0)
def read(split: Any) -> list[list[tuple[str, float]]]:
    batches = split.iter_batches(batch_size=2, batch_format="pyarrow")
    return [list(zip(b["prompt_id"].to_pylist(), b["weight"].to_pylist(), strict=True)) for b in batches]


def test_every_prompt_becomes_one_pair_in_order(pools: EnginePools) -> None:
    first, second = shares(pools, score_all(pools))

    # Batches of 4 for two workers: rows 0-1 | 2-3, then 4-5 | 6-7, then 8-9 and a share of filler of weight 0.
    def real(*numbers: int) -> list[tuple[str, float]]:
        return [(f"p{number}", 1.0) for number in numbers]

    assert first == [real(0, 1), real(4, 5), real(8, 9)]
    assert second == [real(2, 3), real(6, 7), [("", 0.0), ("", 0.0)]]


def test_pairs_below_the_margin_are_left_out_and_batches_stay_full(pools: EnginePools) -> None:
    board = score_all(pools)
    margins = {
        row.prompt_id: row.win_rates[row.chosen] - row.win_rates[row.rejected] for row in pools.ledger.rows(Judged, 1)
    }
    limit = sorted(margins.values())[5]  # five of ten are below it
    names = [name for name, margin in margins.items() if margin >= limit]
    assert len(names) == 5
    training = CONFIG.training.model_copy(update={"min_margin": limit})
    first, second = shares(pools, board, CONFIG.model_copy(update={"training": training}))
    # One batch of four, one of the fifth pair and fillers, and none where the third batch would be.
    assert first == [[(names[0], 1.0), (names[1], 1.0)], [(names[4], 1.0), ("", 0.0)]]
    assert second == [[(names[2], 1.0), (names[3], 1.0)], [("", 0.0), ("", 0.0)]]


def test_pairs_are_there_as_soon_as_their_block_is_judged(pools: EnginePools) -> None:
    """The trainer's dataset reads the first block while the last one is not sampled yet."""
    board = ray.remote(num_cpus=0)(Board).remote()
    ray.get(board.begin.remote(1, len(PROMPTS)))
    ray.get(pools.generators.desire.remote(PoolState(BASE, paused=True)))
    scoring = board.score.remote(pools, 1, "iter-0")
    _, waiting = ray.wait([board.judged.remote(1, 0)], timeout=1)
    assert waiting
    ray.get(pools.generators.desire.remote(PoolState(BASE)))
    ray.get([board.judged.remote(1, block) for block in range(3)], timeout=60)
    ray.get(scoring)


def test_judged_rows_hold_comparisons_win_rates_and_the_pair(pools: EnginePools) -> None:
    score_all(pools)
    rows = [row for block in range(3) for row in pools.ledger.judged(1, block)]

    assert [row.prompt_id for row in rows] == [prompt.prompt_id for prompt in PROMPTS]
    for row in rows:
        rates = win_rates(row.comparisons)
        assert row.win_rates == pytest.approx(rates.tolist(), abs=1e-6)
        assert (row.chosen, row.rejected) == (rates.argmax(), rates.argmin())
        assert len(row.responses) == 5 and row.snapshot == "iter-0"


def test_what_the_ledger_has_is_not_computed_again(pools: EnginePools) -> None:
    score_all(pools)
    written = {path: path.stat().st_mtime_ns for path in pools.ledger.root.rglob("*.parquet")}
    again = score_all(pools)

    assert {path: path.stat().st_mtime_ns for path in pools.ledger.root.rglob("*.parquet")} == written
    status = ray.get(again.status.remote())
    assert [status.stages[stage].done for stage in ("generate", "judge")] == [10, 10]

"""Scoring and the dataset of pairs on a real cluster with fake engines: every pair once, in the order of the prompts."""

import asyncio
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.data import DataContext, ExecutionOptions

from actors.engines import Pool, PoolState, generator, ranker
from actors.run.board import Board
from actors.run.pairs import read_shares, training_pairs
from actors.run.scoring import EnginePools, score
from sppo_ray.config import Config, PoolSettings, load_config
from sppo_ray.fakes import FakeGenerator, FakeJudge
from sppo_ray.preference import win_rates
from sppo_ray.records import Judged, Prompt, Snapshot
from sppo_ray.run_folder import Ledger, files

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


def score_all(pools: EnginePools, board: Any = None, iteration: int = 1) -> Any:
    """Returns the board that has counted."""
    board = board or ray.remote(num_cpus=0)(Board).remote()
    ray.get(board.begin.remote(iteration, len(pools.ledger.prompts(iteration))))
    ray.get(board.score.remote(pools, iteration, "iter-0"))
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


def shares(
    pools: EnginePools, board: Any, config: Config = CONFIG, last: int = 1, first_ones: int | None = None
) -> list[list[Any]]:
    """What each of the two train workers reads of iterations 1 to last, or the first ones of it."""
    DataContext.get_current().enable_progress_bars = False
    dataset = training_pairs(config, pools.ledger, board, range(1, last + 1))
    dataset.context.execution_options = ExecutionOptions(preserve_order=True)
    readers = [read.remote(split, config, first_ones) for split in dataset.streaming_split(2, equal=True)]
    return ray.get(readers, timeout=300)


@ray.remote(num_cpus=0)
def read(split: Any, config: Config, first_ones: int | None) -> list[list[tuple[str, float]]]:
    return [
        [(pair.prompt_id, pair.weight) for pair in share] for share in islice(read_shares(split, config), first_ones)
    ]


def real(*numbers: int) -> list[tuple[str, float]]:
    return [(f"p{number}", 1.0) for number in numbers]


FILL = [("", 0.0), ("", 0.0)]


def test_every_prompt_becomes_one_pair_in_order(pools: EnginePools) -> None:
    first, second = shares(pools, score_all(pools))
    # Batches of 4 for two workers: rows 0-1 | 2-3, then 4-5 | 6-7, then 8-9 and a share of filler of weight 0.
    assert first == [real(0, 1), real(4, 5), real(8, 9)]
    assert second == [real(2, 3), real(6, 7), FILL]


def test_the_pairs_of_the_next_iteration_follow_every_epoch_of_the_one_before(pools: EnginePools) -> None:
    pools.ledger.write_prompts(2, [Prompt(f"p{number}", f"prompt {number}", [1, 2]) for number in range(20, 25)])
    board = score_all(pools, score_all(pools), 2)
    training = CONFIG.training.model_copy(update={"epochs": 2})
    first, second = shares(pools, board, CONFIG.model_copy(update={"training": training}), 2)
    assert first == [real(0, 1), real(4, 5), real(8, 9)] * 2 + [real(20, 21), [("p24", 1.0), ("", 0.0)]] * 2
    assert second == [real(2, 3), real(6, 7), FILL] * 2 + [real(22, 23), FILL] * 2


def test_the_last_pairs_of_an_iteration_do_not_wait_for_the_next(pools: EnginePools) -> None:
    pools.ledger.write_prompts(2, PROMPTS)
    first, second = shares(pools, score_all(pools), last=2, first_ones=3)
    assert (first[-1], second[-1]) == (real(8, 9), FILL)


def test_a_trainer_that_starts_again_reads_no_iteration_that_is_published(pools: EnginePools) -> None:
    pools.ledger.write_prompts(2, PROMPTS[:4])
    board = score_all(pools, iteration=2)  # a coordinator that has started again knows of no block of iteration 1
    files.write_json(pools.ledger.iteration(1) / "policy" / "manifest.json", {})
    assert shares(pools, board, last=2) == [[real(0, 1)], [real(2, 3)]]


def test_workers_that_recompute_the_references_keep_the_pairs_for_the_other_epochs(pools: EnginePools) -> None:
    training = CONFIG.training.model_copy(update={"epochs": 2, "reference": "recompute"})
    first, _ = shares(pools, score_all(pools), CONFIG.model_copy(update={"training": training}))
    assert first == [real(0, 1), real(4, 5), real(8, 9)]


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

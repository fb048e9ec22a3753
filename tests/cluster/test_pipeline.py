"""The two datasets of an iteration on a real cluster with fake engines: every pair once, in the order of the prompts."""

import threading
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.data import DataContext, ExecutionOptions

from actors.engines import Pool, generator, ranker
from actors.run.blocks import Stages
from actors.run.board import Board
from actors.run.pipeline import score, training_pairs
from sppo_ray.config import PoolSettings, load_config
from sppo_ray.fakes import FakeGenerator, FakeJudge
from sppo_ray.preference import win_rates
from sppo_ray.records import Candidates, Prompt, Snapshot
from sppo_ray.run_folder import Ledger

pytestmark = pytest.mark.usefixtures("cluster")

BASE = Snapshot(0, "base")
CONFIG = load_config(overrides=["block=4", "generators.cpus=0.1", "rankers.cpus=0.1"])
POOL = PoolSettings()
PROMPTS = [Prompt(f"p{number}", f"prompt {number}", [1, 2, number]) for number in range(10)]


@pytest.fixture
def stages(tmp_path: Path) -> Stages:
    ledger = Ledger(tmp_path)
    ledger.write_prompts(1, PROMPTS)
    pools = [
        Pool.remote("generator", partial(generator.start, CONFIG, partial(FakeGenerator, BASE), ledger), POOL),
        Pool.remote("ranker", partial(ranker.start, CONFIG, FakeJudge, ledger), POOL),
    ]
    ray.get([pools[0].open.remote(BASE), pools[1].open.remote()])
    return Stages(CONFIG, ledger, *pools, ray.remote(num_cpus=0)(Board).remote())


def score_all(stages: Stages) -> None:
    ray.get(stages.coordinator.begin.remote(1, len(PROMPTS), "iter-0"))
    score(stages, range(1, 2))


def shares(stages: Stages) -> list[list[Any]]:
    """What each of the two train workers reads."""
    DataContext.get_current().enable_progress_bars = False
    dataset = training_pairs(stages, 1, len(PROMPTS))
    dataset.context.execution_options = ExecutionOptions(preserve_order=True)
    readers = [read.remote(split) for split in dataset.streaming_split(2, equal=True)]
    return ray.get(readers)


@ray.remote(num_cpus=0)
def read(split: Any) -> list[list[tuple[str, float]]]:
    batches = split.iter_batches(batch_size=2, batch_format="pyarrow")
    return [list(zip(b["prompt_id"].to_pylist(), b["weight"].to_pylist(), strict=True)) for b in batches]


def test_every_prompt_becomes_one_pair_in_order(stages: Stages) -> None:
    score_all(stages)
    first, second = shares(stages)

    # Batches of 4 for two workers: rows 0-1 | 2-3, then 4-5 | 6-7, then 8-9 and a share of filler of weight 0.
    def real(*numbers: int) -> list[tuple[str, float]]:
        return [(f"p{number}", 1.0) for number in numbers]

    assert first == [real(0, 1), real(4, 5), real(8, 9)]
    assert second == [real(2, 3), real(6, 7), [("", 0.0), ("", 0.0)]]


def test_blocks_of_the_next_iteration_wait_and_keep_none_of_this_one_waiting(stages: Stages) -> None:
    stages.ledger.write_prompts(2, PROMPTS)
    stages.ledger.write_prompts(3, PROMPTS)
    board = stages.coordinator
    scoring = threading.Thread(target=score, args=(stages, range(1, 4)))
    scoring.start()
    for iteration in (1, 2, 3):
        ray.get(board.begin.remote(iteration, len(PROMPTS), "iter-0"))
        ray.get([board.judged.remote(iteration, block) for block in range(3)], timeout=60)
        assert not stages.ledger.blocks(Candidates, iteration + 1)
    scoring.join()


def test_judged_rows_hold_comparisons_win_rates_and_the_pair(stages: Stages) -> None:
    score_all(stages)
    rows = [row for block in range(3) for row in stages.ledger.judged(1, block)]

    assert [row.prompt_id for row in rows] == [prompt.prompt_id for prompt in PROMPTS]
    for row in rows:
        rates = win_rates(row.comparisons)
        assert row.win_rates == pytest.approx(rates.tolist(), abs=1e-6)
        assert (row.chosen, row.rejected) == (rates.argmax(), rates.argmin())
        assert len(row.responses) == 5 and row.snapshot == "iter-0"


def test_what_the_ledger_has_is_not_computed_again(stages: Stages) -> None:
    score_all(stages)
    written = {path: path.stat().st_mtime_ns for path in stages.ledger.root.rglob("*.parquet")}
    again = replace(stages, coordinator=ray.remote(num_cpus=0)(Board).remote())
    score_all(again)

    assert {path: path.stat().st_mtime_ns for path in stages.ledger.root.rglob("*.parquet")} == written
    status = ray.get(again.coordinator.status.remote())
    assert [status.stages[stage].done for stage in ("generate", "judge")] == [10, 10]

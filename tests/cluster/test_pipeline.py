"""The two datasets of an iteration on a real cluster with fake engines: every pair once, in the order of the prompts."""

import asyncio
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.data import DataContext, ExecutionOptions

from actors import generator, ranker
from actors.blocks import Stages
from actors.pipeline import scored_blocks, training_pairs
from actors.pool import Pool
from sppo_ray.config import Pool as Settings
from sppo_ray.config import load_config
from sppo_ray.fakes import FakeGenerator, FakeJudge
from sppo_ray.ledger import Ledger
from sppo_ray.preference import win_rates
from sppo_ray.records import Prompt, Snapshot

pytestmark = pytest.mark.usefixtures("cluster")

BASE = Snapshot(0, "base")
CONFIG = load_config(overrides=["block=4", "generators.cpus=0.1", "rankers.cpus=0.1"])
POOL = Settings()
PROMPTS = [Prompt(f"p{number}", f"prompt {number}", [1, 2, number]) for number in range(10)]


@ray.remote(num_cpus=0)
class Counter:
    """Stands where the coordinator stands: counts, and lets pairs through as soon as their block is judged."""

    def __init__(self) -> None:
        self.counts = {"generate": 0, "judge": 0}
        self.blocks: set[int] = set()

    async def progress(self, stage: str, count: int) -> None:
        self.counts[stage] += count

    async def tell(self, block: int) -> None:
        self.blocks.add(block)

    async def judged(self, iteration: int, block: int) -> None:
        while block not in self.blocks:
            await asyncio.sleep(0.05)

    async def totals(self) -> dict[str, int]:
        return self.counts


@pytest.fixture
def stages(tmp_path: Path) -> Stages:
    ledger = Ledger(tmp_path)
    ledger.write_prompts(1, PROMPTS)
    pools = [
        Pool.remote("generator", partial(generator.start, CONFIG, partial(FakeGenerator, BASE), ledger), POOL),
        Pool.remote("ranker", partial(ranker.start, CONFIG, FakeJudge, ledger), POOL),
    ]
    ray.get([pools[0].open.remote(BASE), pools[1].open.remote()])
    return Stages(CONFIG, ledger, *pools, Counter.remote())


def score(stages: Stages) -> list[int]:
    done = []
    for block in scored_blocks(stages, 1, "iter-0", len(PROMPTS)):
        ray.get(stages.coordinator.tell.remote(block))
        done.append(block)
    return done


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
    assert sorted(score(stages)) == [0, 1, 2]
    first, second = shares(stages)

    # Batches of 4 for two workers: rows 0-1 | 2-3, then 4-5 | 6-7, then 8-9 and a share of filler of weight 0.
    def real(*numbers: int) -> list[tuple[str, float]]:
        return [(f"p{number}", 1.0) for number in numbers]

    assert first == [real(0, 1), real(4, 5), real(8, 9)]
    assert second == [real(2, 3), real(6, 7), [("", 0.0), ("", 0.0)]]


def test_judged_rows_hold_comparisons_win_rates_and_the_pair(stages: Stages) -> None:
    score(stages)
    rows = [row for block in range(3) for row in stages.ledger.judged(1, block)]

    assert [row.prompt_id for row in rows] == [prompt.prompt_id for prompt in PROMPTS]
    for row in rows:
        rates = win_rates(row.comparisons)
        assert row.win_rates == pytest.approx(rates.tolist(), abs=1e-6)
        assert (row.chosen, row.rejected) == (rates.argmax(), rates.argmin())
        assert len(row.responses) == 5 and row.snapshot == "iter-0"


def test_what_the_ledger_has_is_not_computed_again(stages: Stages) -> None:
    score(stages)
    written = {path: path.stat().st_mtime_ns for path in stages.ledger.root.rglob("*.parquet")}
    score(stages)

    assert {path: path.stat().st_mtime_ns for path in stages.ledger.root.rglob("*.parquet")} == written
    assert ray.get(stages.coordinator.totals.remote()) == {"generate": 20, "judge": 20}

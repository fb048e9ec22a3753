"""The time of an iteration and of what it writes, by hand."""

from dataclasses import replace

import pytest

from sppo_ray.config import load_config
from sppo_ray.planning.rates import Rates
from sppo_ray.planning.splits import Split, checkpoint_seconds, iteration_seconds, master_seconds
from sppo_ray.planning.work import work
from tests.planning.test_budget import SMALL


def test_an_iteration_s_seconds_by_hand() -> None:
    config = load_config(overrides=["prompts.source=x.jsonl", "prompts.limit=960", "block=32", "evaluation.held_out=0"])
    load = work(config)
    assert (load.blocks, load.comparisons) == (10, 320 * 20)
    rates = Rates(
        generate=load.generated_tokens / 400, judge=load.judged_tokens / 40, train=load.trained_tokens / 80,
        mark=5.0, sequences=1, source="by hand",
    )  # fmt: skip
    apart = iteration_seconds(config, SMALL, load, rates, Split("disaggregated", 2, 1, 1, 4))
    assert (apart.generate, apart.judge, apart.train) == (200, 40, 80)
    # The slowest stage sets the pace; its last block is judged 40 / 10 s after it is sampled.
    assert apart.total - apart.evaluate == pytest.approx(200 + 4, abs=0.01)
    slow = iteration_seconds(
        config, SMALL, load, replace(rates, train=rates.train / 10), Split("disaggregated", 2, 1, 1, 4)
    )
    # The trainers take 60 s to start; the first block is sampled and judged by then, in 40 + 4 s.
    assert slow.total - slow.evaluate == pytest.approx(60 + 800, abs=0.01)
    turns = iteration_seconds(config, SMALL, load, rates, Split("colocated", 2, 1, 1, 3))
    assert turns.total - turns.evaluate == pytest.approx(200 + 4 + 60 + 80, abs=0.01)


def test_checkpoints_take_their_share_of_the_time() -> None:
    # 388 parameters of 2 + 4 + 4 bytes, at 1 GB/s; in 4,000 s there are two half hours.
    each = 388 * 10 / 1e9
    config = load_config(overrides=["policy.dtype=bfloat16", "training.checkpoint_steps=null"])
    assert checkpoint_seconds(config, SMALL, 4000.0, 300, 8) == pytest.approx(2 * each)
    assert checkpoint_seconds(config, SMALL, 1700.0, 300, 8) == 0
    assert checkpoint_seconds(config, SMALL, 4000.0, 300, 16) == pytest.approx(each)  # on two nodes, each a half
    often = load_config(overrides=["policy.dtype=bfloat16", "training.checkpoint_steps=50"])
    assert checkpoint_seconds(often, SMALL, 4000.0, 300, 8) == pytest.approx(6 * each)


def test_float32_weights_between_iterations_take_their_share_of_the_time() -> None:
    # 388 parameters of 4 bytes, at 1 GB/s, after two iterations of three.
    mean = 388 * 4 / 1e9 * 2 / 3
    apart = Split("disaggregated", 2, 1, 8, 11)
    config = load_config(overrides=["iterations=3"])
    assert master_seconds(config, SMALL, apart) == pytest.approx(mean)
    assert master_seconds(config, SMALL, replace(apart, trainers=16)) == pytest.approx(
        mean / 2
    )  # two nodes, each a half
    # Colocated trainers start anew, and read what they have written.
    assert master_seconds(config, SMALL, Split("colocated", 7, 1, 8, 8)) == pytest.approx(2 * mean)
    assert master_seconds(load_config(overrides=["iterations=1"]), SMALL, apart) == 0
    rounded = load_config(overrides=["iterations=3", "training.carry=snapshot"])
    assert master_seconds(rounded, SMALL, apart) == 0
    large = replace(SMALL, vocabulary=10**9)
    load = work(load_config("gemma-2-9b-it"))
    rates = Rates(generate=1e9, judge=1e9, mark=1e9, train=1e9, sequences=1, source="by hand")
    kept, lost = (iteration_seconds(one, large, load, rates, apart).advance for one in (config, rounded))
    assert kept - lost == pytest.approx(master_seconds(config, large, apart))

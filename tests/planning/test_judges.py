"""What judges take in the plan, by hand: memory, GPUs, time and dollars."""

from pathlib import Path

import pytest

from sppo_ray.config import load_config
from sppo_ray.judging.llm.question import read_template
from sppo_ray.planning import memory
from sppo_ray.planning.devices import device
from sppo_ray.planning.memory import GIB
from sppo_ray.planning.rates import table_rates
from sppo_ray.planning.splits import Split, colocated, disaggregated, iteration_seconds
from sppo_ray.planning.work import work
from tests.judging.chat_checkpoint import build_chat_model
from tests.planning.test_budget import SMALL


def test_a_python_judge_takes_no_memory_of_a_gpu_and_almost_no_time() -> None:
    config = load_config("gemma-2-9b-it", overrides=["judge.kind=python", "judge.model=math:fsum"])
    memories = memory.role_memory(config, 80 * GIB, 8, colocated=False)
    assert memories["rankers"].parts == {}
    load = work(config)
    assert load.judged_tokens == load.prompts * 5 * (190 + 400)
    assert load.judged_tokens / table_rates(config, device(80), load, 8).judge < 1  # seconds


def test_an_endpoint_takes_no_gpu_and_costs_by_the_token() -> None:
    """The question: template and texts are read at 2 dollars per million, one is written at 10."""
    price = "price: {input: 2, output: 10}, requests: 50"
    settings = ["evaluation.held_out=100", f"judge={{kind: llm, model: m, endpoint: 'http://127.0.0.1:1', {price}}}"]
    config = load_config("gemma-2-9b-it", overrides=["prompts.limit=1000", *settings])
    load = work(config)
    assert memory.role_memory(config, 80 * GIB, 8, colocated=False)["rankers"].parts == {}
    read = len(read_template(None)) / 4.5 + 190 + 2 * 400
    each = (2 * read + 10) / 1e6
    assert load.judge_usd == pytest.approx(
        (1000 * 20 + 100 * 2 * 2) * each
    )  # K (K - 1); base and previous, both orders
    assert load.judged_tokens / table_rates(config, device(80), load, 8).judge == pytest.approx(20_000 / 50, rel=1e-3)


def test_rankers_hold_the_judge_of_the_evaluation_too() -> None:
    overrides = ["evaluation.judge.model=llm-blender/PairRM", "evaluation.judge.batch_tokens=1000"]
    parts = memory.role_memory(load_config("gemma-2-9b-it", overrides=overrides), 80 * GIB, 8, False)["rankers"].parts
    assert parts["evaluation_weights"] == parts["weights"] and parts["evaluation_activations"] < parts["activations"]


def test_the_time_of_both_judges_is_in_the_evaluation() -> None:
    """By hand: 100 responses against base and previous: 400 questions of 1 s, 50 at a time, and 400 of 16 at a time."""
    judge = "kind: llm, model: m, endpoint: 'http://127.0.0.1:1'"
    judges = [f"judge={{{judge}, requests: 50}}", f"evaluation.judge={{{judge}, requests: 16}}"]
    config = load_config("gemma-2-9b-it", overrides=["prompts.limit=1000", "evaluation.held_out=100", *judges])
    rates = table_rates(config, device(80), work(config), 8)
    assert 100 / rates.mark == pytest.approx(400 / 50 + 400 / 16)
    sampled = 100 * 400 / rates.generate
    seconds = iteration_seconds(config, SMALL, work(config), rates, Split("disaggregated", 1, 1, 1, 2))
    assert seconds.evaluate == pytest.approx(sampled + 33)


def test_one_order_of_each_pair_is_half_the_judging() -> None:
    both, once = (work(load_config("gemma-2-9b-it", overrides=[f"judge.orders={orders}"])) for orders in (2, 1))
    assert (both.comparisons, once.comparisons) == (20_000 * 20, 20_000 * 10)
    assert once.judged_tokens == both.judged_tokens / 2


def test_a_judge_on_two_gpus_takes_two_of_the_plan(tmp_path: Path) -> None:
    """By hand: of 8 GPUs, workers 1, 2, 4, rankers of 2 each, one for each generator."""
    judge = [f"judge.model={build_chat_model(tmp_path)}", "judge.kind=llm", "judge.tensor_parallel=2", "rankers.gpus=2"]
    config = load_config("gemma-2-9b-it", overrides=judge)
    assert colocated(config, 8) == []
    found = [(split.trainers, split.rankers, split.generators) for split in disaggregated(config, 8)]
    assert found == [(1, 1, 5), (1, 2, 3), (1, 3, 1), (2, 1, 4), (2, 2, 2), (4, 1, 2)]
    assert "rankers.max=2" in disaggregated(config, 8)[1].settings(config)
    assert not any("rankers.gpus" in setting for setting in disaggregated(config, 8)[1].settings(config))

"""`placement: auto`: the plan's best for a cluster, within what the configuration says."""

from typing import Any

import pytest

from sppo_ray.config import Config, load_config, validated
from sppo_ray.errors import ClusterError
from sppo_ray.planning.placing import Machines, place

PROMPTS = 20_000


def written(**training: Any) -> Config:
    """A configuration that says nothing of devices, apart from `training`."""
    return validated(
        {
            "recipe": "mine",
            "prompts": {"source": "mine.csv"},
            "policy": {"model": "google/gemma-2-9b-it", "attention": "eager"},
            "generation": {},
            "judge": {"model": "llm-blender/PairRM"},
            "training": training,
        }
    )


def test_one_gpu_is_shared_by_all_roles_in_turn() -> None:
    placed = place(written(), Machines(16, 1, 80, 160), PROMPTS)
    assert (placed.placement, placed.takes_turns, placed.training.workers) == ("colocated", True, 1)
    assert placed.training.offload == "optimizer"
    assert placed.generators.gpus + placed.rankers.gpus + placed.training.gpus == pytest.approx(1)
    assert placed.prompts.source == "mine.csv"


def test_eight_gpus_hold_an_engine_and_a_worker_each() -> None:
    placed = place(written(), Machines(96, 8, 80, 160), PROMPTS)
    assert (placed.placement, placed.takes_turns, placed.training.workers) == ("colocated", False, 8)
    assert placed.generators.max + placed.rankers.max == 8 and placed.training.offload == "none"


def test_what_the_user_says_stays() -> None:
    placed = place(written(workers=4, micro_batch_tokens=4096), Machines(96, 8, 80, 160), PROMPTS)
    assert (placed.training.workers, placed.training.micro_batch_tokens) == (4, 4096)


def test_numbers_are_never_changed_but_named() -> None:
    with pytest.raises(ClusterError, match=r"1 GPUs of 24 GiB.*set .*training.adapter.rank=16"):
        place(written(), Machines(16, 1, 24, 48), PROMPTS)


@pytest.mark.parametrize(
    ("recipe", "gib"),
    [
        ("gemma-2-9b-it-lora", 24.0),
        ("gemma-2-9b-it-lora", 48.0),
        ("llama-3-8b-instruct-lora", 22.5),  # what an A10G or L4 of 24 GB has
        ("qwen3-8b-lora", 22.5),
    ],
)
def test_the_recipes_of_adapters_fit_one_gpu(recipe: str, gib: float) -> None:
    placed = place(load_config(recipe), Machines(8, 1, gib, 2 * gib), PROMPTS)
    assert placed.takes_turns and placed.training.workers == placed.generation.tensor_parallel == 1


def test_without_gpus_roles_run_side_by_side_on_cpus() -> None:
    placed = place(written(batch_size=4, cpus=0.5), Machines(cpus=4), PROMPTS)
    assert (placed.placement, placed.training.workers) == ("disaggregated", 4)  # 4 x 0.5 beside two engines of 1
    assert (placed.training.gpus, placed.generators.gpus, placed.rankers.gpus) == (0, 0, 0)
    two = place(written(batch_size=4), Machines(cpus=4), PROMPTS)
    assert two.training.workers == 2
    assert load_config("gemma-2-9b-it").placement == load_config().placement == "disaggregated"

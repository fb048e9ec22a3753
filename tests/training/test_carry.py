"""What passes from one iteration to the next: the float32 weights, in one process or from their files, or the rounded snapshot."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from sppo_ray.config import Config
from sppo_ray.errors import RunFailed
from sppo_ray.run_folder.masters import reading, write_part
from tests.conftest import free_port
from tests.training.plain import FILLER, PAIRS, STEPS, configuration, plain_steps, several_updates

ITERATIONS = 3
TAKEN = 3  # of the STEPS of each schedule


def changed(config: Config, **training: object) -> Config:
    return config.model_copy(update={"training": config.training.model_copy(update=training)})


def small_steps() -> Config:
    config = changed(configuration("untied head"), learning_rate=5e-7)
    return config.model_copy(update={"policy": config.policy.model_copy(update={"dtype": "bfloat16"})})


def rounded(model: Path, weights: dict[str, torch.Tensor], folder: Path, dtype: torch.dtype = torch.bfloat16) -> None:
    """Write a model with these weights, as a snapshot has them."""
    network = AutoModelForCausalLM.from_pretrained(model, dtype=dtype)
    network.load_state_dict(weights, strict=False)
    network.save_pretrained(folder)


@dataclass(frozen=True)
class Worker:
    rank: int
    home: Path

    def train(self, policy) -> dict[str, torch.Tensor]:
        """A few steps; the float32 weights after them, on both workers."""
        share = PAIRS[:3] if self.rank == 0 else [*PAIRS[3:], FILLER]
        for _ in range(TAKEN):
            policy.step(share)
        weights = [{name: tensor.clone() for name, tensor in policy.gather()}] if self.rank == 0 else [None]
        if self.rank:
            policy.assist()
        torch.distributed.broadcast_object_list(weights)
        return weights[0]

    def in_a_row(self, config: Config) -> dict[str, torch.Tensor]:
        """All iterations in one policy, with nothing published in between."""
        policy = self.built(config, self.home / "model")
        weights = self.train(policy)
        for _ in range(1, ITERATIONS):
            policy.begin(STEPS, [])
            weights = self.train(policy)
        policy.close()
        return weights

    def one_by_one(self, config: Config, carry: bool) -> dict[str, torch.Tensor]:
        """Each iteration in a new engine that has nothing but what is on the disk: snapshot and, if carried, float32 weights."""
        here = self.home / f"carry-{carry}"
        for iteration in range(1, ITERATIONS + 1):
            model = here / f"policy-{iteration - 1}" if iteration > 1 else self.home / "model"
            policy = self.built(config, model)
            if carry and iteration > 1:
                policy.load_master(here / f"master-{iteration - 1}")
            weights = self.train(policy)
            policy.save_master(here / f"master-{iteration}")
            policy.close()
            if self.rank == 0:
                rounded(model, weights, here / f"policy-{iteration}")
            torch.distributed.barrier()
        return weights

    def built(self, config: Config, model: Path):
        from sppo_ray.training.policy import TrainablePolicy

        return TrainablePolicy(config, str(model), STEPS, torch.device("cpu"))


def work(rank: int, port: int, home: str) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")
    several_updates()
    worker, config = Worker(rank, Path(home)), small_steps()
    found: dict[str, object] = {
        "in a row": worker.in_a_row(config),
        "master": worker.one_by_one(config, carry=True),
        "snapshot": worker.one_by_one(config, carry=False),
        "float32": worker.in_a_row(configuration("untied head")),
    }
    try:
        worker.built(config, worker.home / "model").load_master(worker.home / "carry-True" / "master-3")
    except RunFailed as error:
        found["refused"] = str(error)
    if rank == 0:
        torch.save(found, worker.home / "found.pt")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("carry")
    torch.manual_seed(0)
    shape = LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=16, initializer_range=0.1, tie_word_embeddings=False,
    )  # fmt: skip
    LlamaForCausalLM(shape).bfloat16().save_pretrained(folder / "model")
    mp.spawn(work, (free_port(), str(folder)), nprocs=2)
    return folder


@pytest.fixture(scope="module")
def found(home: Path) -> dict:
    return torch.load(home / "found.pt", weights_only=False)


def apart(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert set(one) == set(other)
    return max(float((tensor - other[name]).abs().max()) for name, tensor in one.items())


def test_carried_over_three_iterations_are_three_schedules_in_a_row(found: dict) -> None:
    assert all(tensor.dtype == torch.float32 for tensor in found["in a row"].values())
    assert apart(found["in a row"], found["master"]) == 0.0  # 1e-6 is the limit


def test_from_rounded_snapshots_they_are_not(home: Path, found: dict) -> None:
    base = {
        name: tensor.float() for name, tensor in AutoModelForCausalLM.from_pretrained(home / "model").named_parameters()
    }
    assert apart(found["in a row"], found["snapshot"]) > 5e-6
    moved = {
        way: sum(float((tensor - base[name]).detach().norm() ** 2) for name, tensor in found[way].items())
        for way in ("master", "snapshot")
    }
    assert moved["snapshot"] < 0.5 * moved["master"]  # most of the first two iterations is rounded away


def test_the_next_iteration_has_a_new_optimizer_and_schedule(home: Path, found: dict, tmp_path: Path) -> None:
    """Held against plain PyTorch, an iteration after the other with an optimizer each."""
    config, model = configuration("untied head"), home / "model"
    for iteration in range(ITERATIONS):
        weights, _ = plain_steps(model, config, count=TAKEN)
        model = tmp_path / str(iteration)
        rounded(home / "model", weights, model, torch.float32)
    for name, tensor in found["float32"].items():
        want = weights[name].detach()
        assert (tensor - want).norm() <= 1e-5 * want.norm(), name


def test_float32_weights_of_another_snapshot_are_refused(found: dict) -> None:
    assert "master-3 is damaged: remove it" in found["refused"]


def parts(values: torch.Tensor, size: int) -> Iterator[torch.Tensor]:
    """As ZeRO-3 cuts a tensor; the last part is padded."""
    padded = torch.cat([values, torch.full((-len(values) % size,), -1.0)])
    yield from padded.split(size)


def test_another_number_of_workers_reads_the_same_weights(tmp_path: Path) -> None:
    long, short = torch.arange(10.0), torch.tensor([7.0])
    for worker, (first, second) in enumerate(zip(parts(long, 4), [short, *([torch.zeros(1)] * 2)], strict=True)):
        write_part(tmp_path, worker, 3, {"long": 4, "short": 1}, iter([("long", first), ("short", second)]))
    for workers, size in ((1, 10), (2, 5), (3, 4), (4, 3)):
        pieces: dict[str, list[torch.Tensor]] = {"long": [], "short": []}
        for worker in range(workers):
            with reading(tmp_path, worker, workers) as read:
                pieces["long"].append(read("long", worker * size, min(10, (worker + 1) * size)))
                pieces["short"].append(read("short", worker, min(1, worker + 1)))
        assert torch.equal(torch.cat(pieces["long"]), long)
        assert torch.equal(torch.cat(pieces["short"]), short)

"""One ZeRO-3 step on two workers is one plain PyTorch step; publishing gives the trained weights back."""

import gc
import json
import math
import os
import signal
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from peft import LoraConfig, get_peft_model
from torch.multiprocessing import ProcessExitedException
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
)

from sppo_ray.errors import ReferenceMismatch
from sppo_ray.records import Response
from sppo_ray.training.batching import Row, micro_batches
from sppo_ray.training.logprobs import token_logprobs
from tests.conftest import free_port
from tests.training.plain import CASES, FILLER, PAIRS, STEPS, configuration, plain_steps, several_updates, with_targets


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two tiny models, soft-capped with a tied head and not capped with a head of its own, and an adapter of the second."""
    torch.manual_seed(0)
    shape = {
        "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
        "num_key_value_heads": 1, "head_dim": 16, "initializer_range": 0.1,
    }  # fmt: skip
    folder = tmp_path_factory.mktemp("models")
    gemma2 = Gemma2Config(**shape, query_pre_attn_scalar=16, sliding_window=8, final_logit_softcapping=5.0)
    Gemma2ForCausalLM(gemma2).save_pretrained(folder / "gemma2")
    LlamaForCausalLM(LlamaConfig(**shape, tie_word_embeddings=False)).save_pretrained(folder / "llama")
    llama = AutoModelForCausalLM.from_pretrained(folder / "llama")
    # B is not 0, so that A has gradients, too.
    lora = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", init_lora_weights=False)
    get_peft_model(llama, lora).save_pretrained(folder / "adapter")
    return folder


def zero_steps(rank: int, port: int, models: str, out: str) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")
    several_updates()
    # Graphs and what they keep are what ZeRO could disturb; kernels would take a minute. The script for a GPU compiles them.
    torch.compile = partial(torch.compile, backend="aot_eager")
    from sppo_ray.training.policy import TrainablePolicy

    own_share = PAIRS[:3] if rank == 0 else [*PAIRS[3:], FILLER]  # five pairs in a batch of six: uneven on purpose
    left = []
    for case, (name, _) in CASES.items():
        config, model = configuration(case), f"{models}/{name}"
        share = with_targets(own_share, config)
        policy = TrainablePolicy(config, model, STEPS, torch.device("cpu"))
        own = policy.recompute(share)
        numbers = [policy.step(share).row()]
        if case.startswith("restarted"):  # the second step is one of another process's engine
            policy.save(Path(out) / "checkpoint", numbers)
            policy.close()
            training = config.training.model_copy(update={"offload": "optimizer"})  # which may change on resume
            config = config.model_copy(update={"training": training})
            policy = TrainablePolicy(config, model, STEPS, torch.device("cpu"))
            numbers = policy.restore(Path(out) / "checkpoint")
        numbers.append(policy.step(share).row())
        if rank == 1:
            policy.assist()
        else:
            weights = dict(policy.gather())
            torch.save({"weights": weights, "numbers": numbers, "own": own}, Path(out) / f"{case}.pt")
        policy.close()
        left.append(held_bytes())
    policy = TrainablePolicy(configuration("untied head"), f"{models}/llama", 1, torch.device("cpu"))
    numbers = [policy.step(own_share).row()]
    weights = dict(policy.gather())
    torch.save({"weights": weights, "numbers": numbers}, Path(out) / f"one step, {rank}.pt")
    policy.close()
    skipped = broken_steps(
        TrainablePolicy(configuration("untied head"), f"{models}/llama", STEPS, torch.device("cpu")), rank
    )
    if rank == 0:
        torch.save(left, Path(out) / "left.pt")
        torch.save(skipped, Path(out) / "skipped.pt")


def adapter_steps_alone(rank: int, port: int, models: str, out: str, part: str) -> None:
    """Two steps of an adapter on one worker, which is killed after it has saved the first."""
    os.environ |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")
    several_updates()
    from sppo_ray.training.policy import TrainablePolicy

    config, checkpoint = configuration("adapter"), Path(out) / "checkpoint"
    policy = TrainablePolicy(config, f"{models}/adapter", STEPS, torch.device("cpu"))
    # Memory for the adapter's gradients and no more: a layer's q and o 64 each, k and v 48, three maps of 80; rank 4, two layers.
    assert [bucket.buffer.numel() for bucket in policy._engine.optimizer.ipg_buckets.values()] == [4 * 2 * 464]
    numbers = [] if part == "first" else policy.restore(checkpoint)
    numbers.append(policy.step(PAIRS).row())
    if part == "first":
        policy.save(checkpoint, numbers)
        os.kill(os.getpid(), signal.SIGKILL)
    torch.save({"weights": dict(policy.gather()), "numbers": numbers}, Path(out) / "alone.pt")


def broken_steps(policy: Any, rank: int) -> dict[str, Any]:
    """A step, one in which a worker's loss is NaN, another, one of set-aside prompts only; and NaN on the first batch."""
    share = PAIRS[:3] if rank == 0 else [*PAIRS[3:], FILLER]
    nowhere = replace(PAIRS[0], chosen=replace(PAIRS[0].chosen, win_rate=math.nan))
    numbers, weights = [], []
    for pairs in (share, [nowhere, *PAIRS[1:3]] if rank == 0 else share, share, [FILLER] * 3):
        numbers.append(policy.step(pairs).row())
        weights.append(dict(policy.gather()))
    policy._reference_checked = False
    unknown = replace(PAIRS[0], chosen=replace(PAIRS[0].chosen, reference_logprobs=[math.nan] * 3))
    try:
        policy.step([unknown, *PAIRS[1:3]] if rank == 0 else share)
    except ReferenceMismatch as error:
        refused = str(error)
    return {"numbers": numbers, "weights": weights, "refused": refused}


def held_bytes() -> int:
    """Of all tensors of this process that Python knows."""
    storages = {}
    for thing in gc.get_objects():
        if isinstance(thing, torch.Tensor):
            with suppress(RuntimeError):  # one of a compiler's graph has no memory
                storages[thing.untyped_storage().data_ptr()] = thing.untyped_storage().nbytes()
    return sum(storages.values())


@pytest.fixture(scope="module")
def two_workers(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of two workers under ZeRO-3, for each case."""
    folder = tmp_path_factory.mktemp("zero")
    mp.spawn(zero_steps, (free_port(), str(models), str(folder)), nprocs=2)
    return folder


def test_a_closed_policy_leaves_its_memory_to_the_next(models: Path, two_workers: Path) -> None:
    left = torch.load(two_workers / "left.pt")
    weights = sum(file.stat().st_size for file in (models / "gemma2").glob("*.safetensors"))
    # Held, each policy would add its share of weights, master weights, optimizer states and gradients: twice the file.
    # What a restored one has from its checkpoint stays: it happens once in a process.
    first, second, restored, *rest, _ = left  # the last is restored, too
    assert second - first < 0.2 * weights and all(after - restored < 0.2 * weights for after in rest)


def assert_same_weights(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert set(found) == set(expected)
    for name, tensor in found.items():
        want = expected[name].detach()
        assert (tensor - want).norm() <= 1e-5 * want.norm(), name


def test_an_iteration_of_one_step_changes_the_weights(models: Path, two_workers: Path) -> None:
    base = AutoModelForCausalLM.from_pretrained(models / "llama").state_dict()
    expected, plain = plain_steps(models / "llama", configuration("untied head"), count=1, warmup=0)
    result = torch.load(two_workers / "one step, 0.pt", weights_only=False)
    assert result["numbers"][0]["learning_rate"] == plain[0]["learning_rate"] == 1e-4
    assert_same_weights(result["weights"], expected)
    assert not any(tensor.equal(base[name]) for name, tensor in result["weights"].items())


def test_a_step_whose_loss_is_not_a_number_is_skipped_and_says_so(two_workers: Path) -> None:
    found = torch.load(two_workers / "skipped.pt", weights_only=False)
    assert [row["skipped"] for row in found["numbers"]] == [False, True, False, False]
    assert found["numbers"][1]["loss"] is None and found["numbers"][1]["gradient_norm"] is None
    json.dumps(found["numbers"], allow_nan=False)
    first, second, third, _ = found["weights"]
    assert all(first[name].equal(second[name]) for name in first)
    assert not all(second[name].equal(third[name]) for name in first)


def test_a_batch_of_set_aside_prompts_only_changes_nothing(two_workers: Path) -> None:
    found = torch.load(two_workers / "skipped.pt", weights_only=False)
    numbers, (_, _, before, after) = found["numbers"][3], found["weights"]
    assert (numbers["loss"], numbers["pairs"], numbers["gradient_norm"]) == (0.0, 0, 0.0)
    assert all(before[name].equal(after[name]) for name in before)


def test_a_first_batch_that_is_not_a_number_is_refused_by_every_worker(two_workers: Path) -> None:
    assert "are not numbers" in torch.load(two_workers / "skipped.pt", weights_only=False)["refused"]


def test_the_reference_gap_is_over_the_tokens_of_all_workers(models: Path, two_workers: Path) -> None:
    network = AutoModelForCausalLM.from_pretrained(models / "llama", dtype=torch.float32, attn_implementation="eager")
    d = []
    for pair in PAIRS:
        for response in (pair.chosen, pair.rejected):
            ids = torch.tensor([pair.prompt_token_ids + response.token_ids])
            scored = token_logprobs(network(input_ids=ids).logits, ids)[0, len(pair.prompt_token_ids) :]
            d += (scored.detach() - torch.tensor(response.reference_logprobs)).tolist()
    first, second = torch.load(two_workers / "untied head.pt", weights_only=False)["numbers"]
    assert first["reference_mean_abs"] == pytest.approx(np.abs(d).mean(), rel=1e-4)
    assert first["reference_p95_abs"] == pytest.approx(np.quantile(np.abs(d), 0.95), rel=1e-4)
    assert first["reference_mean"] == pytest.approx(np.mean(d), rel=1e-4)
    assert first["reference_k3"] == pytest.approx(np.mean(np.exp(d) - 1 - np.array(d)), rel=1e-4)
    assert "reference_k3" not in second


@pytest.mark.parametrize("case", CASES)
def test_zero_steps_on_two_workers_are_plain_steps(models: Path, two_workers: Path, case: str) -> None:
    assert_plain_steps(models, case, two_workers / f"{case}.pt")


def assert_plain_steps(models: Path, case: str, found: Path) -> None:
    expected, plain = plain_steps(models / CASES[case][0], configuration(case), count=2)
    result = torch.load(found, weights_only=False)
    for row, want in zip(result["numbers"], plain, strict=True):
        assert row["pairs"] == 5
        assert row["loss"] == pytest.approx(want["loss"], rel=1e-5)
        assert row["gradient_norm"] == pytest.approx(want["gradient_norm"], rel=1e-5)
        assert row["learning_rate"] == pytest.approx(want["learning_rate"], rel=1e-9)
    assert_same_weights(result["weights"], expected)


def test_an_adapters_steps_on_one_worker_are_plain_steps_whatever_is_killed(models: Path, tmp_path: Path) -> None:
    with pytest.raises(ProcessExitedException, match="SIGKILL"):
        mp.spawn(adapter_steps_alone, (free_port(), str(models), str(tmp_path), "first"))
    mp.spawn(adapter_steps_alone, (free_port(), str(models), str(tmp_path), "second"))
    assert_plain_steps(models, "adapter", tmp_path / "alone.pt")


@pytest.mark.parametrize("case", ["one pair per pass", "untied head"])
def test_a_recomputed_reference_is_the_policys_own(models: Path, two_workers: Path, case: str) -> None:
    model = models / CASES[case][0]
    network = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32, attn_implementation="eager")
    own = torch.load(two_workers / f"{case}.pt", weights_only=False)["own"]
    for before, after in zip(PAIRS[:3], own, strict=True):
        ids = torch.tensor([before.prompt_token_ids + before.rejected.token_ids])
        scored = token_logprobs(network(input_ids=ids).logits, ids)[0, len(before.prompt_token_ids) :]
        assert after.rejected.reference_logprobs == pytest.approx(scored.tolist(), abs=1e-5)
        assert after.rejected.token_ids == before.rejected.token_ids


def test_micro_batches_of_a_pairwise_loss_keep_both_rows_of_a_pair() -> None:
    share = [Row([1], Response([2] * (length - 1), [], 0.5), 1.0, 1) for length in (3, 4, 2, 9, 4, 3, 2, 2)]
    cut = [[len(row) for row in group] for group in micro_batches(share, tokens=18, most=8, together=2)]
    # By their longer row: (2, 9), then (3, 4) and (4, 3), 16 tokens with padding; (2, 2) would make it 24.
    assert cut == [[2, 9], [3, 4, 4, 3], [2, 2]]
    one_pair_each = micro_batches(share, tokens=18, most=2, together=2)
    assert [len(group) for group in one_pair_each] == [2, 2, 2, 2]


def test_micro_batches_go_from_long_to_short_under_the_budget() -> None:
    share = [Row([1], Response([2] * (length - 1), [], 0.5), 1.0, 1) for length in (3, 9, 2, 4, 4)]
    cut = [[len(row) for row in group] for group in micro_batches(share, tokens=8, most=8)]
    assert cut == [[9], [4, 4], [3, 2]]
    assert [len(group) for group in micro_batches(share, tokens=100, most=2)] == [2, 2, 1]

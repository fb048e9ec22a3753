"""cluster.yaml and its variants for other providers are ones that Ray's launcher accepts, and say the same."""

from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from sppo_ray.config import load_config
from tests import ROOT

ROLES = {"head", "trainers", "rankers", "generators", "wide-generators"}
LAUNCHED = ("cluster.yaml", "docs/cluster-gcp.yaml")


def read(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text())


@pytest.fixture
def cluster_yaml() -> Any:
    return read("cluster.yaml")


@pytest.mark.parametrize("name", LAUNCHED)
def test_ray_accepts_it(name: str) -> None:
    validate_config(prepare_config(read(name)))


def test_ray_would_not_accept_just_anything(cluster_yaml: Any) -> None:
    cluster_yaml["available_node_types"]["generators"]["max_wrokers"] = 5
    with pytest.raises(Exception, match="max_wrokers"):
        validate_config(prepare_config(cluster_yaml))


@pytest.mark.parametrize("name", LAUNCHED)
def test_the_head_has_no_gpu_and_generators_are_elastic(name: str) -> None:
    config = read(name)
    types = config["available_node_types"]
    assert set(types) == ROLES
    assert types[config["head_node_type"]]["resources"]["GPU"] == 0
    for role in ("generators", "wide-generators"):
        assert types[role]["min_workers"] < types[role]["max_workers"]
        assert types[role]["labels"] == {"sppo-role": "generators"}
    assert types["trainers"]["min_workers"] == types["trainers"]["max_workers"]
    assert sum(node["max_workers"] for node in types.values()) == config["max_workers"]


def test_the_recipe_fits_what_the_cluster_may_become(cluster_yaml: Any) -> None:
    types, config = cluster_yaml["available_node_types"], load_config("gemma-2-9b-it")
    assert types["trainers"]["resources"]["GPU"] >= config.training.workers * config.training.gpus
    wide = load_config("gemma-2-27b-it")
    assert types["wide-generators"]["resources"]["GPU"] % wide.generator_gpus == 0


def test_kuberay_s_groups_are_the_node_types(cluster_yaml: Any) -> None:
    """Both documents passed KubeRay 1.7's own schemas, which are not part of this project."""
    spec, types = read("docs/kubernetes/raycluster.yaml")["spec"], cluster_yaml["available_node_types"]
    for group in spec["workerGroupSpecs"]:
        node = types[group["groupName"]]
        limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
        assert {"CPU": int(limits["cpu"]), "GPU": int(limits["nvidia.com/gpu"])} == node["resources"]
        assert group["labels"] == node["labels"]
        assert (group["minReplicas"], group["maxReplicas"]) == (node["min_workers"], node["max_workers"])
    assert {group["groupName"] for group in spec["workerGroupSpecs"]} == ROLES - {"head"}
    job, cluster = read("docs/kubernetes/rayjob.yaml")["spec"], read("docs/kubernetes/raycluster.yaml")["metadata"]
    assert job["clusterSelector"]["ray.io/cluster"] == cluster["name"]

"""Ray's own fake autoscaling cluster, with the node types of cluster.yaml: each role lands on the nodes made for it,
and generators bring theirs up and let them go."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from ray.util import get_node_ip_address

from jobs.demo import BIN, free_port, stop
from tests import ROOT

HEAD, HEAD_ID = "ray.head.default", "f" * 51 + "00000"  # names that the fake provider takes for granted
MEMORY = 10**8  # of a node's object store
LISTS = [f"{part}setup_commands" for part in ("", "head_", "worker_")] + [
    "initialization_commands",
    "cluster_synced_files",
]
ENVIRONMENT = {
    "AUTOSCALER_UPDATE_INTERVAL_S": "1",
    "RAY_AUTH_MODE": "token",
    "RAY_CLOUD_INSTANCE_ID": HEAD_ID,
    "RAY_enable_autoscaler_v2": "1",
    "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "1",
    "RAY_FAKE_CLUSTER": "1",
    "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD_ID,
}


def fake_cluster(gcs: str) -> dict[str, Any]:
    """cluster.yaml with another provider; its head goes by the provider's name."""
    config = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    types = config["available_node_types"]
    for node in types.values():
        node["resources"]["object_store_memory"] = MEMORY
        node["node_config"] = {}
    types["generators"]["max_workers"], types["wide-generators"]["max_workers"] = 2, 0
    types[HEAD] = types.pop(config["head_node_type"])
    config["head_node_type"] = HEAD
    config["provider"] = {
        "type": "external",
        "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
        "gcs_address": gcs,
        "head_node_id": HEAD_ID,
        "launch_multiple": True,
        "disable_node_updaters": True,
        "disable_launch_config_check": True,
    }
    # The launcher fills in what is not there; without it the autoscaler expects every list.
    lists: dict[str, Any] = {name: [] for name in LISTS}
    return config | lists | {"file_mounts": {}, "upscaling_speed": 100, "idle_timeout_minutes": 0.15}


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """A head with Ray's autoscaler, which starts further raylets on this machine."""
    # The fake nodes have the machine's own address, and the driver looks for a node of its own.
    gcs, file = f"{get_node_ip_address()}:{free_port()}", tmp_path / "cluster.yaml"
    file.write_text(yaml.safe_dump(fake_cluster(gcs)))
    host, port = gcs.split(":")
    command = [BIN / "ray", "start", "--head", "--block", "--node-ip-address", host, "--port", port, "--num-cpus", "16"]
    command += ["--num-gpus", "0", "--autoscaling-config", file, "--object-store-memory", str(MEMORY)]
    command += ["--dashboard-port", str(free_port()), "--dashboard-agent-listen-port", str(free_port())]
    with (tmp_path / "head.log").open("wb") as log:
        head = subprocess.Popen(
            command, env=os.environ | ENVIRONMENT, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        yield gcs
    finally:
        stop(head)
        for process in psutil.process_iter(["cmdline"]):  # Ray forgets the log monitors of its fake nodes
            if f"--gcs-address={gcs}" in (process.info["cmdline"] or []):
                process.kill()


def test_each_role_runs_on_the_nodes_made_for_it(address: str, tmp_path: Path) -> None:
    script = [sys.executable, "-m", "tests.cluster.autoscaled", address, str(tmp_path)]
    environment = os.environ | {"RAY_AUTH_MODE": "token", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(script, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    not_ready = found.pop("not ready")
    assert all(line.startswith("  node ") for line in not_ready)
    assert sum("/nowhere/model" in line for line in not_ready) >= 3  # each node says it of the policy, and of the judge
    assert found == {
        "blocks": 3,
        "trainers": ["trainers", "trainers"],
        "generators": ["generators"],
        "rankers": ["rankers"],
        "generator nodes": [2, 1],
    }

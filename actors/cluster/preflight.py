"""The check of every node before a run starts: same versions, same storage, the model, memory.

In: the configuration, the run folder. Out: nothing, or a `ClusterError` with one line per problem: the node and the remedy.
On one machine without a GPU there is nothing to check: the driver did it during preparation.
"""

from pathlib import Path
from typing import Any

import ray
from ray._raylet import node_labels_match_selector
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from actors.cluster.placement import Role, role_options
from sppo_ray.config import Config
from sppo_ray.errors import ClusterError
from sppo_ray.preparation import node as checks
from sppo_ray.preparation import versions
from sppo_ray.run_folder import files

ROLES: tuple[Role, ...] = ("generators", "rankers", "trainers")
SECONDS = 180.0  # for a node to answer, its first worker process included


def preflight(config: Config, root: Path) -> None:
    """Check the nodes of the cluster; those that the autoscaler adds later come from the same set-up."""
    here = ray.get_runtime_context().get_node_id()
    nodes = {node["NodeID"]: (node, roles) for node in ray.nodes() if node["Alive"] and (roles := _roles(config, node))}
    nodes = {name: found for name, found in nodes.items() if name != here or found[0]["Resources"].get("GPU")}
    folder = root / checks.FOLDER
    if not nodes:
        return
    files.write_bytes(folder / "driver", b"reached")
    try:
        calls = {name: _report(name, config, folder, name != here) for name in nodes}
        lines = [
            line for name, call in calls.items() for line in _lines(config, *nodes[name], call, folder, name != here)
        ]
    finally:
        files.remove(folder)
    if lines:
        raise ClusterError("the cluster is not ready:\n" + "\n".join(f"  {line}" for line in lines))


def _report(name: str, config: Config, folder: Path, elsewhere: bool) -> Any:
    where = NodeAffinitySchedulingStrategy(name, soft=False)
    task = ray.remote(checks.report).options(num_cpus=0, scheduling_strategy=where, max_retries=0)
    return task.remote(name, config, folder, elsewhere, True)


def _lines(config: Config, node: Any, roles: list[str], call: Any, folder: Path, elsewhere: bool) -> list[str]:
    label = f"{node['NodeManagerAddress']} ({node['NodeID'][:8]})"
    try:
        found = ray.get(call, timeout=SECONDS)
    except GetTimeoutError:
        return [
            f"node {label}: did not answer in {SECONDS:.0f} s: check it on the dashboard, or remove it from the cluster"
        ]
    except RayError as error:
        return [
            f"node {label}: the check failed: {str(error).strip().splitlines()[-1]}: install this project's version there"
        ]
    lines = checks.problems(config, roles, versions(), found)
    if elsewhere and not found.failures and not (folder / node["NodeID"]).exists():
        lines.append(
            "files that it writes to the run folder do not appear here: set --run-dir to storage that all nodes share"
        )
    return [line.replace(f"node {node['NodeID']}", f"node {label}") for line in lines]


def _roles(config: Config, node: dict[str, Any]) -> list[str]:
    """The roles that may run on a node, by its resources and labels."""

    def may(role: Role) -> bool:
        options = role_options(config, role)
        has, labels = node["Resources"], node["Labels"]
        enough = has.get("CPU", 0) >= options["num_cpus"] and has.get("GPU", 0) >= options["num_gpus"]
        return enough and node_labels_match_selector(labels, options["label_selector"])

    return [role for role in ROLES if may(role)]

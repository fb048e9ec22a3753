"""The check of every node before a run starts: same versions, same storage, the model, memory, drivers, limits, network.

In: the configuration, the run folder. Out: lines to show, those on what will be slow as warnings, or a `ClusterError` with one
line per problem: the node and the remedy.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray._raylet import node_labels_match_selector
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from actors.cluster.all_reduce import NotPlaced, all_reduce
from actors.cluster.placement import Role, role_options
from sppo_ray.config import Config
from sppo_ray.errors import ClusterError
from sppo_ray.planning.rates import NODE_LINK
from sppo_ray.preparation import machine, versions
from sppo_ray.preparation import node as checks
from sppo_ray.run_folder import Ledger, files

ROLES: tuple[Role, ...] = ("generators", "rankers", "trainers")
SECONDS = 180.0  # for a node to answer, its first worker process included


def preflight(config: Config, root: Path) -> list[str]:
    """Check the nodes of the cluster, and return what to show: warnings of what will be slow on them, the network's rate.

    Those that the autoscaler adds later come from the same set-up.
    """
    here = ray.get_runtime_context().get_node_id()
    alive = {node["NodeID"]: node for node in ray.nodes() if node["Alive"]}
    nodes = {name: (node, roles) for name, node in alive.items() if (roles := _roles(config, node))}
    folder = root / checks.FOLDER
    missing, scarce = machine.disk(config, root, Ledger(root).checkpoints)
    lines = [f"node {_label(alive[here])}: {line}" for line in missing]
    notes = [f"warning: node {_label(alive[here])}: {line}" for line in scarce]
    files.write_bytes(folder / "driver", b"reached")
    try:
        # This process is on the driver's node, and has read the model already.
        reports = {
            name: partial(checks.report, name, config, folder, False) if name == here else _report(name, config, folder)
            for name in nodes
        }
        for name, found in nodes.items():
            some, slow = _lines(config, *found, reports[name], folder, name != here)
            lines, notes = lines + some, notes + [f"warning: {line}" for line in slow]
    finally:
        files.remove(folder)
    if not lines:
        some, rate = _network(config, [node for node, roles in nodes.values() if "trainers" in roles])
        lines, notes = lines + some, notes + rate
    if lines:
        raise ClusterError("the cluster is not ready:\n" + "\n".join(f"  {line}" for line in lines))
    return notes


def _report(name: str, config: Config, folder: Path) -> Callable[[], checks.NodeReport]:
    """Has a node report; returns what waits for it."""
    where = NodeAffinitySchedulingStrategy(name, soft=False)
    task = ray.remote(checks.report).options(num_cpus=0, scheduling_strategy=where, max_retries=0)
    call = task.remote(name, config, folder, True)
    return lambda: ray.get(call, timeout=SECONDS)


def _lines(
    config: Config,
    node: Any,
    roles: list[str],
    report: Callable[[], checks.NodeReport],
    folder: Path,
    elsewhere: bool,
) -> tuple[list[str], list[str]]:
    """What a node misses, and what will be slow there."""
    label = _label(node)
    try:
        found = report()
    except GetTimeoutError:
        return [
            f"node {label}: did not answer in {SECONDS:.0f} s: check it on the dashboard, or remove it from the cluster"
        ], []
    except RayError as error:
        return [
            f"node {label}: the check failed: {str(error).strip().splitlines()[-1]}: install this project's version there"
        ], []
    workers = min(_room(config, node), config.training.workers)
    lines = checks.problems(config, roles, versions(), found, workers)
    if elsewhere and not found.failures and not (folder / node["NodeID"]).exists():
        lines.append(
            "files that it writes to the run folder do not appear here: set --run-dir to storage that all nodes share"
        )
    slow = machine.slowing(config, roles, found.machine, workers, node["Resources"].get("object_store_memory", 0.0))
    return (
        [line.replace(f"node {node['NodeID']}", f"node {label}") for line in lines],
        [f"node {label}: {line}" for line in slow],
    )


def _label(node: dict[str, Any]) -> str:
    return f"{node['NodeManagerAddress']} ({node['NodeID'][:8]})"


def _network(config: Config, trainers: list[Any]) -> tuple[list[str], list[str]]:
    """What the network between the nodes that the train workers need misses, and its rate: a warning if they will wait for it."""
    room = 0
    needed: list[Any] = []
    for node in sorted(trainers, key=lambda node: -_room(config, node)):  # as Ray packs them
        if room < config.training.workers:
            room, needed = room + _room(config, node), [*needed, node]
    if len(needed) < 2:
        return [], []
    where = f"nodes {', '.join(map(_label, needed))}: an all-reduce between them"
    each = {"CPU": config.training.cpus} | ({"GPU": config.training.gpus} if config.training.gpus else {})
    try:
        rate = all_reduce([node["NodeID"] for node in needed], each)
    except NotPlaced as error:
        return [], [f"{where} was not tried: {error}"]
    except ClusterError as error:
        return [
            f"{where} {error}: open all ports between them, and name the network interface in NCCL_SOCKET_IFNAME and "
            "GLOO_SOCKET_IFNAME there"
        ], []
    found, planned = f"{where} carries {rate:.2g} GB/s", NODE_LINK * 1e3
    if config.training.gpus and rate < planned / 10:
        return [], [f"warning: {found}, the plan takes {planned:g}: training will wait for the network"]
    return [], [found]


def _room(config: Config, node: dict[str, Any]) -> int:
    """Train workers that a node has room for. Those with a fraction of a GPU have one each, for NCCL refuses two on one."""
    gpus, cpus, has = config.training.gpus, config.training.cpus, node["Resources"]
    room = [has.get("CPU", 0.0) / cpus] if cpus else []
    room += [has.get("GPU", 0.0) / max(gpus, 1.0)] if gpus else []
    return int(min(room, default=config.training.workers))


def _roles(config: Config, node: dict[str, Any]) -> list[str]:
    """The roles that may run on a node, by its resources and labels."""

    def may(role: Role) -> bool:
        options = role_options(config, role)
        has, labels = node["Resources"], node["Labels"]
        enough = has.get("CPU", 0) >= options["num_cpus"] and has.get("GPU", 0) >= options["num_gpus"]
        return enough and node_labels_match_selector(labels, options["label_selector"])

    return [role for role in ROLES if may(role)]

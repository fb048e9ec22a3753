"""The pipeline with fake engines on a cluster that scales by itself; run by test_autoscaling.py in a process of its own.

In: a Ray address, an empty folder. Out: one line of JSON: the blocks, and for each role the role of the nodes it ran on.
"""

import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import ray

from actors.cluster.placement import here, role_options
from actors.cluster.preflight import preflight
from actors.engines import PoolState, generator, ranker
from actors.engines.pools import start_pool
from actors.run.board import Board
from actors.run.scoring import EnginePools
from sppo_ray.config import load_config
from sppo_ray.errors import ClusterError
from sppo_ray.fakes import FakeGenerator, FakeJudge
from sppo_ray.records import Judged
from sppo_ray.run_folder import Ledger
from tests.cluster.test_scoring import BASE, PROMPTS, score_all

ROLES = [
    *("generators.gpus=1", "generators.max=3", "rankers.gpus=1", "training.gpus=1", "training.workers=2"),
    *("generators.labels={sppo-role: generators}", "rankers.labels={sppo-role: rankers}"),
    "training.labels={sppo-role: trainers}",
]
CONFIG = load_config(overrides=["block=4", *ROLES])
NODE_SECONDS = 240


def main(address: str, folder: Path) -> None:
    ray.init(address, log_to_driver=False)
    ledger = Ledger(folder / "run")
    ledger.write_prompts(1, PROMPTS)
    trainers = [ray.remote(role_here).options(**role_options(CONFIG, "trainers")).remote() for _ in range(2)]
    fakes = partial(FakeGenerator, BASE, 0.5)
    starts = {
        "generators": partial(generator.start, CONFIG, partial(build, folder / "generators", fakes), ledger),
        "rankers": partial(ranker.start, CONFIG, partial(build, folder / "rankers", FakeJudge), ledger),
    }
    pools = [start_pool(name, start, getattr(CONFIG, name)) for name, start in starts.items()]
    ray.get([pools[0].open.remote(BASE), pools[1].open.remote()])
    # Here, as in a run: whatever else is on a node keeps it from being let go.
    board = ray.remote(num_cpus=0)(Board).options(label_selector=here()).remote()
    score_all(EnginePools(CONFIG, ledger, *pools), board)
    roles = {name: sorted(set((folder / name).read_text().split())) for name in starts}
    most = generator_nodes(2)  # the third generator stays pending
    ray.get(pools[0].desire.remote(PoolState(BASE, target=1)))
    least = generator_nodes(1)
    found = {
        "blocks": len(ledger.blocks(Judged, 1)),
        "trainers": ray.get(trainers),
        **roles,
        "generator nodes": [most, least],
        "not ready": not_ready(folder / "run"),
    }
    print(json.dumps(found), flush=True)


def generator_nodes(wanted: int) -> int:
    """How many nodes there are for generators, as soon as there are as many as wanted, or after a while."""
    deadline = time.monotonic() + NODE_SECONDS
    while True:
        nodes = [node for node in ray.nodes() if node["Alive"] and node["Labels"].get("sppo-role") == "generators"]
        if len(nodes) == wanted or time.monotonic() > deadline:
            return len(nodes)
        time.sleep(0.5)


def not_ready(run: Path) -> list[str]:
    """What the preflight says of nodes that do not find the model."""
    config = load_config(overrides=["policy.model=/nowhere/model", *ROLES])
    try:
        preflight(config, run)
    except ClusterError as error:
        return str(error).splitlines()[1:]
    return []


def role_here() -> str:
    """The role of the node that this runs on."""
    return ray.get_runtime_context().get_node_labels()["sppo-role"]


def build(file: Path, make: Callable[[], Any]) -> Any:
    """An engine, which notes the role of its node."""
    with file.open("a") as notes:
        notes.write(f"{role_here()}\n")
    return make()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))

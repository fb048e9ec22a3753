"""An iteration of fake engines on a cluster of several nodes on this machine: one joins and leaves while it runs.

    python -m tests.cluster.nodes FOLDER

Prints JSON: seconds until a generator of the new node was at work, generators lost with the node, the judged prompts, and
what holds no resources and yet was not on the driver's node.
A process of its own, because it has a Ray of its own.
"""

import json
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray.cluster_utils import Cluster

from actors.cluster.placement import here
from actors.cluster.preflight import _network
from actors.engines import generator, ranker, start_generators, start_rankers
from actors.engines.pools import room, start_pool
from actors.run.board import Board
from actors.run.coordinator import start_coordinator
from actors.run.scoring import EnginePools
from sppo_ray.config import load_config
from sppo_ray.fakes import FakeGenerator, FakeJudge
from sppo_ray.records import Judged, Prompt, Snapshot
from sppo_ray.run_folder import Ledger

BASE = Snapshot(0, "base")
CONFIG = load_config(
    overrides=[
        "block=4",
        "training.cpus=0.05",
        "generators={min: 1, max: 2, cpus: 1.5, gpus: 0, blocks: 2}",
        "rankers={min: 1, max: 1, cpus: 0.05, gpus: 0, blocks: 2}",
    ]
)
PROMPTS = [Prompt(f"p{number:03d}", f"prompt {number}", [1, 2, number]) for number in range(160)]
BLOCK_SECONDS = 1.0


def main(folder: Path) -> dict[str, Any]:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
    try:
        ray.init(address=cluster.address, log_to_driver=False)
        for _ in range(2):
            cluster.add_node(num_cpus=0)  # where Ray could put what holds no resources
        ledger = Ledger(folder)
        ledger.write_prompts(1, PROMPTS)
        _light = [  # as a run starts them; they are not used here
            start_coordinator(CONFIG, ledger, BASE, None),
            start_generators(CONFIG, BASE, [], ledger),
            start_rankers(CONFIG, ledger),
        ]
        build = partial(FakeGenerator, BASE, seconds=BLOCK_SECONDS)
        pools = [
            start_pool(
                "generator",
                partial(generator.start, CONFIG, build, ledger),
                CONFIG.generators,
                partial(room, CONFIG, "generators"),
            ),
            start_pool("ranker", partial(ranker.start, CONFIG, FakeJudge, ledger), CONFIG.rankers),
        ]
        ray.get([pools[0].open.remote(BASE), pools[1].open.remote()])
        board = ray.remote(num_cpus=0)(Board).options(label_selector=here()).remote()
        ray.get(board.begin.remote(1, len(PROMPTS)))
        work = board.score.remote(EnginePools(CONFIG, ledger, pools[0], pools[1]), 1, "iter-0")
        until(lambda: ray.get(pools[0].status.remote()).members[0].load == 2)
        elsewhere = not_here()
        node = cluster.add_node(num_cpus=2)
        joined = time.monotonic()
        until(lambda: at_work(pools[0], "generator-1"))
        seconds = time.monotonic() - joined
        cluster.remove_node(node, allow_graceful=False)
        ray.get(work)
        network = measured(cluster.add_node(num_cpus=2))
        outages = ray.get(pools[0].status.remote()).outages
        judged = [row.prompt_id for row in ledger.rows(Judged, 1)]
        lost = [outage.member for outage in outages]
        return {"seconds": seconds, "lost": lost, "judged": judged, "elsewhere": elsewhere, "network": network}
    finally:
        ray.shutdown()
        cluster.shutdown()


def measured(node: Any) -> list[list[str]]:
    """What the preflight finds out about the network between the head and a node: of eight workers with room for five each."""
    wide = load_config(overrides=["training={workers: 8, cpus: 0.4, gpus: 0}"])
    found = [each for each in ray.nodes() if each["NodeID"] in (node.node_id, ray.get_runtime_context().get_node_id())]
    return [list(some) for some in _network(wide, found)]


def not_here() -> list[str]:
    """Classes of the actors on other nodes than this one."""
    mine = ray.get_runtime_context().get_node_id()
    actors = [actor for actor in ray._private.state.actors().values() if actor["State"] == "ALIVE"]
    return [actor["ActorClassName"] for actor in actors if actor["Address"]["NodeID"] != mine]


def at_work(pool: Any, name: str) -> bool:
    return any(member.name == name and member.load for member in ray.get(pool.status.remote()).members)


def until(what: Any) -> None:
    while not what():
        time.sleep(0.05)


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))

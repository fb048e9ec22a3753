"""The driver of a chaos run: fake engines, the real coordinator, pools, pipeline and trainer.

    python -m tests.cluster.chaos_driver RUN_DIR ITERATIONS [varied] [key.path=value ...]

varied: the generators sample differently each time, as real ones do.
Submitted again after its own death, it goes on like `jobs/sppo.py`, whose `run` it calls.
"""

import sys
from functools import partial
from pathlib import Path

from actors.engines import Pool, generator, ranker
from jobs import sppo
from sppo_ray import playground
from sppo_ray.config import load_config
from sppo_ray.fakes import FakeGenerator, FakeJudge
from sppo_ray.preparation import Preparation, store_prompts
from sppo_ray.records import Prompt, Snapshot
from sppo_ray.run_folder import Ledger
from tests.cluster.failing_endpoint import failing_judge

PROMPTS = 46  # an iteration: 12 batches of 4 pairs, the last with 2
HELD_OUT = 10
OVERRIDES = [
    "block=6",
    "policy.dtype=float32",  # fast on every CPU; what is stored, published and carried over is the same
    "training.checkpoint_steps=3",
    "training.reference_tolerance=1e9",  # the fake's log-probabilities are made up
    "generators={min: 1, max: 2, cpus: 0.1, gpus: 0, blocks: 2}",
    "rankers={min: 1, max: 1, cpus: 0.1, gpus: 0, blocks: 2}",
    "storage.keep_checkpoints=2",
    "training.anchors={current: 0.5, base: 0.5}",  # the second iteration is scored under the base, too
]


def prompts(iteration: int) -> list[Prompt]:
    count = PROMPTS if iteration else HELD_OUT
    return [Prompt(f"{iteration}-{n}", f"prompt {n} of {iteration}", [2, 5, 9 + n]) for n in range(count)]


def main(root: Path, iterations: int, varied: bool, overrides: list[str]) -> None:
    base = Snapshot(0, str(playground.build(log=sppo.say).policy))
    config = load_config(overrides=[*OVERRIDES, *overrides, f"iterations={iterations}", f"policy.model={base.uri}"])
    ledger = Ledger(root)
    with ledger.hold():
        ledger.claim(config, {})
        parts = [prompts(t) for t in range(iterations + 1)]
        store_prompts(ledger, parts)
        sppo.connect()
        judge = partial(failing_judge, config.judge) if config.judge.endpoint else partial(FakeJudge, seconds=0.2)
        build = partial(FakeGenerator, base, seconds=0.5, varied=varied)
        pools = (
            Pool.remote("generator", partial(generator.start, config, build, ledger), config.generators),
            Pool.remote("ranker", partial(ranker.start, config, judge, ledger), config.rankers),
        )
        if ledger.finished_iterations() < iterations:
            sppo.run(Preparation(config, base, [], parts, None), ledger, pools)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), "varied" in sys.argv[3:], [one for one in sys.argv[3:] if "=" in one])

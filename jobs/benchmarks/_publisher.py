"""A policy under ZeRO-3 on two processes takes a step and is published; what that takes, in seconds and memory.

    python -m torch.distributed.run --nproc_per_node 2 -m jobs.benchmarks._publisher MODEL FOLDER

The snapshot goes to FOLDER/policy, the numbers to FOLDER/published.json.
"""

import json
import os
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import psutil
import torch

from sppo_ray.config import load_config
from sppo_ray.records import Pair, Response
from sppo_ray.run_folder.publishing import publish
from sppo_ray.training.policy import TrainablePolicy

SHARD_BYTES = 64 << 20
PAIR = Pair("0", [5, 6, 7], Response([8, 9], [-9.0] * 2, 0.9), Response([9, 8], [-9.0] * 2, 0.1))


class Peak(threading.Thread):
    """The most resident memory of this process above what it has at the start."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._process, self._done = psutil.Process(), threading.Event()
        self._start, self.bytes = self._process.memory_info().rss, 0
        self.start()

    def run(self) -> None:
        while not self._done.wait(0.002):
            self.bytes = max(self.bytes, self._process.memory_info().rss - self._start)

    def stop(self) -> int:
        self._done.set()
        self.join()
        return self.bytes


def main(model: str, folder: Path) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")
    config = load_config(overrides=["training.batch_size=2", "training.reference_tolerance=1e9"])
    policy = TrainablePolicy(config, model, steps=1, device=torch.device("cpu"))
    policy.step([PAIR])
    started = time.monotonic()
    if os.environ["RANK"] != "0":
        policy.assist()
        return
    seconds: Counter[str] = Counter()
    shapes, peak = policy.shapes(), Peak()
    publish(folder / "policy", 1, shapes, torch.bfloat16, policy.gather(), model, "", SHARD_BYTES, seconds=seconds)
    wall, extra = time.monotonic() - started, peak.stop()
    layer = sum(torch.Size(shape).numel() for name, shape in shapes.items() if ".layers.0." in name)
    sizes = {"layer": 2 * layer, "shard": SHARD_BYTES, "all": 2 * sum(torch.Size(s).numel() for s in shapes.values())}
    (folder / "published.json").write_text(json.dumps({"seconds": seconds, "wall": wall, "extra": extra, **sizes}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
    torch.distributed.destroy_process_group()

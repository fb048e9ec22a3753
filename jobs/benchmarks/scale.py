"""What dispatching costs: fake generators from 1 to 64 on one machine, and from 1,000 to 100,000 prompts.

In: fakes that take half a second per block, or none. Out: efficiency, CPU per prompt of what stands around the engines,
memory a prompt.
"""

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import ray

from actors.run.scoring import EnginePools
from jobs.benchmarks import Ratio, at_least, at_most, start_ray
from jobs.benchmarks._fakes import BASE, open_pools, some_prompts
from sppo_ray.config import Config, load_config
from sppo_ray.records import Candidates

SECONDS, BLOCK = 0.5, 32
ROUNDS = 24  # blocks per generator
SIZES = (1, 4, 16, 64)
FEW, MANY = 1_000, 100_000
OURS = ("ray::Pool", "ray::Board", "driver")  # the rest is engines and Ray itself


def run() -> list[Ratio]:
    start_ray()
    sized = {size: dispatch(size) for size in SIZES}
    bytes_a_prompt, growth, megabytes = memory()
    ray.shutdown()
    largest, cpu = sized[SIZES[-1]]
    demand = sum(cpu.values()) * SIZES[-1] * BLOCK / SECONDS
    efficiencies = {f"{size} generators": round(efficiency, 2) for size, (efficiency, _) in sized.items()}
    per_process = {name: f"{1e3 * seconds:.2f} ms" for name, seconds in cpu.items() if seconds > 1e-5}
    return [
        at_least(
            f"scale: efficiency of {SIZES[-1]} generators",
            largest,
            0.9,
            f"fakes, stages and Ray want {demand:.1f} cores at full speed, {psutil.cpu_count()} are here",
            **efficiencies,
        ),
        at_most("scale: CPU ms per prompt around the engines", 1e3 * sum(cpu[name] for name in OURS), 1, **per_process),
        at_most(f"scale: memory at {MANY} prompts to {FEW}", growth, 1.1, bytes_a_prompt=bytes_a_prompt, MB=megabytes),
    ]


def configure(size: int, block: int, *more: str) -> Config:
    pools = [f"generators.max={size}", f"generators.min={size}", "generators.cpus=0.01", "generators.blocks=2"]
    judges = max(1, size // 16)
    pools += [f"rankers.max={judges}", f"rankers.min={judges}", "rankers.cpus=0.01", "rankers.blocks=4"]
    return load_config("playground", overrides=[f"block={block}", *pools, *more])


def dispatch(size: int) -> tuple[float, Counter[str]]:
    """Share of the time that the generators work, from the first block to the last, and CPU seconds per prompt by process.

    Of an iteration after another one, in which every process has loaded what it needs.
    """
    warm, prompts = some_prompts(2 * size * BLOCK), some_prompts(size * ROUNDS * BLOCK)
    with tempfile.TemporaryDirectory() as folder:
        pools, board = open_pools(configure(size, BLOCK), Path(folder), warm, SECONDS, 0.0)
        pools.ledger.write_prompts(2, prompts)
        score(board, pools, 1, len(warm))
        before = cpu_seconds()
        score(board, pools, 2, len(prompts))
        used = cpu_seconds() - before
        written = [path.stat().st_mtime for path in pools.ledger.blocks(Candidates, 2)]
        for actor in (pools.generators, pools.rankers, board):
            ray.kill(actor)
    busy = max(written) - min(written) + SECONDS
    print(f"{size} generators: {busy:.1f} s of sampling", flush=True)
    return ROUNDS * SECONDS / busy, Counter({name: value / len(prompts) for name, value in used.items()})


def score(board: Any, pools: EnginePools, iteration: int, prompts: int) -> None:
    ray.get(board.begin.remote(iteration, prompts))
    ray.get(board.score.remote(pools, iteration, BASE.name))


def memory() -> tuple[int, float, list[int]]:
    """Bytes a prompt, and the growth, of the processes around the engines from few prompts to many."""
    sizes = []
    for count in (FEW, MANY):
        prompts = some_prompts(count)
        with tempfile.TemporaryDirectory() as folder:
            few = configure(2, 100, "generation.candidates=2")
            pools, board = open_pools(few, Path(folder), prompts, 0.0, 0.0)
            score(board, pools, 1, len(prompts))
            sizes.append(sum(p.memory_info().rss for p in processes() if name_of(p) in OURS))
            for actor in (pools.generators, pools.rankers, board):
                ray.kill(actor)
    return round((sizes[1] - sizes[0]) / (MANY - FEW)), sizes[1] / sizes[0], [size >> 20 for size in sizes]


def cpu_seconds() -> Counter[str]:
    total: Counter[str] = Counter()
    for process in processes():
        times = process.cpu_times()
        total[name_of(process)] += times.user + times.system
    return total


def processes() -> list[psutil.Process]:
    driver = psutil.Process()
    return [driver, *driver.children(recursive=True)]


def name_of(process: psutil.Process) -> str:
    """A Ray actor's class, or which of Ray's own processes it is."""
    try:
        words = process.cmdline()
    except psutil.NoSuchProcess:
        return "gone"
    if process.pid == psutil.Process().pid:
        return "driver"
    first = words[0] if words else "gone"
    return first.split(".")[0].split("(")[0] if first.startswith("ray::") else Path(first).name

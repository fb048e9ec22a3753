"""What dispatching costs: fake generators from 1 to 1,024 on one machine, and from 1,000 to 50,000 prompts.

In: fakes that take half a second per block, five seconds, or none. Out: efficiency, CPU per prompt of what stands around the
engines, memory a prompt.
"""

import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import psutil
import ray

from jobs.benchmarks import Ratio, at_least, at_most, start_ray
from jobs.benchmarks._fakes import open_pools, score, some_prompts
from sppo_ray.config import Config, load_config
from sppo_ray.records import Candidates

BLOCK = 32  # prompts


@dataclass(frozen=True)
class Case:
    """So many generators. seconds: that a block takes. rounds: blocks of a generator. engines: generators of one process."""

    generators: int
    seconds: float
    rounds: int
    engines: int = 1

    @property
    def processes(self) -> int:
        return self.generators // self.engines


FAST = [Case(1, 0.5, 12), Case(64, 0.5, 12)]
SLOW = [Case(256, 5, 4, 16), Case(1024, 5, 2, 64)]  # by themselves they would be 90 MB each
FEW, MANY = 1_000, 50_000
OURS = ("ray::Pool", "ray::Board", "driver")  # the rest is engines and Ray itself


def run() -> list[Ratio]:
    start_ray()
    *few, most = [(case, *dispatch(case)) for case in FAST]
    slow = [(case, *dispatch(case)) for case in SLOW]
    bytes_a_prompt, growth, megabytes = memory()
    ray.shutdown()
    cpu = most[2]
    efficiencies = {f"{case.generators} generators": round(efficiency, 2) for case, efficiency, _ in few}
    per_process = {name: f"{1e3 * seconds:.2f} ms" for name, seconds in cpu.items() if seconds > 1e-5}
    return [
        busy_share(*most, 0.9, efficiencies),
        *(busy_share(*found, 0.95, {}) for found in slow),
        at_most(
            "scale: CPU ms per block, fakes and Ray included",
            1e3 * sum(cpu.values()) * BLOCK,
            17,
            "an actor's call, its file and reading it again take most of that, in fakes and pools alike",
        ),
        at_most("scale: CPU ms per prompt around the engines", 1e3 * sum(cpu[name] for name in OURS), 1, **per_process),
        at_most(f"scale: memory at {MANY} prompts to {FEW}", growth, 1.1, bytes_a_prompt=bytes_a_prompt, MB=megabytes),
    ]


def busy_share(case: Case, efficiency: float, cpu: Counter[str], goal: float, detail: dict[str, float]) -> Ratio:
    cores = sum(cpu.values()) * case.generators * BLOCK / case.seconds
    return at_least(
        f"scale: efficiency of {case.generators} generators, blocks of {case.seconds} s",
        efficiency,
        goal,
        f"fakes, stages and Ray want {cores:.1f} cores at full speed, {psutil.cpu_count()} are here; the first blocks reach their generators one by one",
        **detail,
    )


def configure(processes: int, block: int, *more: str, engines: int = 1) -> Config:
    pools = [f"generators.max={processes}", f"generators.min={processes}", "generators.cpus=0.01"]
    judges = max(1, processes // 16)
    pools += [f"generators.blocks={2 * engines}", f"rankers.blocks={4 * engines}"]
    pools += [f"rankers.max={judges}", f"rankers.min={judges}", "rankers.cpus=0.01"]
    return load_config("playground", overrides=[f"block={block}", *pools, *more])


def dispatch(case: Case) -> tuple[float, Counter[str]]:
    """Share of the time that the generators work, from the first block to the last, and CPU seconds per prompt by process.

    Of an iteration after another one, in which every process has loaded what it needs.
    """
    warm = some_prompts(2 * case.processes * BLOCK)
    prompts = some_prompts(case.generators * case.rounds * BLOCK)
    with tempfile.TemporaryDirectory() as folder:
        config = configure(case.processes, BLOCK, engines=case.engines)
        pools, board = open_pools(config, Path(folder), warm, case.seconds, 0.0, case.engines)
        pools.ledger.write_prompts(2, prompts)
        score(board, pools, 1, len(warm))
        before = cpu_seconds()
        score(board, pools, 2, len(prompts))
        used = cpu_seconds() - before
        written = [path.stat().st_mtime for path in pools.ledger.blocks(Candidates, 2)]
        for actor in (pools.generators, pools.rankers, board):
            ray.kill(actor)
    busy = max(written) - min(written) + case.seconds
    print(f"{case.generators} generators: {busy:.1f} s of sampling", flush=True)
    share = case.rounds * case.seconds / busy
    return share, Counter({name: value / len(prompts) for name, value in used.items()})


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

"""Who gets which devices, and how long an iteration takes then.

In: rates, work, a number of devices. Out: the possible `Split`s, and the `Seconds` of one.
disaggregated: each role on its own devices, all at once. colocated: some sample, some judge, then all of them train.
"""

from dataclasses import asdict, dataclass
from typing import Any

from sppo_ray.config import Config
from sppo_ray.models import Shape
from sppo_ray.planning.memory import number_bytes
from sppo_ray.planning.rates import ENGINE_START, STORAGE, TRAINER_START, Rates
from sppo_ray.planning.work import Work

# Shares of a GPU with which Ray puts one engine and one train worker on each. Together they are a whole one: Ray fills up
# what is in use first, so each worker lands beside an engine. Ray chooses a node by the sum of what its GPUs have left:
# only with more than n / (n + 1) each do n engines leave a node of n without room for one more. 0.95 is enough for n = 18.
ENGINE_SHARE = 0.95
TRAINER_SHARE = 0.05


@dataclass(frozen=True)
class Split:
    """Processes of each role. devices: all of them together. Colocated roles take turns on the same devices."""

    placement: str
    generators: int
    rankers: int
    trainers: int
    devices: int

    @property
    def colocated(self) -> bool:
        return self.placement == "colocated"

    def settings(self, config: Config) -> list[str]:
        """It, as the overrides that a run takes. Colocated roles that use GPUs take a share of one."""
        pools = [f"{name}.max={count}" for name, count in (("generators", self.generators), ("rankers", self.rankers))]
        shares = {"generators": ENGINE_SHARE, "rankers": ENGINE_SHARE, "training": TRAINER_SHARE}
        shared = [name for name in shares if self.colocated and getattr(config, name).gpus]
        gpus = [f"{name}.gpus={shares[name]}" for name in shared]
        return [f"placement={self.placement}", f"training.workers={self.trainers}", *pools, *gpus]

    def row(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Seconds:
    """Of one iteration. advance: publishing and loading the next policy."""

    generate: float
    judge: float
    train: float
    start_trainers: float
    advance: float
    evaluate: float
    total: float

    def row(self) -> dict[str, float]:
        return asdict(self)


def iteration_seconds(config: Config, shape: Shape, work: Work, rates: Rates, split: Split) -> Seconds:
    """Stages of a disaggregated run overlap: the slowest sets the pace, the others' last block comes on top."""
    # Blocks are dealt whole: at the end some engines have one more than others.
    sampled, judged = (tokens / work.blocks for tokens in (work.generated_tokens, work.judged_tokens))
    sampled, judged = sampled / rates.generate, judged / rates.judge  # seconds of a block
    generate, judge = sampled * -(-work.blocks // split.generators), judged * -(-work.blocks // split.rankers)
    train = work.trained_tokens / (rates.train * split.trainers)
    advance = 2 * number_bytes(config) * shape.parameters / STORAGE
    evaluate = work.held_out_tokens / (rates.generate * split.generators)
    # A block has to be sampled before it is judged, and judged before it is trained on.
    scored = max(generate + judged, judge + sampled)
    if split.colocated:
        total = scored + TRAINER_START + train
    else:
        total = max(scored, sampled + judged + train, TRAINER_START + train)
    return Seconds(generate, judge, train, TRAINER_START, advance, evaluate, total + advance + evaluate)


def run_seconds(config: Config, shape: Shape, work: Work, seconds: Seconds) -> float:
    """All iterations, the engines' start and the base's evaluation."""
    start = ENGINE_START + number_bytes(config) * shape.parameters / STORAGE
    return start + seconds.evaluate + config.iterations * seconds.total


def colocated(config: Config, devices: int) -> list[Split]:
    """Every way to divide the devices between generators and rankers; as many as can share a batch train.

    None with tensor parallelism: a generator of several devices takes whole ones from Ray.
    """
    if config.generation.tensor_parallel > 1:
        return []
    workers = max(n for n in worker_counts(config) if n <= devices)
    return [Split("colocated", devices - rankers, rankers, workers, devices) for rankers in range(1, devices)]


def disaggregated(config: Config, devices: int) -> list[Split]:
    """Every way to give each role at least one device of its own."""
    parallel = config.generation.tensor_parallel
    return [
        Split("disaggregated", (devices - workers - rankers) // parallel, rankers, workers, devices)
        for workers in worker_counts(config)
        for rankers in range(1, devices - workers - parallel + 1)
    ]


def worker_counts(config: Config) -> list[int]:
    """Numbers of train workers that can share a batch evenly."""
    return [n for n in range(1, config.training.batch_size + 1) if config.training.batch_size % n == 0]

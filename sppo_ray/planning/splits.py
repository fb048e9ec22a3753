"""Splits of the devices between the roles, and the time of an iteration with each.

In: rates, work, a number of devices. Out: the possible `Split`s, and the `Seconds` of one.
disaggregated: each role has its own devices, concurrently. colocated: some sample while others judge, then all train.
"""

from dataclasses import dataclass

from sppo_ray.config import Config
from sppo_ray.judging import judge_kind
from sppo_ray.models import Shape
from sppo_ray.planning.memory import FP32, number_bytes, trained_parameters
from sppo_ray.planning.rates import ENGINE_START, NODE, STORAGE, TRAINER_START, Rates
from sppo_ray.planning.work import Work, checkpoint_bytes

# GPU shares with which Ray puts one engine and one train worker on each GPU. They add up to one: Ray fills GPUs in use
# first, so each worker lands beside an engine. Ray picks a node by its GPUs' total free share: only engines with more than
# n / (n + 1) each leave no room for another one on a node with n GPUs. 0.95 is enough up to n = 18.
SHARES = {"generators": 0.95, "rankers": 0.95, "training": 0.05}
SINGLE_SHARES = {"generators": 0.55, "rankers": 0.4, "training": 0.05}  # one GPU for all


FORWARD = 3  # times as fast as forward and backward together


@dataclass(frozen=True)
class Split:
    """Processes per role. devices: in total; rankers: use none of them if `judge_gpus` is false.

    Colocated roles take turns on the same devices.
    """

    placement: str
    generators: int
    rankers: int
    trainers: int
    devices: int
    judge_gpus: bool = True

    @property
    def colocated(self) -> bool:
        return self.placement == "colocated"

    @property
    def single(self) -> bool:
        """Generator, ranker and trainer take turns on one device."""
        return self.colocated and self.devices == 1

    def settings(self, config: Config) -> list[str]:
        """This split as configuration overrides. Colocated roles that use GPUs take a share of one."""
        pools = [f"{name}.max={count}" for name, count in (("generators", self.generators), ("rankers", self.rankers))]
        if self.colocated:
            shares = SINGLE_SHARES if self.single and self.judge_gpus else SHARES
        else:
            shares = {"generators": 1, "rankers": ranker_gpus(config), "training": 1}
        gpus = {name: share for name, share in shares.items() if getattr(config, name).gpus}
        if not self.judge_gpus:
            gpus["rankers"] = 0
        each = [f"{name}.gpus={share}" for name, share in gpus.items() if getattr(config, name).gpus != share]
        return [f"placement={self.placement}", f"training.workers={self.trainers}", *pools, *each]


@dataclass(frozen=True)
class Seconds:
    """Seconds of one iteration. checkpoint: the trainer waits for its checkpoints. advance: float32 weights are kept, the new
    policy is published and loaded.
    """

    generate: float
    judge: float
    anchor: float
    train: float
    checkpoint: float
    start_trainers: float
    advance: float
    evaluate: float
    total: float


def iteration_seconds(config: Config, shape: Shape, work: Work, rates: Rates, split: Split) -> Seconds:
    """Stages of a disaggregated run overlap: the slowest sets the pace, and the last block's other stages add to it."""
    # Blocks are not divided: some engines get one more than others.
    sampled, judged = (tokens / work.blocks for tokens in (work.generated_tokens, work.judged_tokens))
    sampled, judged = sampled / rates.generate, judged / rates.judge  # seconds per block
    generate, judge = sampled * -(-work.blocks // split.generators), judged * -(-work.blocks // split.rankers)
    train = work.trained_tokens / (rates.train * split.trainers)
    checkpoint = checkpoint_seconds(config, shape, train, work.steps, split.trainers)
    training = train + checkpoint
    read = number_bytes(config) * shape.parameters / STORAGE
    written = number_bytes(config) * trained_parameters(config, shape) / STORAGE
    # Engines that slept read all weights again, others only what was trained; a single device's wake once more to sample.
    advance = written + (read if split.colocated else written) + (read if split.single else 0.0)
    advance += master_seconds(config, shape, split)
    evaluate = work.held_out_tokens / (rates.generate * split.generators) + work.held_out / (rates.mark * split.rankers)
    # Generators load each other anchor, and the current policy never again; a forward pass is a third of a training step.
    anchor = work.anchored_tokens / (FORWARD * rates.train * split.generators)
    anchor += len(config.training.other_anchors(config.iterations)) * written
    # A block is sampled, then judged, then trained on.
    scored = max(generate + judged, judge + sampled)
    if split.single:
        total = generate + judge + TRAINER_START + training
    elif split.colocated:
        total = scored + TRAINER_START + training
    else:
        waits = anchor > 0 or config.training.min_margin > 0  # for all of the iteration to be scored
        total = scored + training if waits else max(scored, sampled + judged + training, TRAINER_START + training)
    total += anchor
    total += advance + evaluate
    return Seconds(generate, judge, anchor, train, checkpoint, TRAINER_START, advance, evaluate, total)


def checkpoint_seconds(config: Config, shape: Shape, train: float, steps: int, workers: int) -> float:
    """Seconds that the workers of each node take to write their parts of an iteration's checkpoints."""
    training = config.training
    written = max(train // (60 * training.checkpoint_minutes), steps // (training.checkpoint_steps or steps + 1))
    return written * checkpoint_bytes(config, shape) / STORAGE / -(-workers // NODE)


def master_seconds(config: Config, shape: Shape, split: Split) -> float:
    """Seconds that the workers of each node take for the float32 weights between two iterations, as a mean of all iterations.

    Workers that stay only write them; those of colocated roles start anew and read them, too.
    """
    if config.training.carry != "master":
        return 0.0
    once = FP32 * trained_parameters(config, shape) / STORAGE / -(-split.trainers // NODE)
    return once * (2 if split.colocated else 1) * (config.iterations - 1) / config.iterations


def run_seconds(config: Config, shape: Shape, work: Work, seconds: Seconds) -> float:
    """Seconds of all iterations, the engines' start and the evaluation of the base."""
    start = ENGINE_START + number_bytes(config) * shape.parameters / STORAGE
    return start + seconds.evaluate + config.iterations * seconds.total


def colocated(config: Config, devices: int) -> list[Split]:
    """Every division of the devices between generators and rankers; as many as can share a batch train.

    None with tensor parallelism: an engine of several devices takes whole ones from Ray.
    """
    if config.generation.tensor_parallel > 1 or ranker_gpus(config) > 1:
        return []
    workers = max(n for n in worker_counts(config) if n <= devices)
    if not ranker_gpus(config):
        return [Split("colocated", devices, 1, workers, devices, False)]
    if devices == 1:
        return [Split("colocated", 1, 1, 1, 1)]
    return [Split("colocated", devices - rankers, rankers, workers, devices) for rankers in range(1, devices)]


def disaggregated(config: Config, devices: int) -> list[Split]:
    """Every split that gives each role its own devices."""
    parallel, each = config.generation.tensor_parallel, ranker_gpus(config)
    return [
        Split("disaggregated", (devices - workers - each * rankers) // parallel, rankers, workers, devices, each > 0)
        for workers in worker_counts(config)
        for rankers in range(1, devices // each + 1 if each else 2)
        if devices - workers - each * rankers >= parallel
    ]


def ranker_gpus(config: Config) -> int:
    """GPUs of one ranker with devices of its own: 0 if no judge of the run needs any."""
    held = [judge.tensor_parallel for judge in config.judges if judge_kind(judge).demand(1, 1).memory]
    return max(held, default=0)


def worker_counts(config: Config) -> list[int]:
    """Numbers of train workers that divide the batch evenly."""
    return [n for n in range(1, config.training.batch_size + 1) if config.training.batch_size % n == 0]

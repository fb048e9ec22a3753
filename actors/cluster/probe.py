"""Rates measured on the running cluster: a short run of the real generator, judge and trainer.

In: a `Preparation`. Out: `Rates` of one engine each, in the units of the plan's table; engines' start left out.
"""

import time
from collections.abc import Callable
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import ray
from ray.train import RunConfig
from ray.train.torch import TorchConfig, TorchTrainer, get_device

from actors.cluster.placement import role_options, trainer_scaling
from sppo_ray.config import Config, JudgeSettings
from sppo_ray.judging import cut_pair, judge_kind, load_judge
from sppo_ray.planning.rates import Rates, marks
from sppo_ray.planning.work import work
from sppo_ray.preparation import Preparation
from sppo_ray.records import Candidates, Pair, Prompt, Response, Snapshot

STEPS = 2  # timed, after one that is not


def measure(preparation: Preparation, storage: Path) -> Rates:
    """One engine of each role at a time, each in a process of its own that ends with it. storage: every node reaches it."""
    config, prompts = preparation.config, preparation.prompts[1]
    blocks = list(islice(cycle(prompts), config.block + config.prompts_in_flight))
    alone = ray.remote(max_calls=1, max_retries=0)  # so that its memory is free for the next one
    sample = alone(_sample).options(**role_options(config, "generators"))
    found, generate = ray.get(sample.remote(config, preparation.base, preparation.stop_token_ids, blocks))
    judge = alone(_judge).options(**role_options(config, "rankers"))
    judges = [ray.get(judge.remote(config, settings, found)) for settings in config.judges]
    sequences = config.prompts_in_flight * config.generation.candidates
    train = _train(config, preparation.base, found, storage)
    mark = marks(config, work(config), judges)
    return Rates(generate, judges[0], mark, train, sequences, "measured by a probe")


def _sample(config: Config, base: Snapshot, stops: list[int], prompts: list[Prompt]) -> tuple[list[Candidates], float]:
    """Candidates of all blocks but the first, and response tokens per second."""
    from sppo_ray.sampling import VLLMGenerator

    engine = VLLMGenerator(config, base, stops)
    sample = partial(engine.generate, candidates=config.generation.candidates, snapshot=base.name)
    sample(prompts[: config.block])
    found, seconds = _timed(partial(sample, prompts[config.block :]))
    return found, sum(len(ids) for row in found for ids in row.token_ids) / seconds


def _judge(config: Config, settings: JudgeSettings, found: list[Candidates]) -> float:
    """Tokens per second that a judge reads, counted as the plan counts them: in the policy's tokens."""
    judge = load_judge(settings, "cuda" if config.rankers.gpus else "cpu")
    texts = [row.prompt for row in found], [row.responses for row in found]
    judge.compare(texts[0][:2], texts[1][:2])
    _, seconds = _timed(partial(judge.compare, *texts))
    each = config.generation.candidates
    prompts = sum(len(row.prompt_token_ids) for row in found)
    responses = sum(len(ids) for row in found for ids in row.token_ids)
    if judge_kind(settings).demand(1, 1).each == "response":
        return (each * prompts + responses) / seconds
    return (each - 1) * (each * prompts + 2 * responses) * settings.orders / 2 / seconds


def _train(config: Config, base: Snapshot, found: list[Candidates], storage: Path) -> float:
    """Tokens per second of one train worker, all of them at work."""
    box = _Box.remote()
    pairs = [_pair(row, config) for row in found]
    TorchTrainer(
        _steps,
        train_loop_config={"config": config, "base": base, "pairs": pairs, "box": box},
        torch_config=TorchConfig(backend="nccl" if config.training.gpus else "gloo"),
        scaling_config=trainer_scaling(config),
        run_config=RunConfig(name=f"probe-{time.time_ns()}", storage_path=str(storage)),
    ).fit()
    return ray.get(box.take.remote())


def _steps(settings: dict[str, Any]) -> None:
    from sppo_ray.training.policy import TrainablePolicy

    config: Config = settings["config"]
    context = ray.train.get_context()
    share = config.training.batch_size // config.training.workers
    pairs = list(
        islice(cycle(settings["pairs"]), share * context.get_world_rank(), share * (context.get_world_rank() + 1))
    )
    policy = TrainablePolicy(config, settings["base"].uri, 1 + STEPS, get_device())
    policy.step(pairs)
    numbers, seconds = _timed(lambda: [policy.step(pairs) for _ in range(STEPS)])
    if context.get_world_rank() == 0:
        rate = sum(step.tokens for step in numbers) / seconds / config.training.workers
        ray.get(settings["box"].put.remote(rate))
    policy.close()


def _pair(row: Candidates, config: Config) -> Pair:
    first, second = (Response(row.token_ids[i], row.logprobs[i], 0.5) for i in (0, 1))
    lengths = {"max_length": config.policy.max_length, "max_prompt_length": config.policy.max_prompt_length}
    return Pair(row.prompt_id, *cut_pair(row.prompt_token_ids, first, second, **lengths))


def _timed(call: Callable[[], Any]) -> tuple[Any, float]:
    started = time.perf_counter()
    result = call()
    return result, time.perf_counter() - started


@ray.remote(num_cpus=0)
class _Box:
    """Holds the one number that a train worker found."""

    def __init__(self) -> None:
        self._value = 0.0

    def put(self, value: float) -> None:
        self._value = value

    def take(self) -> float:
        return self._value

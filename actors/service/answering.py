"""Sampling and judging outside a run: a pool for one model at a time, a pool of judges, progress on stderr.

In: a `EvaluatedModel`; prompts and their answers. Out: its `Candidates`, in the order of its prompts; comparison logits.
"""

import asyncio
import math
from collections.abc import Awaitable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray
from tqdm import tqdm

from actors.engines import start_generators, start_rankers
from sppo_ray.config import Config, JudgeSettings
from sppo_ray.judging import answers
from sppo_ray.preparation.evaluation import EvaluatedModel
from sppo_ray.records import Candidates
from sppo_ray.run_folder import Ledger


def sample(evaluated_model: EvaluatedModel, responses: int, scratch: Path) -> list[Candidates]:
    """A model's answers to all of its prompts. scratch: an empty folder that every node reaches."""
    config, ledger = evaluated_model.config, Ledger(scratch)
    generators = start_generators(config, evaluated_model.snapshot, evaluated_model.stop_token_ids, ledger)
    ray.get(generators.open.remote(evaluated_model.snapshot))
    starts = range(0, len(evaluated_model.prompts), config.block)
    paths = [ledger.block(Candidates, 0, number) for number in range(len(starts))]
    calls = [
        generators.call.remote(
            "generate",
            path,
            evaluated_model.prompts[start : start + config.block],
            responses,
            evaluated_model.snapshot.name,
        )
        for path, start in zip(paths, starts, strict=True)
    ]
    _gather(calls, f"{evaluated_model.name} answers", config.block, len(evaluated_model.prompts))
    ray.kill(generators)  # and with it its engines, which would take the place of the next model's
    return answers([row for path in paths for row in ledger.read(Candidates, path)], config.policy.thoughts)


def compare(
    config: Config,
    prompts: Sequence[str],
    answers: Sequence[Sequence[str]],
    scratch: Path,
    judge: JudgeSettings | None = None,
) -> NDArray[np.float32]:
    """Logits (N, K, K) of N prompts with K answers each. judge: in place of the one that trains."""
    evaluation = config.evaluation.model_copy(update={"judge": None})
    config = config.model_copy(update={"judge": judge or config.judge, "evaluation": evaluation})
    rankers = start_rankers(config, Ledger(scratch))
    ray.get(rankers.open.remote())
    size = max(1, math.ceil(config.block * config.generation.candidates**2 / len(answers[0]) ** 2))
    calls = [
        rankers.call.remote("compare", prompts[start : start + size], answers[start : start + size])
        for start in range(0, len(prompts), size)
    ]
    parts = _gather(calls, "judging", size, len(prompts))
    ray.kill(rankers)
    return np.concatenate(parts)


def _gather(calls: Sequence[Awaitable[Any]], what: str, size: int, total: int) -> list[Any]:
    async def work() -> list[Any]:
        with tqdm(total=total, desc=what, unit=" prompts") as bar:

            async def one(call: Awaitable[Any]) -> Any:
                result = await call
                bar.update(min(size, total - bar.n))
                return result

            return await asyncio.gather(*map(one, calls))

    return asyncio.run(work())

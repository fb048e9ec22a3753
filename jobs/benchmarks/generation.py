"""Sampling through the pool against the bare vLLM engine, and against the release's five passes of one response.

In: the playground's policy and the 220 prompts of its first iteration. Out: tokens per second of the three ways, and the
share of the time that the pool's engine steps.
"""

import tempfile
import time
from collections import defaultdict
from pathlib import Path

import ray

from actors.cluster.placement import role_options
from actors.engines import start_generators
from jobs.benchmarks import Ratio, at_least, ratios, start_ray
from jobs.benchmarks._bare_engine import BareEngine
from sppo_ray.config import load_config
from sppo_ray.preparation import Preparation, prepare
from sppo_ray.records import Candidates, Prompt
from sppo_ray.run_folder import Ledger

ROUNDS = 5


def run() -> list[Ratio]:
    preparation = prepare(load_config("playground", overrides=["generators.cpus=1"]), say=lambda line: None)
    rates, busy = in_turn(preparation, preparation.prompts[1], ROUNDS, five_passes=True)
    slow = "on a CPU a step costs what its tokens cost, so a small last batch of a pass wastes little"
    return [
        at_least(
            "generation: pool to the bare engine",
            ratios(rates["pool"], rates["bare"]),
            0.95,
            "blocks are written in the engine's process, 2 to 3 %, and rounds of three seconds vary by 5 %",
            **means(rates),
        ),
        at_least(
            "generation: pool to the release's five passes", ratios(rates["pool"], rates["five passes"]), 1.5, slow
        ),
        at_least("generation: busy share of the engine", busy, 0.95),
    ]


def means(rates: dict[str, list[float]]) -> dict[str, str]:
    return {way: f"{sum(several) / len(several):.0f} tokens/s" for way, several in rates.items()}


def in_turn(
    preparation: Preparation, prompts: list[Prompt], rounds: int, five_passes: bool = False
) -> tuple[dict[str, list[float]], float]:
    """Tokens per second of each way in each round, and the busy share of the pool's engine in the last one."""
    start_ray()
    config, candidates = preparation.config, preparation.config.generation.candidates
    rates: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        # With the same threads as the pool's engine.
        bare = (
            ray.remote(BareEngine)
            .options(**role_options(config, "generators"))
            .remote(config, preparation.base.uri, preparation.stop_token_ids)
        )
        pooled = Pooled(preparation, Ledger(Path(folder)))
        for turn in range(rounds + 1):
            turns = {
                "pool": pooled.sample(prompts, turn),
                "bare": ray.get(bare.sample.remote(prompts, candidates, 1)),
            }
            if five_passes:
                turns["five passes"] = ray.get(bare.sample.remote(prompts, 1, candidates))
            for way, (tokens, seconds) in turns.items():
                if turn:  # the first one warms up
                    rates[way].append(tokens / seconds)
        busy = pooled.busy_share
    ray.shutdown()
    return rates, busy


class Pooled:
    """A pool of one generator, given all blocks at once as an iteration does."""

    def __init__(self, preparation: Preparation, ledger: Ledger) -> None:
        self._config, self._base, self._ledger = preparation.config, preparation.base, ledger
        self._pool = start_generators(self._config, self._base, preparation.stop_token_ids, ledger)
        ray.get(self._pool.open.remote(self._base))
        self._member = ray.get(self._pool.member.remote())[1]
        self.busy_share = 0.0

    def sample(self, prompts: list[Prompt], turn: int) -> tuple[int, float]:
        each, count = self._config.block, self._config.generation.candidates
        starts = range(0, len(prompts), each)
        paths = [self._ledger.block(Candidates, turn, block) for block in range(len(starts))]
        busy, started = self._busy_seconds(), time.perf_counter()
        ray.get(
            [
                self._pool.call.remote("generate", path, prompts[start : start + each], count, self._base.name)
                for path, start in zip(paths, starts, strict=True)
            ]
        )
        seconds = time.perf_counter() - started
        self.busy_share = (self._busy_seconds() - busy) / seconds
        rows = [row for path in paths for row in self._ledger.read(Candidates, path)]
        return sum(len(ids) for row in rows for ids in row.token_ids), seconds

    def _busy_seconds(self) -> float:
        seconds: float = ray.get(self._member.__ray_call__.remote(lambda actor: actor._engine.busy_seconds))
        return seconds

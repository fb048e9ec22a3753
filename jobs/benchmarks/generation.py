"""Sampling through the pool against the bare vLLM engine, and against the release's five passes of one response.

In: the playground's policy and the 220 prompts of its first iteration. Out: tokens per second of the three ways, and the
share of the time that the pool's engine steps.
"""

import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import ray

from actors.engines import start_generators
from jobs.benchmarks import Ratio, at_least, start_ray
from sppo_ray.config import Config, load_config
from sppo_ray.preparation import Preparation, prepare
from sppo_ray.records import Candidates, Prompt, Snapshot
from sppo_ray.run_folder import Ledger
from sppo_ray.sampling.environment import set_environment

ROUNDS = 8


def run() -> list[Ratio]:
    start_ray()
    preparation = prepare(load_config("playground", overrides=["generators.cpus=1"]), say=lambda line: None)
    config, prompts, candidates = preparation.config, preparation.prompts[1], preparation.config.generation.candidates
    rates: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        bare = Bare.options(num_cpus=config.generators.cpus).remote(
            config, preparation.base, preparation.stop_token_ids
        )
        pooled = Pooled(preparation, Ledger(Path(folder)))
        for turn in range(ROUNDS + 1):
            turns = {
                "pool": pooled.sample(prompts, turn),
                "bare": ray.get(bare.sample.remote(prompts, candidates, 1)),
                "five passes": ray.get(bare.sample.remote(prompts, 1, candidates)),
            }
            for way, (tokens, seconds) in turns.items():
                if turn:  # the first one warms up
                    rates[way].append(tokens / seconds)
        busy = pooled.busy_share
    ray.shutdown()
    rate = {way: sum(several) / ROUNDS for way, several in rates.items()}
    detail = {way: f"{one:.0f} tokens/s" for way, one in rate.items()}
    rounds = [pool / bare for pool, bare in zip(rates["pool"], rates["bare"], strict=True)]
    slow = "on a CPU a step costs what its tokens cost, so a small last batch of a pass wastes little"
    return [
        at_least(
            "generation: pool to the bare engine",
            rate["pool"] / rate["bare"],
            0.95,
            "blocks are written in the engine's process, 2 to 3 %, and rounds of three seconds vary by 5 %",
            rounds=f"{min(rounds):.2f} to {max(rounds):.2f}",
            **detail,
        ),
        at_least("generation: pool to the release's five passes", rate["pool"] / rate["five passes"], 1.5, slow),
        at_least("generation: busy share of the engine", busy, 0.95),
    ]


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


@ray.remote
class Bare:
    """The same engine with nothing around it: all prompts go in, it steps until it is empty."""

    def __init__(self, config: Config, model: Snapshot, stop_token_ids: list[int]) -> None:
        set_environment()
        from vllm import EngineArgs, SamplingParams
        from vllm.sampling_params import RequestOutputKind
        from vllm.usage.usage_lib import UsageContext
        from vllm.v1.engine.llm_engine import LLMEngine

        self._engine = LLMEngine.from_engine_args(
            EngineArgs(
                model=model.uri,
                dtype=config.policy.dtype,
                max_model_len=config.policy.max_prompt_length + config.generation.max_new_tokens,
                enforce_eager=True,
                seed=config.seed,
                disable_log_stats=True,
            ),
            usage_context=UsageContext.LLM_CLASS,  # as vLLM's `LLM`, which the release uses
        )
        self._sampling = SamplingParams(
            temperature=config.generation.temperature,
            top_p=config.generation.top_p,
            max_tokens=config.generation.max_new_tokens,
            stop_token_ids=stop_token_ids,
            logprobs=0,
            flat_logprobs=True,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )

    def sample(self, prompts: list[Prompt], count: int, passes: int) -> tuple[int, float]:
        """Tokens sampled and the seconds they took: `passes` times `count` responses to each prompt.

        Without the release's seed of every request: in vLLM 0.32 it makes no difference to the time.
        """
        tokens, started = 0, time.perf_counter()
        sampling = self._sampling.clone()
        sampling.n = count
        for turn in range(passes):
            for number, prompt in enumerate(prompts):
                self._engine.add_request(f"{turn}-{number}", {"prompt_token_ids": prompt.token_ids}, sampling)
            while self._engine.has_unfinished_requests():
                outputs: list[Any] = self._engine.step()
                tokens += sum(len(completion.token_ids) for output in outputs for completion in output.outputs)
        return tokens, time.perf_counter() - started

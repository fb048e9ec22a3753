"""Sampling with the real model, SmolLM2-135M-Instruct, through the pool against the bare vLLM engine, on prompts of its recipe."""

from jobs.benchmarks import Ratio, at_least, ratios, real_dtype
from jobs.benchmarks.generation import in_turn, means
from sppo_ray.config import load_config
from sppo_ray.instructions import small_model
from sppo_ray.preparation import prepare

ROUNDS, PROMPTS = 3, 24
ENDS = (
    "a round has few prompts, so the last sequences of its blocks, which leave the batch short, are a large part of it"
)


def run() -> list[Ratio]:
    dtype = real_dtype()
    overrides = [f"policy.model={small_model()}", f"policy.dtype={dtype}", f"block={PROMPTS // 2}"]
    preparation = prepare(load_config("smollm2-135m-instruct", overrides=overrides), say=lambda line: None)
    rates, _ = in_turn(preparation, preparation.prompts[1][:PROMPTS], ROUNDS)
    name = "generation: pool to the bare engine, real model"
    return [at_least(name, ratios(rates["pool"], rates["bare"]), 0.97, ENDS, dtype=dtype, **means(rates))]

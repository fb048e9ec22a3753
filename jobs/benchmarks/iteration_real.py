"""A whole iteration of the recipe smollm2-135m-instruct, on fewer prompts, against the same work done the release's way."""

from jobs.benchmarks import Ratio, real_dtype
from jobs.benchmarks.iteration import compare, run_job
from sppo_ray.instructions import small_model

PROMPTS = 24
SAME_WORK = "both ways sample and train the same tokens, a Python judge costs nothing, and with min_margin training waits for it"


def run() -> list[Ratio]:
    words = [
        f"policy.model={small_model()}",
        f"policy.dtype={real_dtype()}",
        *(f"prompts.limit={PROMPTS}", "evaluation.prompts.limit=4", "evaluation.responses=1"),
    ]
    name, recipe = "iteration: the release's way, real model", "smollm2-135m-instruct"
    return [compare(name, run_job(recipe, words), recipe, words, 4, SAME_WORK)]

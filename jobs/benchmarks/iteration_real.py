"""A whole iteration of the recipe smollm2-135m-instruct, on fewer prompts, against the same work done the release's way."""

from jobs.benchmarks import Ratio, real_dtype
from jobs.benchmarks.iteration import whole_iteration
from sppo_ray.instructions import small_model

PROMPTS = 40


def run() -> list[Ratio]:
    words = [
        f"policy.model={small_model()}",
        f"policy.dtype={real_dtype()}",
        *(f"prompts.limit={PROMPTS}", "evaluation.prompts.limit=4", "evaluation.responses=1"),
    ]
    return [whole_iteration("iteration: the release's way, real model", "smollm2-135m-instruct", words, 4)]

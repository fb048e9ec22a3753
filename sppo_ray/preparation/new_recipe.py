"""A new recipe for a model, prompts and a judge that a person names, sized by the plan.

In: their names, the machines at hand. Out: a `Config`, and its YAML with a line of why for every key.
"""

from typing import Any

import yaml

from sppo_ray.config import Config, JudgeSettings, PolicySettings, PromptSource, keys, validated
from sppo_ray.judging import judge_kind
from sppo_ray.models import model_shape
from sppo_ray.planning.placing import Machines, place
from sppo_ray.preparation.base_model import read_model
from sppo_ray.preparation.run import absolute
from sppo_ray.prompts import read_prompts

SEED, ITERATIONS = 42, 3
HELD_OUT_SHARE, MOST_HELD_OUT = 0.1, 500
BATCHES, LEAST_STEPS = (64, 32, 16, 8, 4, 2, 1), 8
SECTIONS = ("prompts", "policy", "generation", "judge", "training", "evaluation", "generators", "rankers")
WHY = {
    "seed": "the release's; it fixes the order of the prompts",
    "iterations": "the paper's; after each the new policy becomes sampler and reference",
    "prompts.source": "as you named it",
    "policy.model": "as you named it",
    "policy.attention": "flex_attention where logits are soft-capped, else sdpa",
    "policy.max_length": "the release's 1024, or what the model's context allows",
    "policy.max_prompt_length": "the release's 512, or what the model's context allows",
    "generation.candidates": "the paper's K",
    "generation.max_new_tokens": "the release's 2048, or what the model's context allows",
    "generation.temperature": "the paper's",
    "generation.top_p": "the paper's",
    "generation.tensor_parallel": "the plan's: GPUs that one copy of the weights needs",
    "generation.gpu_memory_utilization": "the plan's: as much as the engine needs",
    "judge.kind": "as you named it",
    "judge.model": "as you named it",
    "judge.estimator": "the paper's",
    "training.loss": "the paper's",
    "training.eta": "the paper's",
    "training.learning_rate": "the release's 5e-7; ten times that for an adapter",
    "training.optimizer": "the release's",
    "training.batch_size": f"the release's 64, or less so that an iteration has {LEAST_STEPS} steps",
    "training.micro_batch_tokens": "the plan's: what fits; the step is the same for any value",
    "training.gradient_checkpointing": "the plan's: less memory",
    "training.adapter.rank": "the plan's: 0 where all weights fit, else an adapter",
    "training.offload": "the plan's: what does not fit on the GPU goes to host memory",
    "training.workers": "the plan's",
    "evaluation.held_out": "a tenth of the prompts, 500 at most; never trained on",
    "placement": "the plan's",
    "generators.max": "the plan's",
    "rankers.max": "the plan's",
    "training.gpus": "the plan's: a share keeps other roles' processes on the same GPU",
    "generators.gpus": "the plan's: see training.gpus",
    "rankers.gpus": "the plan's: see training.gpus; 0 for a judge that needs none",
}


def new_recipe(name: str, model: str, prompts: str, judge: JudgeSettings, machines: Machines) -> Config:
    """A configuration with the paper's numbers that fits the machines; where nothing else does, with an adapter.

    Raises a `UserError` for a model, prompts or a judge that cannot be used, or if nothing fits.
    """
    model, source = absolute(model), PromptSource(source=absolute(prompts))
    judge = judge.model_copy(update={"model": absolute(judge.model)})
    judge_kind(judge).check()
    context = read_model(PolicySettings(model=model)).context
    count = len(read_prompts(source, seed=SEED).prompts)
    held_out = min(MOST_HELD_OUT, int(HELD_OUT_SHARE * count))
    each = (count - held_out) // ITERATIONS
    config = validated(
        {
            "recipe": name,
            "seed": SEED,
            "iterations": ITERATIONS,
            "prompts": source.model_dump(exclude_unset=True),
            "policy": {
                "model": model,
                "attention": "flex_attention" if model_shape(model, "policy.model").capped else "sdpa",
                "max_length": min(1024, context // 2),
                "max_prompt_length": min(512, context // 4),
            },
            "generation": {"max_new_tokens": min(2048, context // 2)},
            "judge": judge.model_dump(exclude_unset=True),
            "training": {"batch_size": next((b for b in BATCHES if LEAST_STEPS * b <= each), 1)},
            "evaluation": {"held_out": held_out},
        }
    )
    return place(config, machines, max(each, 1), new=True)


def recipe_yaml(config: Config, about: str) -> str:
    """The file of a recipe: every key of the sections that make a run, each with why. about: a line for its head."""
    lines = [f"# {about}", "# The numbers are the paper's and the release's unless a line says otherwise."]
    section: list[str] = []
    for key, meaning, _ in keys():
        *path, name = key.split(".")
        value = _value(config, key)
        if value is None or (path and path[0] not in SECTIONS) or key in ("max_set_aside", "trackers"):
            continue
        shared = next(
            (n for n, (a, b) in enumerate(zip(section, path, strict=False)) if a != b), min(len(section), len(path))
        )
        lines += ["  " * depth + f"{path[depth]}:" for depth in range(shared, len(path))]
        section = path
        text = (
            yaml.safe_dump(value, default_flow_style=True, width=1000, allow_unicode=True).removesuffix("...\n").strip()
        )
        why = WHY.get(key) or (meaning.description or "").split(";")[0].split(". ")[0].rstrip(".").replace("\n", " ")
        lines.append("  " * len(path) + f"{name}: {text} # {why}")
    return "\n".join(lines) + "\n"


def _value(config: Config, key: str) -> Any:
    value: Any = config
    for name in key.split("."):
        value = getattr(value, name, None)
    return value

"""Everything that is checked and prepared before an engine starts, for a run and for an evaluation.

In: the configuration. Out: encoded prompts, the base model as a snapshot; or a `UserError` with the remedy.
`node` and `machine` are what each node checks of itself, `evaluation` prepares models that are asked outside a run, `new_recipe` writes
a recipe.
"""

from sppo_ray.preparation.provenance import about, versions
from sppo_ray.preparation.run import (
    Preparation,
    PromptReport,
    absolute_paths,
    check_cluster,
    prepare,
    resolve_judges,
    store_prompts,
)

__all__ = [
    "Preparation",
    "PromptReport",
    "about",
    "absolute_paths",
    "check_cluster",
    "evaluation",
    "machine",
    "new_recipe",
    "node",
    "prepare",
    "resolve_judges",
    "store_prompts",
    "versions",
]

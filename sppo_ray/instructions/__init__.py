"""Real short instructions with constraints that a program can check: a truth for a real language model, without a judge model.

In: nothing. Out: folders with prompts and with a small real model; scores in [0, 1] of any answer.
`scores` is the judge, `constraint_score` the rule that a report compares it with.
`perplexity`, which loads torch, is imported as a module.
"""

from sppo_ray.instructions.constraints import constraint_score
from sppo_ray.instructions.content import constraint_scores, content_score, scores
from sppo_ray.instructions.drawing import prompt_folder
from sppo_ray.instructions.model import packaged_model, small_model
from sppo_ray.instructions.outcome import mean_scores

__all__ = [
    "constraint_score",
    "constraint_scores",
    "content_score",
    "mean_scores",
    "packaged_model",
    "perplexity",
    "prompt_folder",
    "scores",
    "small_model",
]

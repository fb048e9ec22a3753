"""What a policy learned, by kind of constraint.

In: responses to the held-out prompts. Out: mean scores by group of prompts, and over all: content, degenerate answers, length.
"""

from collections import defaultdict
from statistics import fmean

from sppo_ray.evaluation import degeneration
from sppo_ray.instructions.constraints import TRAINED, constraint_score
from sppo_ray.instructions.content import content_score
from sppo_ray.records import Candidates

OVERALL = (
    "all kinds trained",
    "all kinds held out",
    "all combinations held out",
    "all",
    "content",
    "degenerate share",
    "tokens",
)


def mean_scores(responses: list[Candidates]) -> dict[str, float]:
    """Mean scores by group of held-out prompts, which their ids name; then over groups; then of all answers."""
    found = defaultdict(list)
    for row in responses:
        group = row.prompt_id.rpartition("-")[0]
        several = "all combinations held out" if "+" in group else "all kinds held out"
        known = group in {constraint.name for constraint in TRAINED}
        for answer, token_ids in zip(row.responses, row.token_ids, strict=True):
            score = constraint_score(row.prompt, answer) or 0.0
            for name in (group, "all kinds trained" if known else several, "all"):
                found[name].append(score)
            found["content"].append(content_score(row.prompt, answer))
            found["degenerate share"].append(degeneration(row.prompt, answer) is not None)
            found["tokens"].append(len(token_ids))
    groups = sorted(found.keys() - set(OVERALL))
    return {name: fmean(found[name]) for name in (*groups, *OVERALL) if name in found}

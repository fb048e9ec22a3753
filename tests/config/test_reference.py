"""The configuration reference: every key of the tree, with a meaning, exactly once."""

import re

from sppo_ray.config import reference
from sppo_ray.config.reference import keys


def test_every_key_has_a_meaning():
    assert [key for key, field, _ in keys() if not (field.description or "").strip()] == []


def test_every_key_is_in_the_reference_once():
    rows = re.findall(r"^\| `([\w.]+)` \|.*\|$", reference(), re.M)
    assert sorted(rows) == sorted(key for key, _, _ in keys())
    assert {"seed", "training.eta", "generators.max", "evaluation.prompts.source"} <= set(rows)


def test_a_row_has_type_default_and_meaning():
    (row,) = [line for line in reference().splitlines() if line.startswith("| `judge.estimator`")]
    assert row == (
        "| `judge.estimator` | `pairwise`, `pooled` | `pairwise` | no | How comparisons become win rates: `pairwise` as in the "
        "paper, `pooled` as in the authors' release. |"
    )

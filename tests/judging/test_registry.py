"""Judges by name: the kinds of the package, one from outside, and a Python function as a judge."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest

from sppo_ray.config import JudgeSettings
from sppo_ray.errors import ConfigError, JudgeError, ModelError
from sppo_ray.judging import judge_kind, load_judge
from sppo_ray.preference import preference_probabilities

FUNCTIONS = """
WORDS = ["a"]

class NoKind:
    def __init__(self, settings):
        pass

    def check(self):
        pass

def length(prompt, responses):
    return [len(response) for response in responses]

def fails(prompt, responses):
    raise RuntimeError("no words")

def too_few(prompt, responses):
    return [1.0]

def not_a_number(prompt, responses):
    return [float("nan")] * len(responses)

def first_wins(prompt, responses):
    return [[0.5, 0.75, 1], [0.25, 0.5, 0.25], [0, 0.75, 0.5]]

def no_chance(prompt, responses):
    return [[0.5, 1.5], [-0.5, 0.5]]

def undecided(prompt, responses):
    return [[0.5, float("nan")], [0.5, 0.5]]

def ragged(prompt, responses):
    return [[0.5], [0.5, 0.5]]
"""


@pytest.fixture(autouse=True)
def functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A module of the user's in the working directory."""
    (tmp_path / "my_scores.py").write_text(FUNCTIONS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    sys.modules.pop("my_scores", None)


def python(function: str):
    return load_judge({"kind": "python", "model": f"my_scores:{function}"})


@pytest.mark.parametrize("estimator", ["pairwise", "pooled"])
def test_scores_of_a_function_become_the_sigmoid_of_their_difference(estimator):
    logits = python("length").compare(["p", "q"], [["a", "bbb"], ["cc", "cc"]])
    assert logits.dtype == np.float32 and logits.tolist() == [[[0, -1], [1, 0]], [[0, 0], [0, 0]]]
    chances = preference_probabilities(logits, estimator)
    assert chances[0, 1, 0] == pytest.approx(1 / (1 + math.exp(-2))) and chances[1, 0, 1] == 0.5


def test_a_matrix_of_a_function_is_its_probabilities():
    """A cycle-free matrix by hand; the 0 and 1 are kept to six digits."""
    (logits,) = python("first_wins").compare(["p"], [["a", "b", "c"]])
    assert logits.dtype == np.float32 and logits.diagonal().tolist() == [0, 0, 0]
    chances = preference_probabilities(logits)
    assert chances == pytest.approx(np.array([[0.5, 0.75, 1], [0.25, 0.5, 0.25], [0, 0.75, 0.5]]), abs=2e-6)
    assert logits[0, 1] == pytest.approx(math.log(3) / 2)


@pytest.mark.parametrize(
    "function, words",
    [
        ("fails", "RuntimeError: no words"),
        ("too_few", "expected 2 scores or a 2 x 2 matrix"),
        ("not_a_number", r"expected 2 finite scores, it returned \[nan"),
        ("no_chance", r"expected probabilities between 0 and 1, it returned \[\[0.5, 1.5"),
        ("undecided", "expected probabilities between 0 and 1"),
        ("ragged", "ValueError"),
    ],
)
def test_a_function_that_cannot_score_is_named_with_its_prompt(function, words):
    with pytest.raises(JudgeError, match=f"my_scores:{function}, prompt 'Why\\?'.*{words}"):
        python(function).compare(["Why?"], [["a", "b"]])


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"kind": "pairm", "model": "x"}, "there is no judge.kind=pairm: did you mean pairrm"),
        ({"kind": "python", "model": "length"}, "judge.model=length: write package.module:name"),
        ({"kind": "python", "model": "my_scores:longest"}, "judge.model=my_scores:longest cannot be imported"),
        ({"kind": "python", "model": "nowhere:f"}, "No module named 'nowhere'"),
        (
            {"kind": "python", "model": "my_scores:WORDS"},
            "judge.model=my_scores:WORDS is of type list; expected Callable",
        ),
        ({"kind": "my_scores:length", "model": "x"}, "judge.kind=my_scores:length is of type function; expected type"),
        ({"kind": "my_scores:NoKind", "model": "x"}, "judge.kind=my_scores:NoKind needs the methods check, load"),
        ({"model": "x", "kinds": "pairrm"}, "kinds"),
    ],
)
def test_a_judge_that_is_not_there_is_named_before_anything_starts(settings, words):
    with pytest.raises(ConfigError, match=words):
        load_judge(settings)


def test_a_folder_without_a_checkpoint_is_refused_by_the_check():
    with pytest.raises(ModelError, match="judge nowhere"):
        judge_kind(JudgeSettings(model="nowhere")).check()


def test_what_a_pairrm_takes_of_a_device():
    """DeBERTa-v3-large by hand: 24 layers of 4 x 1024 x 1024 + 2 x 1024 x 4096 + 2 x 1024 weights, 2 operations each."""
    demand = judge_kind(JudgeSettings(model="llm-blender/PairRM", batch_tokens=1000)).demand(prompt=2000, response=400)
    layer = 4 * 1024 * 1024 + 2 * 1024 * 4096 + 2 * 1024
    assert demand.operations == 2 * 24 * layer
    assert demand.tokens == 1224 + 2 * 400
    assert demand.memory["activations"] == 1000 * (2 * (6 * 1024 + 2 * 4096) + 2 * 3 * 16 * 512)

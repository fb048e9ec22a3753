"""What is checked and said of judge, loss and optimizer before an engine starts."""

import pytest

from sppo_ray.config import load_config
from sppo_ray.errors import ConfigError
from sppo_ray.playground import Playground
from sppo_ray.preparation import prepare

PYTHON = ["judge.kind=python", "judge.model=math:fsum"]


@pytest.mark.parametrize(
    "overrides, told",
    [([*PYTHON, "rankers.gpus=1"], True), ([*PYTHON, "rankers.gpus=0"], False), (["rankers.gpus=1"], False)],
)
def test_a_gpu_that_the_judge_does_not_use_is_pointed_out(
    playground: Playground, overrides: list[str], told: bool
) -> None:
    said: list[str] = []
    prepare(load_config(overrides=overrides), said.append)
    line = "judge.kind=python needs no GPU: rankers.gpus=0 leaves it to the other roles"
    assert (line in said) is told


@pytest.mark.parametrize(
    "override, words",
    [
        ("judge.kind=pairm", "did you mean pairrm"),
        ("training.optimizer=adam", "did you mean adamw"),
        ("training.loss=nowhere:loss", "training.loss=nowhere:loss cannot be imported"),
        ("training.optimizer=math:pi", "training.optimizer=math:pi is of type float; expected OptimizerKind"),
    ],
)
def test_what_cannot_be_loaded_is_refused(playground: Playground, override: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        prepare(load_config(overrides=[override]), lambda _: None)

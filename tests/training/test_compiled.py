"""What `training.compile` refuses; its steps are among those of `tests/training/test_policy.py`."""

import pytest
from torch import nn

from sppo_ray.errors import RunFailed
from sppo_ray.training.compiled import compile_layers


def test_a_model_without_transformers_layers_is_refused_with_the_remedy() -> None:
    with pytest.raises(RunFailed, match=r"training.compile: Sequential has none of .*training.compile=false"):
        compile_layers(nn.Sequential(nn.Linear(1, 1)))

"""Which snapshots anchor an iteration, by hand, and what a person may not write."""

import pytest

from sppo_ray.config import TrainingSettings, load_config
from sppo_ray.errors import ConfigError


def anchored(iteration: int, base_every: int | None = None, **anchors: float) -> dict[int, float]:
    training = TrainingSettings(anchors=anchors, base_every=base_every)
    assert training.other_anchors(iteration) == list(training.anchored(iteration))[:-1]
    return training.anchored(iteration)


def test_sppo_is_anchored_by_the_policy_that_it_samples_from():
    assert [TrainingSettings().anchored(t) for t in (1, 2, 3)] == [{0: 1.0}, {1: 1.0}, {2: 1.0}]
    assert TrainingSettings().other_anchors(3) == []


def test_anchors_that_are_one_snapshot_are_one():
    mnpo = {"current": 0.5, "previous": 0.25, "base": 0.25}
    assert anchored(1, **mnpo) == {0: 1.0}  # all of them are the base model
    assert anchored(2, **mnpo) == {0: 0.5, 1: 0.5}  # the previous policy is the base model
    assert anchored(3, **mnpo) == {0: 0.25, 1: 0.25, 2: 0.5}
    assert list(anchored(4, **mnpo)) == [0, 2, 3]


def test_the_base_moves_to_the_policy_of_every_nth_iteration():
    """With base_every = 2 the base is pi_0 in iterations 1 and 2, pi_2 (sampled from in iteration 3) in 3 and 4."""
    comal = {"base_every": 2, "current": 0.75, "base": 0.25}
    assert [anchored(t, **comal) for t in (1, 2, 3, 4, 5)] == [
        {0: 1.0},
        {0: 0.25, 1: 0.75},
        {2: 1.0},
        {2: 0.25, 3: 0.75},
        {4: 1.0},
    ]


def test_the_current_policy_may_have_no_weight():
    assert anchored(2, current=0.0, base=1.0) == {0: 1.0, 1: 0.0}


def test_weights_that_do_not_add_up_are_refused():
    with pytest.raises(ConfigError, match=r"add up to 1.5: set all three"):
        load_config(overrides=["training.anchors.base=0.5"])
    assert load_config(overrides=["training.anchors={current: 0.5, base: 0.5}"]).training.anchors.base == 0.5

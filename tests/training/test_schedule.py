"""Steps and learning rates of an iteration, by hand: the release's schedule, except that a single step is trained."""

from typing import Any

import pytest
import torch

from sppo_ray.config import TrainingSettings
from sppo_ray.training.schedule import few_steps, iteration_steps, scheduler


def rates(steps: int, **settings: Any) -> list[float]:
    """Learning rates of an iteration's steps, as shares of the peak."""
    training = TrainingSettings(learning_rate=1.0, **settings)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule = scheduler(training, optimizer, steps)
    found = []
    for _ in range(steps):
        found.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return found


def test_the_only_step_of_an_iteration_is_taken_at_the_peak_rate():
    assert rates(1) == [1.0]
    assert rates(1, warmup_ratio=1.0) == [1.0]
    assert rates(1, warmup_ratio=0.0) == [1.0]


@pytest.mark.parametrize(
    "steps, ratio, expected",
    [
        (2, 0.1, [0, 1]),
        (4, 0.1, [0, 1, 2 / 3, 1 / 3]),
        (4, 0.5, [0, 0.5, 1, 0.5]),
        (2, 1.0, [0, 0.5]),  # the paper's: the rate only rises
        (3, 0.0, [1, 2 / 3, 1 / 3]),
    ],
)
def test_more_steps_have_the_release_s_rates(steps, ratio, expected):
    assert rates(steps, warmup_ratio=ratio) == pytest.approx(expected)


def test_the_rate_falls_along_half_a_cosine_or_stays():
    """After one step of warm-up, of four: cos(0), cos(pi / 3), cos(2 pi / 3), raised and halved."""
    assert rates(4, schedule="cosine") == pytest.approx([0, 1, 0.75, 0.25])
    assert rates(4, schedule="constant", warmup_ratio=0.5) == pytest.approx([0, 0.5, 1, 1])
    assert rates(1, schedule="cosine") == rates(1, schedule="constant") == [1.0]


def test_steps_of_an_iteration():
    training = TrainingSettings(batch_size=64, epochs=2)
    assert [iteration_steps(training, prompts) for prompts in (1, 64, 65, 20_000)] == [2, 2, 4, 626]


def test_few_steps_are_warned_of_in_words():
    training = TrainingSettings(batch_size=4)
    assert few_steps(training, 40) is None  # ten steps: 1 / 0.1
    assert few_steps(training, 36) == (
        "36 prompts are 9 optimizer steps, the first of which has a learning rate of 0: fewer than "
        "1 / training.warmup_ratio = 10 steps; a new run can use more prompts or a lower training.batch_size"
    )
    assert "3 prompts are 1 optimizer step, which is taken at the peak" in (few_steps(training, 3) or "")
    assert few_steps(TrainingSettings(batch_size=4, warmup_ratio=0.0), 4) is None

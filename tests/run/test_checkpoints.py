"""All train workers write a checkpoint after the same steps, whatever their clocks say."""

import time

import pytest
import torch

from actors.run.checkpoints import Due
from sppo_ray.config import load_config

TRAINING = load_config(overrides=["training={checkpoint_minutes: 10, checkpoint_steps: 3}"]).training


def steps(rank: int, minutes: float, answers: list[int], monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The steps of six after which a worker writes a checkpoint. minutes: of a step, by its clock. answers: of the first worker."""
    now = 0.0

    def broadcast(tensor: torch.Tensor, source: int) -> None:
        assert source == 0
        if rank == 0:
            answers.append(int(tensor.item()))
        else:
            tensor.fill_(answers.pop(0))

    monkeypatch.setattr(time, "monotonic", lambda: 60 * now)
    monkeypatch.setattr(torch.distributed, "broadcast", broadcast)
    due, found = Due(TRAINING, torch.device("cpu")), []
    for step in range(1, 7):
        now += minutes
        if due.after(step):
            found.append(step)
            due.written()
    return found


def test_the_first_worker_s_clock_decides_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[int] = []
    # After 12 minutes and 3 steps, and again 12 minutes and 3 steps later.
    assert steps(0, 4.0, answers, monkeypatch) == [3, 6]
    assert answers == [0, 0, 1, 0, 0, 1]
    assert steps(1, 500.0, answers, monkeypatch) == [3, 6]
    # After 12 minutes, 3 steps, and 12 minutes since the second.
    assert steps(0, 6.0, answers, monkeypatch) == [2, 3, 5, 6]
    assert steps(1, 0.0, answers, monkeypatch) == [2, 3, 5, 6]

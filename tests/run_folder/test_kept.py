"""The share of an update that a snapshot keeps, on tensors whose rounding is known: bfloat16 has steps of 1/128 above 1."""

from math import sqrt
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from sppo_ray.records import KeptShare
from sppo_ray.run_folder.kept import UpdateKept

STEP = 1 / 128


def kept(folder: Path, updates: dict[str, list[float]], dtype: torch.dtype = torch.bfloat16) -> KeptShare | None:
    """Of updates, in steps of bfloat16, to weights that are all 1."""
    save_file({name: torch.ones(2, 2) for name in ("a", "b")}, folder / "model.safetensors")
    measure = UpdateKept(str(folder), torch.bfloat16, dtype)
    new = {name: (1 + STEP * torch.tensor(update)).view(2, 2) for name, update in updates.items()}
    passed = dict(measure.over(new.items()))
    assert all(passed[name] is tensor for name, tensor in new.items())
    return measure.share()


def test_by_hand(tmp_path: Path) -> None:
    # u = (0.25, 0.75, 2, 0, 0, 0, 0, 1) becomes p = (0, 1, 2, 0, 0, 0, 0, 1):
    # <u, u> = 5.625, <p, u> = 5.75, <p, p> = 6.
    found = kept(tmp_path, {"a": [0.25, 0.75, 2, 0], "b": [0, 0, 0, 1]})
    assert found == KeptShare(pytest.approx(5.75 / 5.625), pytest.approx(5.75 / sqrt(5.625 * 6)))


def test_all_of_it_and_nothing(tmp_path: Path) -> None:
    small = {"a": [0.25, 0.0, 0.0, 0.0], "b": [0.125, 0.0, 0.0, -0.0625]}
    assert kept(tmp_path, small) == KeptShare(0.0, 0.0)
    assert kept(tmp_path, small, torch.float32) == KeptShare(pytest.approx(1), pytest.approx(1))


def test_the_model_before_counts_as_rounded_too(tmp_path: Path) -> None:
    save_file({"a": torch.full((2,), 1 + STEP / 4)}, tmp_path / "model.safetensors")  # trained from 1
    measure = UpdateKept(str(tmp_path), torch.bfloat16, torch.bfloat16)
    list(measure.over([("a", torch.full((2,), 1 + STEP))]))
    assert measure.share() == KeptShare(pytest.approx(1), pytest.approx(1))


def test_nothing_is_said_of_what_cannot_be_compared(tmp_path: Path) -> None:
    assert kept(tmp_path, {"a": [1.0] * 4, "other": [1.0] * 4}) is None
    assert kept(tmp_path, {"a": [0.0] * 4, "b": [0.0] * 4}) is None

"""The named losses against formulas written independently, and their gradients against finite differences."""

import math
import sys
from pathlib import Path

import pytest
import torch

from sppo_ray.errors import ConfigError
from sppo_ray.loss import LOSSES, check_loss, pair_loss

ETA = 4.0
CHOSEN, REJECTED = [3.0, -1.0, 0.5], [1.0, 2.0, 0.5]
W_CHOSEN, W_REJECTED, PREFERENCE = [0.75, 0.6, 0.5], [0.25, 0.1, 0.5], [0.9, 0.7, 0.5]


def by_hand(name: str, a: float, b: float, w: float, v: float, p: float) -> float:
    match name:
        case "sppo":
            return ((a - ETA * (w - 0.5)) ** 2 + (b - ETA * (v - 0.5)) ** 2) / 2
        case "sppo_single":
            return ((a - ETA * (p - 0.5)) ** 2 + (b + ETA * (p - 0.5)) ** 2) / 2
        case "sppo_hard":
            return ((a - ETA / 2) ** 2 + (b + ETA / 2) ** 2) / 2
        case "ipo":
            return (a - b - ETA / 2) ** 2
        case "rebel":
            return (a - b - ETA * (w - v)) ** 2 / 2
        case "dpo":
            return math.log1p(math.exp(-(a - b) / ETA))
    raise AssertionError(name)


def tensors() -> list[torch.Tensor]:
    return [
        torch.tensor(values, dtype=torch.float64) for values in (CHOSEN, REJECTED, W_CHOSEN, W_REJECTED, PREFERENCE)
    ]


@pytest.mark.parametrize("name", LOSSES)
def test_each_loss_is_its_formula(name):
    a, b, w, v, p = tensors()
    expected = [by_hand(name, *row) for row in zip(CHOSEN, REJECTED, W_CHOSEN, W_REJECTED, PREFERENCE, strict=True)]
    for win_rates in ((w, v), torch.stack([w, v], dim=1)):
        found = pair_loss(a, b, loss=name, eta=ETA, win_rates=win_rates, preference=p)
        assert found.tolist() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_those_of_finite_differences(name):
    a, b, w, v, p = tensors()
    given = (a.requires_grad_(), b.requires_grad_())
    assert torch.autograd.gradcheck(
        lambda x, y: pair_loss(x, y, loss=name, eta=ETA, win_rates=(w, v), preference=p), given, atol=1e-9, rtol=1e-6
    )


def test_losses_without_win_rates_need_none():
    a, b, *_ = tensors()
    assert pair_loss(a, b, loss="ipo", eta=ETA)[0].item() == 0.0  # 3 - 1 - 4/2
    assert pair_loss(a, b, loss="sppo_hard", eta=ETA)[0].item() == (1.0**2 + 3.0**2) / 2


def test_an_unknown_loss_is_named_with_the_nearest():
    a, b, *_ = tensors()
    with pytest.raises(ConfigError, match=r"there is no training\.loss=spo: did you mean sppo"):
        pair_loss(a, b, loss="spo", eta=1.0)


MY_LOSSES = """
def margin(chosen, rejected, eta, win_rates):
    return (eta - chosen + rejected).exp()

def mean(chosen, rejected, eta, win_rates):
    return (chosen - rejected).mean()

def constant(chosen, rejected, eta, win_rates):
    return 0 * win_rates[0]

def misspelt(chosen, rejected, eta, win_rates):
    return chosen.squared()
"""


@pytest.fixture
def my_losses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "my_losses.py").write_text(MY_LOSSES)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("my_losses")


@pytest.mark.usefixtures("my_losses")
def test_a_loss_from_outside_is_called_with_the_log_ratios():
    check_loss("my_losses:margin", eta=1.0)
    a, b, *_ = tensors()
    found = pair_loss(a, b, loss="my_losses:margin", eta=1.0)
    assert found.tolist() == pytest.approx([math.exp(-1), math.exp(4), math.e])  # 1 - 3 + 1, 1 + 1 + 2, 1


@pytest.mark.usefixtures("my_losses")
@pytest.mark.parametrize(
    "name, words",
    [
        ("mean", r"returned the shape \(\) for 2 pairs; expected \(2,\)"),
        ("constant", "does not require grad"),
        ("misspelt", "AttributeError.*squared"),
    ],
)
def test_a_loss_from_outside_is_tried_before_a_run(name, words):
    with pytest.raises(ConfigError, match=f"training.loss=my_losses:{name}, tried on two pairs.*{words}"):
        check_loss(f"my_losses:{name}", eta=1.0)

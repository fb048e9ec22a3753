"""The reference guard: its figures by hand, what it stops, and that what it advises is accepted."""

import math
import re

import numpy as np
import pytest

from sppo_ray.errors import ReferenceMismatch
from sppo_ray.records import ReferenceGap
from sppo_ray.training.reference_guard import check, measure


def gap(mean_abs: float, k3: float = 0.0) -> ReferenceGap:
    return ReferenceGap(mean_abs, p95_abs=2 * mean_abs, mean=0.0, k3=k3)


def test_figures_by_hand():
    """d = ln 2 for one token and -ln 2 for the other: k3 is (2 - 1 - ln 2 + 1/2 - 1 + ln 2) / 2 = 1/4."""
    found = measure([math.log(2), -math.log(2)])
    assert found.mean_abs == found.p95_abs == pytest.approx(math.log(2))
    assert found.mean == pytest.approx(0.0) and found.k3 == pytest.approx(0.25)
    # 0 to 100 in steps of 1: 95 % are at most 95.
    assert measure(np.arange(101.0)).p95_abs == 95.0


def test_k3_is_the_kl_that_it_estimates():
    """Tokens drawn from q = (3/4, 1/4) and scored by p = (1/2, 1/2): KL(q || p) = 3/4 ln 3/2 + 1/4 ln 1/2."""
    d = np.log([0.5 / 0.75] * 3 + [0.5 / 0.25])
    assert measure(d).k3 == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))


def test_rounding_in_bfloat16_passes_and_other_weights_do_not():
    check(gap(0.03), tolerance=0.1)
    with pytest.raises(ReferenceMismatch, match=r"differ from the trainer's by 0\.2 nats per token"):
        check(gap(0.2), tolerance=0.1)


def test_a_kl_far_above_the_run_s_own_stops_it_earlier():
    check(gap(0.05, k3=0.009), tolerance=0.1, earlier_k3=[0.0005, 0.001])
    check(gap(0.009, k3=0.02), tolerance=0.1, earlier_k3=[0.0005, 0.001])  # below a tenth of the tolerance
    with pytest.raises(ReferenceMismatch, match="more than 10 times that of any earlier iteration"):
        check(gap(0.05, k3=0.011), tolerance=0.1, earlier_k3=[0.0005, 0.001])


@pytest.mark.parametrize("earlier", [(), (0.001,)])
@pytest.mark.parametrize("differences", [[0.01, math.nan], [0.01, -math.inf], [math.nan] * 3])
def test_what_is_not_a_number_stops_the_run(differences, earlier):
    with np.errstate(invalid="ignore"), pytest.raises(ReferenceMismatch, match="are not numbers"):
        check(measure(differences), tolerance=1e9, earlier_k3=earlier)


@pytest.mark.parametrize("earlier", [(), (1e-6,)])
@pytest.mark.parametrize("size", [0.1001, 0.15, 0.2333, 0.74, 9.99])
def test_the_advised_tolerance_is_accepted(size, earlier):
    with pytest.raises(ReferenceMismatch) as caught:
        check(gap(size, k3=size), tolerance=0.1, earlier_k3=earlier)
    advised = re.findall(r"training\.reference_tolerance=([\d.e+]+)", str(caught.value))
    check(gap(size, k3=size), tolerance=float(advised[0]), earlier_k3=earlier)

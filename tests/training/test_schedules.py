"""Learning rates against torch's scheduler and the published schedules, worked out by hand."""

import doctest
import warnings

import pytest
import torch

from samevoice.training import schedules
from samevoice.training.schedules import SHAPES, Schedule

# 3D-Speaker's ERes2Net, with 100 steps an epoch: 5 of 70 epochs up to 0.2, then a cosine down to 1e-4.
ERES2NET = {
    0: 0.0,
    100: 0.04,
    250: 0.1,
    499: 0.1996,
    500: 0.2,
    500 + 6500 // 4: 1e-4 + 0.1999 * (2 + 2**0.5) / 4,
    500 + 6500 // 3: 1e-4 + 0.1999 * 0.7501395,  # cos(pi 2166 / 6500) = 0.500279
    500 + 6500 // 2: 1e-4 + 0.1999 / 2,
    500 + 6500 * 3 // 4: 1e-4 + 0.1999 * (2 - 2**0.5) / 4,
    7000: 1e-4,
    7500: 1e-4,
}
EXPONENTIAL = {0: 1e-4, 1: 1e-4 * 0.25**0.1, 2: 1e-4 * 0.25**0.2, 5: 5e-5, 7: 1e-4 * 0.25**0.7, 10: 2.5e-5, 12: 2.5e-5}
LINEAR = {0: 0.1, 1: 0.325, 2: 0.55, 3: 0.775, 4: 1.0, 5: 0.9, 8: 0.6, 9: 0.5, 10: 0.4, 13: 0.1, 14: 0.0, 15: 0.0}
CONSTANT = {0: 0.0, 1: 0.5, 2: 1.0, 3: 1.0, 9: 1.0, 10: 1.0, 99: 1.0}


@pytest.mark.parametrize(
    ("schedule", "points"),
    [
        (Schedule("cosine", 7000, 0.2, 1e-4, warm_up=500), ERES2NET),
        (Schedule("exponential", 10, 1e-4, 2.5e-5), EXPONENTIAL),
        (Schedule("linear", 14, 1.0, 0.0, initial=0.1, warm_up=4), LINEAR),
        (Schedule("constant", 10, 1.0, warm_up=2), CONSTANT),
    ],
)
def test_ten_points_by_hand(schedule, points):
    assert {step: schedule.at(step) for step in points} == pytest.approx(points, rel=1e-5, abs=1e-12)


@pytest.mark.parametrize(("steps", "warm_up"), [(200, 30), (37, 5), (40, 20), (50, 0), (2, 1), (30, 2)])
def test_one_cycle_is_torchs(steps, warm_up):
    peak, initial, final = 1e-3, 1e-5, 5e-6
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1)
    if warm_up == 1:  # torch divides by zero: the peak is the first step
        assert [Schedule("one-cycle", steps, peak, final, initial, 1).at(step) for step in (0, 1)] == [peak, final]
        return
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, peak, steps, pct_start=warm_up / steps, div_factor=peak / initial, final_div_factor=initial / final
    )
    ours = Schedule("one-cycle", steps, peak, final, initial, warm_up)
    for step in range(steps):
        assert ours.at(step) == pytest.approx(theirs.get_last_lr()[0], rel=1e-9), step
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if step + 1 < steps:
                theirs.step()
    assert ours.at(steps - 1) == final


def test_laps_one_cycle_by_hand():
    """40 epochs of 100 steps, 15 % of them up to 1e-3 from 1e-5 and back: the peak is step 599, the end step 3999."""
    schedule = Schedule("one-cycle", 4000, 1e-3, 1e-5, 1e-5, 600)
    assert schedule.at(0) == pytest.approx(1e-5)
    assert schedule.at(599) == pytest.approx(1e-3)
    assert schedule.at(599 + 1700) == pytest.approx((1e-3 + 1e-5) / 2)
    assert schedule.at(3999) == pytest.approx(1e-5)
    assert schedule.at(4000) == pytest.approx(1e-5)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("steps", "warm_up"), [(1, 0), (1, 1), (2, 2), (10, 3), (10, 10)])
def test_rates_lie_between_the_ends_and_peak_once(shape, steps, warm_up):
    schedule = Schedule(shape, steps, 1.0, 0.1, 0.2, warm_up)
    rates = [schedule.at(step) for step in range(steps + 3)]
    top = rates.index(max(rates))
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert all(0.1 <= rate <= 1.0 for rate in rates)
    assert rates[-1] == (1.0 if shape == "constant" else 0.1)


def test_mistakes():
    with pytest.raises(ValueError, match="unknown schedule 'cosin'; did you mean cosine?"):
        Schedule("cosin", 10, 0.1)
    with pytest.raises(ValueError, match="a schedule of 10 steps can't warm up for 11"):
        Schedule("cosine", 10, 0.1, warm_up=11)
    with pytest.raises(ValueError, match="a schedule of 0 steps"):
        Schedule("cosine", 0, 0.1)
    with pytest.raises(ValueError, match="can't fall from 0.1 to 0; both must be > 0"):
        Schedule("exponential", 10, 0.1)


def test_examples():
    assert doctest.testmod(schedules).failed == 0

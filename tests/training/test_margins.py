"""Margins against the sources' formulas, worked out by hand."""

import doctest

import pytest

from samevoice.training import margins
from samevoice.training.margins import MarginSchedule

# epoch -> margin. Exponential: with k = ln(0.001 / 1.000001) = -6.907756, 0.3 (1 - exp(k (epoch - 20) / 30)).
ERES2NET = {
    0: 0.0,
    19.99: 0.0,
    20: 0.0,
    21: 0.3 * (1 - 0.794328),  # exp(k / 30) = 0.001 to the power of 1/30
    23: 0.3 * (1 - 0.501187),  # ... of 1/10
    26: 0.3 * (1 - 0.251189),
    30: 0.3 * (1 - 0.1),
    35: 0.3 * (1 - 0.0316228),
    40: 0.3 * (1 - 0.01),
    45: 0.3 * (1 - 0.00316228),
    49.99: 0.3 * (1 - 0.0010023),
    50: 0.3,
    69.5: 0.3,
}
# Log: with v = 0.005 + 0.995 epoch / 20, 0.3 (1 - ln v / ln 0.005), where ln 0.005 = -5.298317.
LAP = {
    0: 0.0,
    0.5: 0.3 * (1 - 3.510733 / 5.298317),  # v = 0.029875
    1: 0.3 * (1 - 2.904978 / 5.298317),  # v = 0.05475
    2: 0.3 * (1 - 2.258588 / 5.298317),  # v = 0.1045
    4: 0.3 * (1 - 1.589635 / 5.298317),  # v = 0.204
    5: 0.3 * (1 - 1.371406 / 5.298317),  # v = 0.25375
    10: 0.3 * (1 - 0.688160 / 5.298317),  # v = 0.5025
    15: 0.3 * (1 - 0.286017 / 5.298317),  # v = 0.75125
    19: 0.3 * (1 - 0.051030 / 5.298317),  # v = 0.95025
    20: 0.3,
    39.99: 0.3,
}
LINEAR = {0: 0.1, 2: 0.1, 3: 0.15, 3.5: 0.175, 4: 0.2, 5: 0.25, 6: 0.3, 7.2: 0.36, 9: 0.45, 10: 0.5, 11: 0.5}


@pytest.mark.parametrize(
    ("schedule", "points"),
    [
        (MarginSchedule("exponential", 0, 0.3, 20, 50), ERES2NET),
        (MarginSchedule("log", 0, 0.3, 0, 20), LAP),
        (MarginSchedule("linear", 0.1, 0.5, 2, 10), LINEAR),
        (MarginSchedule("constant", final=0.5), {0: 0.5, 0.1: 0.5, 3: 0.5}),
        (MarginSchedule("constant", 0.5, 0.5, start=3, end=5), {0: 0.5, 4: 0.5, 6: 0.5}),
    ],
)
def test_ten_points_by_hand(schedule, points):
    assert {epoch: schedule.at(epoch)[0] for epoch in points} == pytest.approx(points, abs=2e-6)


def test_the_penalty_grows_alongside():
    schedule = MarginSchedule("log", 0, 0.3, 0, 20, penalty=0.06)
    assert schedule.at(0) == (0, 0)
    assert schedule.at(20) == schedule.at(33.3) == pytest.approx((0.3, 0.06))
    margin, penalty = schedule.at(5)
    assert 0 < penalty == pytest.approx(0.2 * margin)


def test_without_a_margin_there_is_no_penalty():
    assert MarginSchedule("constant", penalty=0.06).at(3) == (0, 0)


def test_a_margin_may_shrink():
    assert MarginSchedule("linear", 0.4, 0.2, 0, 2).at(1)[0] == pytest.approx(0.3)


def test_mistakes():
    with pytest.raises(ValueError, match="unknown shape of a margin 'exponental'; did you mean exponential?"):
        MarginSchedule("exponental", 0, 0.3, 20, 50)
    with pytest.raises(ValueError, match="must end after it starts, not from 5 to 5"):
        MarginSchedule("linear", 0, 0.3, 5, 5)
    with pytest.raises(ValueError, match="constant margin is its final one, 0, and can't start at 0.2"):
        MarginSchedule("constant", 0.2)


def test_examples():
    assert doctest.testmod(margins).failed == 0

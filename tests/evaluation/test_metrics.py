import json
from functools import partial

import numpy as np
import pytest
import reference

from samevoice.evaluation.metrics import (
    act_dcf,
    cllr,
    curve,
    eer,
    eer_hull,
    error_rates,
    far_at_frr,
    frr_at_far,
    histogram,
    min_cllr,
    min_dcf,
    min_dcf_threshold,
    probit,
)


def test_three_trials_by_hand():
    # 0.9 target, 0.5 nontarget, 0.1 target: at 0.9 miss 1/2 and no false alarm, at 0.5 miss 1/2 and every false alarm
    miss, false_alarm = error_rates([0.9, 0.5, 0.1], [1, 0, 1])
    assert miss.tolist() == [1, 0.5, 0.5, 0]
    assert false_alarm.tolist() == [0, 0, 1, 1]
    assert eer([0.9, 0.5, 0.1], [1, 0, 1]) == 0.5


def test_ties_are_accepted_together():
    assert eer([0.5, 0.5, 0.5, 0.5], [1, 1, 0, 0]) == 1.0  # all in or all out: one of the two rates is 1
    assert min_dcf([0.5, 0.5], [1, 0], p_target=0.01) == 1.0  # target rejected first, then the nontarget
    assert min_dcf([0.5, 0.5], [0, 1], p_target=0.01) == 0.0  # the other way round, as the LAP code counts


def test_perfect_separation_costs_nothing():
    assert eer([3, 2, 1, 0], [1, 1, 0, 0]) == 0
    assert min_dcf([3, 2, 1, 0], [1, 1, 0, 0], p_target=0.05) == 0


def test_two_gaussians_meet_the_closed_form():
    random = np.random.default_rng(0)
    labels = np.repeat([True, False], 400_000)
    scores = random.standard_normal(800_000) + 2.0 * labels
    assert eer(scores, labels) == pytest.approx(0.158655, abs=1e-3)  # Phi(-1)


@pytest.mark.parametrize(
    ("scores", "labels", "problem"),
    [
        ([1.0, 2.0], [1, 1], "0 nontarget"),
        ([1.0, 2.0], [0, 0], "0 target"),
        ([1.0], [1, 0], "same length"),
        ([float("nan"), 1.0], [1, 0], "NaN"),
    ],
)
def test_what_has_no_error_rate_is_an_error(scores, labels, problem):
    with pytest.raises(ValueError, match=problem):
        eer(scores, labels)


@pytest.mark.skipif(
    not (reference.FOLDER / "lap_metrics.json").exists(), reason="no reference outputs beside the checkout"
)
def test_equal_to_the_lap_code():
    stream_of = reference.rebuild()._stream
    for row in json.loads((reference.FOLDER / "lap_metrics.json").read_text()):
        stream = stream_of(row["name"])
        labels = stream.uniform(size=row["n"]) < 0.3
        scores = stream.standard_normal(row["n"]) + row["separation"] * labels
        if "ties" in row["name"]:
            scores = scores.round(2)
        assert 100 * eer(scores, labels) == pytest.approx(row["eer_percent"], abs=1e-9)
        assert min_dcf(scores, labels, 0.01) == pytest.approx(row["mindcf_p01"], abs=1e-9)
        assert min_dcf(scores, labels, 0.05) == pytest.approx(row["mindcf_p05"], abs=1e-9)


def gaussians(trials=400_000):
    """Evenly spaced quantiles in place of draws, so that the closed forms are met to four digits."""
    normal = probit((np.arange(trials // 2) + 0.5) / (trials // 2))
    return np.concatenate([normal + 2, normal]), np.arange(trials) < trials // 2


def test_closed_forms_to_four_digits():
    scores, labels = gaussians()
    x = np.linspace(-12, 14, 200_001)  # the integral of the definition, for Cllr has no shorter form
    density = np.exp(-((x - 2) ** 2) / 2) / np.sqrt(2 * np.pi)
    bits = float((density * np.logaddexp(0, -(2 * x - 2))).sum() * (x[1] - x[0]) / np.log(2))
    assert eer(scores, labels) == pytest.approx(0.158655, abs=1e-5)
    assert eer_hull(scores, labels) == pytest.approx(0.158655, abs=1e-5)
    assert min_dcf(scores, labels, 0.5) == pytest.approx(2 * 0.158655, abs=2e-5)
    assert act_dcf(2 * scores - 2, labels, 0.5) == pytest.approx(2 * 0.158655, abs=2e-5)
    assert cllr(2 * scores - 2, labels) == pytest.approx(bits, abs=5e-5)
    assert min_cllr(scores, labels) == pytest.approx(bits, abs=1e-4)


def test_threshold_of_the_least_cost_by_hand():
    assert min_dcf_threshold([3.0, 2.0, 1.0, 0.0], [1, 1, 0, 0], 0.5) == (0.0, 2.0)
    assert min_dcf_threshold([0.5, 0.5], [0, 1], 0.01) == (1.0, np.inf)  # no threshold between equal scores


def test_costs_by_hand():
    assert cllr([0.0, 0.0], [1, 0]) == 1  # ratios of 1 tell nothing
    assert cllr([-1e4, 1e4], [1, 0]) == pytest.approx(1e4 / np.log(2))  # wrong and sure, without overflow
    assert min_cllr([0.0, 1.0], [1, 0]) == 1
    assert min_cllr([1.0, 0.0], [1, 0]) == 0
    assert act_dcf([0.0, -5.0], [1, 0], 0.01) == 1  # log 99 is not reached: the target is missed


def test_rates_at_rates_by_hand():
    scores, labels = [4, 3, 2, 1], [1, 0, 1, 0]
    assert far_at_frr(scores, labels, 0.0) == 0.5
    assert far_at_frr(scores, labels, 0.5) == 0.0
    assert frr_at_far(scores, labels, 0.0) == 0.5
    assert frr_at_far(scores, labels, 0.5) == 0.0


@pytest.mark.parametrize("decimals", [1, 12])
def test_weights_count_as_repeated_trials(decimals):
    random = np.random.default_rng(0)
    labels = random.random(1000) < 0.3
    scores, weights = (random.standard_normal(1000) + 2 * labels).round(decimals), random.integers(0, 4, 1000)
    again = np.repeat(scores, weights), np.repeat(labels, weights)
    for metric in (eer, eer_hull, cllr, min_cllr, partial(min_dcf, p_target=0.05), partial(act_dcf, p_target=0.05)):
        assert metric(scores, labels, weights=weights) == pytest.approx(metric(*again), abs=1e-12)


@pytest.mark.parametrize("decimals", [1, 12])
def test_least_cllr_is_that_of_isotonic_regression(decimals):
    isotonic = pytest.importorskip("sklearn.isotonic")
    random = np.random.default_rng(1)
    labels = random.random(3000) < 0.3
    scores = (random.standard_normal(3000) + 2 * labels).round(decimals)
    balance = np.where(labels, 0.5 / labels.sum(), 0.5 / (~labels).sum())
    p = isotonic.IsotonicRegression(y_min=0, y_max=1).fit(scores, labels, sample_weight=balance).predict(scores)
    with np.errstate(divide="ignore"):
        llrs = np.log(p) - np.log1p(-p)
    assert min_cllr(scores, labels) == pytest.approx(cllr(llrs, labels), abs=1e-9)
    assert eer_hull(scores, labels) <= eer(scores, labels)


def test_curves_and_histograms_keep_their_ends():
    scores, labels = gaussians(20_000)
    drawn = curve(scores, labels, points=200)
    assert 50 < len(drawn.miss) <= 202
    assert (drawn.miss[0], drawn.false_alarm[0], drawn.miss[-1], drawn.false_alarm[-1]) == (1, 0, 0, 1)
    false_alarm, miss = drawn.det()
    middle = (np.abs(false_alarm) < 2) & (np.abs(miss) < 3)  # beyond, a rate is of a few trials
    np.testing.assert_allclose((miss + false_alarm)[middle], -2, atol=0.05)  # a line for Gaussians
    edges, targets, nontargets = histogram(scores, labels, 20)
    assert len(edges) == 21
    assert targets.sum() == pytest.approx(1)
    assert (targets * edges[:-1]).sum() > (nontargets * edges[:-1]).sum() + 1.9


def test_probit_is_the_normal_deviate_in_any_shape():
    assert probit(0.5) == 0
    assert probit([[0.025, 0.975]]) == pytest.approx(np.array([[-1.959964, 1.959964]]), abs=1e-6)
    assert probit([]).shape == (0,)
    for rate in (0, 1, -0.1):
        with pytest.raises(ValueError, match="0.0 < p < 1.0"):
            probit([0.5, rate])

import json

import numpy as np
import pytest
import reference

from samevoice.evaluation.metrics import eer, error_rates, min_dcf


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

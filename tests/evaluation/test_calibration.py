import numpy as np
import pytest

from samevoice.evaluation.calibration import LogisticCalibration, all_pairs, threshold_at


@pytest.mark.parametrize("targets", [2000, 40000])
def test_gaussian_scores_get_the_likelihood_ratio_they_have(targets):
    # Normal scores of one variance: llr = (m1 - m0) / s^2 * (score - (m0 + m1) / 2), whatever the share of targets
    pytest.importorskip("sklearn")
    random = np.random.default_rng(0)
    scores = np.concatenate([random.normal(0.6, 0.1, targets), random.normal(0.3, 0.1, 40000)])
    labels = np.arange(len(scores)) < targets
    fitted = LogisticCalibration().fit(scores, labels)
    assert fitted.slope_ == pytest.approx(30, rel=0.1)
    assert -fitted.offset_ / fitted.slope_ == pytest.approx(0.45, abs=0.01)
    np.testing.assert_allclose(fitted.transform([0.45, 0.55]), [0, 3], atol=0.4)


def test_thresholds_by_false_alarm_rate_by_hand():
    nontargets = np.arange(1000) / 1000
    targets = np.arange(100) / 100 + 0.5
    scores, labels = np.concatenate([nontargets, targets]), np.arange(1100) >= 1000
    threshold, false_alarm, miss = threshold_at(scores, labels, 0.05)
    assert false_alarm == 0.05  # 0.950 to 0.999
    assert 0.949 < threshold < 0.950
    assert miss == 0.45  # 0.50 to 0.94
    assert ((scores[~labels] >= threshold).mean(), (scores[labels] < threshold).mean()) == (false_alarm, miss)


def test_ties_at_the_threshold_stay_out():
    nontargets = np.concatenate([np.full(20, 0.9), np.full(40, 0.5), np.zeros(940)])
    scores, labels = np.append(nontargets, 1.0), np.arange(1001) >= 1000
    threshold, false_alarm, _ = threshold_at(scores, labels, 0.04)
    assert false_alarm == 0.02  # with the tied forty it would be 0.06
    assert threshold > 0.5


def test_too_few_false_alarms_are_no_measurement():
    scores, labels = np.random.default_rng(0).random(3000), np.arange(3000) < 1
    threshold_at(scores, labels, 0.0101)
    with pytest.raises(ValueError, match="2999 nontargets are too few to measure a false-alarm rate of 0.009"):
        threshold_at(scores, labels, 0.009)


def test_every_pair_once_with_its_cosine():
    embeddings = np.array([[2, 0], [0, 3], [1, 1], [-5, 0]], np.float32)
    scores, labels = all_pairs(embeddings, np.array(["a", "b", "a", "a"]))
    half = np.sqrt(0.5)
    np.testing.assert_allclose(scores, [0, half, -1, half, 0, -half], atol=1e-6)
    assert labels.tolist() == [False, True, True, False, False, True]

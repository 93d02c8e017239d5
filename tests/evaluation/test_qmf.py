import numpy as np
import pytest

from samevoice.evaluation import metrics
from samevoice.evaluation.scoring import QualityCalibration, draw_pairs, quality_inputs


def test_the_nine_inputs_and_ours_by_hand():
    embeddings = np.array([[3.0, -4.0], [1.0, 1.0]])
    seconds, snr, speech = [1.0, np.e], [20.0, float("nan")], [0.0, np.e - 1]
    found = quality_inputs([0.7], embeddings, [0], [1], seconds, snr, speech)[0]
    # score, log s, log s | L1 L2 of the enrolment | L1 L2 of the test | deviations | SNRs | log(1 + speech)
    expected = [0.7, 0, 1, 7, 5, 2, np.sqrt(2), 3.5, 0, 20, np.nan, 0, 1]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert quality_inputs([0.7], embeddings, [0], [1], seconds).shape == (1, 9)


def test_pairs_are_half_of_one_speaker_and_never_a_recording_with_itself():
    speakers = np.array(["a", "b", "a", "c", "b", "a"])
    enrol, test, labels = draw_pairs(speakers, 3001, seed=1)
    assert labels.sum() == 1501
    assert ((speakers[enrol] == speakers[test]) == labels).all()
    assert (enrol != test).all()
    assert set(enrol) == set(test) == set(range(6))  # c, recorded once, only in nontargets
    shares = [np.mean(speakers[enrol[labels]] == name) for name in "ab"]
    np.testing.assert_allclose(shares, 0.5, atol=0.05)  # by speaker, not by recording
    again = draw_pairs(speakers, 3001, seed=1)
    assert all((x == y).all() for x, y in zip((enrol, test, labels), again, strict=True))
    assert (draw_pairs(speakers, 3001, seed=2)[0] != enrol).any()


def test_nobody_recorded_twice_makes_no_pairs():
    with pytest.raises(ValueError, match="2 of 2 speakers"):
        draw_pairs(["a", "b"])


def made_up(seed, trials=20_000):
    """Scores whose nontargets move up where recordings are short; llr = 4 (score - 0.5 - shift of the seconds)."""
    random = np.random.default_rng(seed)
    embeddings = random.standard_normal((500, 8))
    seconds = np.exp(random.uniform(0, 2, 500))
    enrol, test = random.integers(500, size=(2, trials))
    labels = random.random(trials) < 0.5
    shift = -0.5 * (np.log(seconds[enrol]) + np.log(seconds[test]))
    scores = random.standard_normal(trials) * 0.5 + labels + shift
    snr = np.where(random.random(500) < 0.2, np.nan, random.uniform(0, 30, 500))
    return quality_inputs(scores, embeddings, enrol, test, seconds, snr), labels


def test_durations_are_taken_into_account():
    pytest.importorskip("sklearn")
    calibration = QualityCalibration().fit(*made_up(0))
    inputs, labels = made_up(1)
    llrs = calibration.transform(inputs)
    assert np.isfinite(llrs).all()  # unknown SNRs included
    weights = calibration.weights_ / calibration.deviation_
    np.testing.assert_allclose(weights[:3], [4, 2, 2], rtol=0.1)
    assert metrics.eer(llrs, labels) == pytest.approx(0.158655, abs=0.01)  # Phi(-1): the shift is undone
    assert metrics.eer(inputs[:, 0], labels) > 0.2
    assert metrics.cllr(llrs, labels) == pytest.approx(metrics.min_cllr(llrs, labels), abs=0.01)


def test_an_input_that_never_changes_does_no_harm():
    pytest.importorskip("sklearn")
    inputs, labels = made_up(0)
    inputs[:, 1] = 3.0
    llrs = QualityCalibration().fit(inputs, labels).transform(inputs)
    assert np.isfinite(llrs).all()

import numpy as np
import pytest

from samevoice.evaluation import metrics
from samevoice.evaluation.scoring import PLDA


def drawn(random, mean, between, within, speakers, each):
    """Embeddings of the model itself, and who speaks."""
    centres = random.multivariate_normal(mean, between, speakers)
    index = np.repeat(np.arange(speakers), each)
    return centres[index] + random.multivariate_normal(np.zeros(len(mean)), within, len(index)), index


def test_the_covariances_come_back():
    between, within = np.array([[4.0, 1.0], [1.0, 1.0]]), np.array([[1.0, -0.3], [-0.3, 0.5]])
    x, speakers = drawn(np.random.default_rng(0), [3.0, -1.0], between, within, 4000, 5)
    plda = PLDA(length_norm=False).fit(x, speakers)
    np.testing.assert_allclose(plda.between_, between, atol=0.2)
    np.testing.assert_allclose(plda.within_, within, atol=0.03)
    np.testing.assert_allclose(plda.mean_, [3, -1], atol=0.1)


@pytest.mark.parametrize("count", [1, 3])
def test_ratios_are_those_of_the_two_normal_densities(count):
    plda = PLDA(length_norm=False)
    plda.mean_ = np.array([1.0, -1.0])
    plda.between_, plda.within_ = np.array([[2.0, 0.5], [0.5, 1.0]]), np.array([[1.0, 0.2], [0.2, 0.7]])
    x = np.random.default_rng(0).standard_normal((6, 2)) * 2
    enrol, test = np.array([0, 1, 2]), np.array([3, 4, 5])
    ours = plda.transform(x, enrol, test, np.full(3, count))

    def density(value, covariance):
        return -0.5 * (value @ np.linalg.solve(covariance, value) + np.log(np.linalg.det(2 * np.pi * covariance)))

    of_enrol, of_test = plda.between_ + plda.within_ / count, plda.between_ + plda.within_
    joint = np.block([[of_enrol, plda.between_], [plda.between_, of_test]])
    for llr, e, t in zip(ours, x[enrol] - plda.mean_, x[test] - plda.mean_, strict=True):
        literal = density(np.concatenate([e, t]), joint) - density(e, of_enrol) - density(t, of_test)
        assert llr == pytest.approx(literal, abs=1e-9)


def test_ratios_of_the_true_model_are_calibrated():
    random = np.random.default_rng(1)
    between, within = np.diag([4.0, 2.0, 0.5]), np.eye(3)
    x, speakers = drawn(random, np.zeros(3), between, within, 3000, 2)
    llrs = (
        PLDA(length_norm=False)
        .fit(x, speakers)
        .transform(
            x,
            np.repeat(np.arange(0, 6000, 2), 2),
            np.stack([np.arange(1, 6000, 2), np.roll(np.arange(1, 6000, 2), 1)], 1).ravel(),
        )
    )
    labels = np.tile([True, False], 3000)
    assert metrics.cllr(llrs, labels) == pytest.approx(metrics.min_cllr(llrs, labels), abs=0.02)
    assert metrics.min_cllr(llrs, labels) < 0.75


def test_fewer_dimensions_keep_those_where_speakers_differ():
    random = np.random.default_rng(2)
    x, speakers = drawn(random, np.zeros(4), np.diag([0.01, 9.0, 0.01, 0.01]), np.eye(4), 500, 4)
    plda = PLDA(dimensions=1, length_norm=False).fit(x, speakers)
    only = PLDA(length_norm=False).fit(x[:, 1:2], speakers)
    enrol, test = random.integers(2000, size=(2, 500))
    correlation = np.corrcoef(plda.transform(x, enrol, test), only.transform(x[:, 1:2], enrol, test))[0, 1]
    assert correlation > 0.99


def test_adaptation_with_speakers_lies_between():
    random = np.random.default_rng(3)
    old = PLDA(length_norm=False).fit(*drawn(random, np.zeros(2), np.eye(2), np.eye(2), 500, 4))
    x, speakers = drawn(random, np.array([5.0, 0]), 4 * np.eye(2), 2 * np.eye(2), 500, 4)
    new = PLDA(length_norm=False).fit(x, speakers)
    adapted = old.adapt(x, speakers, weight=0.25)
    np.testing.assert_allclose(adapted.between_, 0.25 * new.between_ + 0.75 * old.between_)
    np.testing.assert_allclose(adapted.within_, 0.25 * new.within_ + 0.75 * old.within_)
    np.testing.assert_allclose(adapted.mean_, new.mean_)


def test_adaptation_without_speakers_shares_the_excess():
    random = np.random.default_rng(4)
    old = PLDA(length_norm=False).fit(*drawn(random, np.zeros(2), np.eye(2), np.eye(2), 2000, 4))
    x, _ = drawn(random, np.array([5.0, 0]), np.diag([7.0, 0.5]), np.diag([3.0, 0.5]), 2000, 4)  # total 10 and 1
    adapted = old.adapt(x)
    np.testing.assert_allclose(adapted.mean_, x.mean(axis=0))
    excess = np.cov(x[:, 0]) - (old.between_ + old.within_)[0, 0]  # about 8; the other has less than before, and stays
    assert adapted.between_[0, 0] - old.between_[0, 0] == pytest.approx(0.7 * excess, rel=0.02)
    assert adapted.within_[0, 0] - old.within_[0, 0] == pytest.approx(0.3 * excess, rel=0.02)
    assert adapted.between_[1, 1] == pytest.approx(old.between_[1, 1], abs=0.02)


def test_one_recording_each_is_no_training():
    with pytest.raises(ValueError, match="3 of 3 speakers"):
        PLDA().fit(np.eye(3), [0, 1, 2])

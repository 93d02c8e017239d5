import numpy as np
import pytest

from samevoice.evaluation import metrics
from samevoice.evaluation.scoring import Fusion

pytest.importorskip("sklearn")


def systems(seed):
    """Two systems with independent noise of one variance: the best llr is 2 a + 2 b - 2."""
    random = np.random.default_rng(seed)
    labels = random.random(20_000) < 0.3
    return random.standard_normal((20_000, 2)) * np.sqrt(0.5) + labels[:, None], labels


def test_two_independent_systems_add_their_ratios():
    # each llr of N(1, 1/2) against N(0, 1/2) is 2 (x - 1/2)
    fused = Fusion().fit(*systems(0))
    np.testing.assert_allclose(fused.weights_, [2, 2], rtol=0.06)
    assert fused.offset_ == pytest.approx(-2, rel=0.06)


def test_fused_is_better_than_either_on_other_trials():
    fused = Fusion().fit(*systems(0))
    scores, labels = systems(1)
    assert metrics.eer(fused.transform(scores), labels) < 0.75 * metrics.eer(scores[:, 0], labels)
    assert metrics.cllr(fused.transform(scores), labels) < metrics.min_cllr(scores[:, 1], labels)


def test_one_kind_of_trials_is_refused():
    with pytest.raises(ValueError, match="class"):
        Fusion().fit(np.ones((3, 2)), [1, 1, 1])

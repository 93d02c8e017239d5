"""From cosines to log-likelihood ratios, and thresholds by false-alarm rate."""

import numpy as np
from numpy.typing import ArrayLike


class LogisticCalibration:
    """llr = slope * score + offset by logistic regression, targets and nontargets weighing the same in all.

    The prior-weighted linear calibration of Brümmer and du Preez (Computer Speech & Language, 2006) at even odds.
    `fit` needs scikit-learn (the `train` extra). Learned: `slope_`, `offset_`.
    """

    slope_: float
    offset_: float

    def fit(self, scores: np.ndarray, labels: np.ndarray) -> "LogisticCalibration":
        """scores, labels: (trials,); labels true for targets."""
        weights, self.offset_ = fit_logistic(np.asarray(scores, np.float64)[:, None], labels)
        self.slope_ = float(weights[0])
        return self

    def transform(self, scores: np.ndarray) -> np.ndarray:
        """Natural-logarithm likelihood ratios of scores (trials,)."""
        return self.slope_ * np.asarray(scores) + self.offset_


def fit_logistic(inputs: np.ndarray, labels: ArrayLike, strength: float = 1e6) -> tuple[np.ndarray, float]:
    """Weights (inputs,) and offset of the log-likelihood ratio, targets and nontargets weighing the same in all.

    inputs: (trials, inputs). strength: inverse of the L2 penalty on the weights. Needs scikit-learn (the `train`
    extra). Raises ValueError for trials of one kind only.
    """
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=strength, class_weight="balanced", tol=1e-8, max_iter=1000)
    model.fit(np.asarray(inputs, np.float64), np.asarray(labels).astype(bool))
    return np.ravel(model.coef_), float(np.ravel(model.intercept_)[0])


def threshold_at(scores: np.ndarray, labels: np.ndarray, false_alarm: float) -> tuple[float, float, float]:
    """The lowest threshold whose false-alarm rate is at most the one given: (threshold, false alarms, misses).

    A score equal to the threshold is accepted. Raises ValueError with too few nontargets to measure such a rate: the
    allowed false alarms must number 30 or more (Doddington's rule of 30: then the rate is within 30 % at 90 %
    confidence).
    """
    scores, labels = np.asarray(scores, np.float64), np.asarray(labels).astype(bool)
    nontargets = np.sort(scores[~labels])[::-1]
    if not 0 < false_alarm < 1:
        raise ValueError(f"a false-alarm rate is a share between 0 and 1, not {false_alarm:g}")
    allowed = int(false_alarm * len(nontargets))
    if allowed < 30:
        raise ValueError(f"{len(nontargets)} nontargets are too few to measure a false-alarm rate of {false_alarm:g}")
    threshold = float(np.nextafter(nontargets[allowed], np.inf))
    return threshold, float((nontargets >= threshold).mean()), float((scores[labels] < threshold).mean())


def all_pairs(embeddings: np.ndarray, speakers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every pair of recordings once: cosines float32 (pairs,) and labels (pairs,), true for the same speaker.

    embeddings: (n, dim), any length. speakers: (n,). Memory: 5 bytes a pair and the n x n cosines.
    """
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    rows, columns = np.triu_indices(len(unit), 1)
    return (unit @ unit.T)[rows, columns], np.asarray(speakers)[rows] == np.asarray(speakers)[columns]

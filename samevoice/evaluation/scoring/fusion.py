"""Several systems' scores as one log-likelihood ratio."""

import numpy as np
from numpy.typing import ArrayLike

from samevoice.evaluation.calibration import fit_logistic


class Fusion:
    """llr = sum of weight * score + offset, by logistic regression, both kinds of trials weighing the same in all.

    `fit` needs scikit-learn (the `train` extra). Fit it on other trials than those that are reported.
    Learned: `weights_` (systems,), `offset_`.
    """

    weights_: np.ndarray
    offset_: float

    def fit(self, scores: np.ndarray, labels: ArrayLike) -> "Fusion":
        """scores: (trials, systems). labels: (trials,), true for targets."""
        self.weights_, self.offset_ = fit_logistic(scores, labels)
        return self

    def transform(self, scores: np.ndarray) -> np.ndarray:
        """(trials, systems) -> natural-logarithm likelihood ratios (trials,)."""
        return np.asarray(scores, np.float64) @ self.weights_ + self.offset_

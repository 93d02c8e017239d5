"""Error rates of a list of trials."""

import numpy as np
from numpy.typing import ArrayLike


def eer(scores: ArrayLike, labels: ArrayLike) -> float:
    """Equal error rate as a share, in [0, 1].

    scores: (trials,), higher means more alike. labels: (trials,), true for targets (same speaker).
    At the corner of the ROC where the miss and false-alarm rates are closest, the larger of the two: the definition of
    voxceleb_trainer (Chung et al., Interspeech 2020), which the LAP paper's code uses. (Corners only, as it gets them
    from scikit-learn's roc_curve; points along a straight stretch of the ROC could be closer by less than one trial.)
    Raises ValueError for NaN scores, unequal lengths, or trials of one kind only.
    """
    hits, false_alarms = _accepted(scores, labels)
    bends = (np.diff(hits[1:], 2) != 0) | (np.diff(false_alarms[1:], 2) != 0)
    corner = np.concatenate([[True, True], bends, [True]])[: len(hits)]
    miss, false_alarm = 1 - hits[corner] / hits[-1], false_alarms[corner] / false_alarms[-1]
    closest = np.argmin(np.abs(miss - false_alarm))
    return float(max(miss[closest], false_alarm[closest]))


def min_dcf(scores: ArrayLike, labels: ArrayLike, p_target: float, c_miss: float = 1, c_fa: float = 1) -> float:
    """Minimum of the normalised detection cost over all thresholds (NIST SRE evaluation plans).

    The cost of a threshold is c_miss * miss rate * p_target + c_fa * false-alarm rate * (1 - p_target), divided by what
    the better of accepting and rejecting everything costs. Arguments and errors as for `eer`.
    As in voxceleb_trainer and the LAP paper's code, a threshold may fall between trials of equal score, which are then
    rejected in the order given: with ties the value can be a little lower than any real threshold reaches.
    """
    scores, labels = _trials(scores, labels)
    rejected = labels[np.argsort(scores, kind="stable")]
    miss = np.cumsum(rejected) / rejected.sum()
    false_alarm = 1 - np.cumsum(~rejected) / (~rejected).sum()
    cost = c_miss * miss * p_target + c_fa * false_alarm * (1 - p_target)
    return float(cost.min() / min(c_miss * p_target, c_fa * (1 - p_target)))


def error_rates(scores: ArrayLike, labels: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Miss and false-alarm rates at every threshold, from above the highest score down to the lowest.

    Returns two float64 arrays (distinct scores + 1,): trials with equal scores are accepted together. Errors as `eer`.
    """
    hits, false_alarms = _accepted(scores, labels)
    return 1 - hits / hits[-1], false_alarms / false_alarms[-1]


def _accepted(scores: ArrayLike, labels: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """How many targets and nontargets each threshold of `error_rates` accepts: two integer arrays."""
    scores, labels = _trials(scores, labels)
    order = np.argsort(-scores, kind="stable")
    scores, labels = scores[order], labels[order]
    last_of_ties = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)
    hits = np.append(0, np.cumsum(labels)[last_of_ties])
    false_alarms = np.append(0, last_of_ties + 1) - hits
    return hits, false_alarms


def _trials(scores: ArrayLike, labels: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Both as arrays, checked: see `eer` for what is refused."""
    scores, labels = np.asarray(scores, np.float64), np.asarray(labels).astype(bool)
    if scores.ndim != 1 or scores.shape != labels.shape:
        raise ValueError(f"scores {scores.shape} and labels {labels.shape} must be two lists of the same length")
    if np.isnan(scores).any():
        raise ValueError(f"{int(np.isnan(scores).sum())} of {len(scores)} scores are NaN")
    targets = int(labels.sum())
    nontargets = len(labels) - targets
    if not targets or not nontargets:
        raise ValueError(f"{targets} target and {nontargets} nontarget trials: an error rate needs both kinds")
    return scores, labels

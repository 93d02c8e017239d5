"""Error rates and costs of a list of trials.

Every function takes scores (trials,), higher means more alike, and labels (trials,), true for targets (same speaker),
and raises ValueError for NaN scores, unequal lengths, or trials of one kind only. `weights` (trials,) says how often
each trial counts, 0 included: a bootstrap's replicate, without repeating arrays. Scores that are already in ascending
order are not sorted again.
"""

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike


def eer(scores: ArrayLike, labels: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Equal error rate as a share, in [0, 1].

    scores: (trials,), higher means more alike. labels: (trials,), true for targets (same speaker).
    At the corner of the ROC where the miss and false-alarm rates are closest, the larger of the two: the definition of
    voxceleb_trainer (Chung et al., Interspeech 2020), which the LAP paper's code uses. (Corners only, as it gets them
    from scikit-learn's roc_curve; points along a straight stretch of the ROC could be closer by less than one trial.)
    Raises ValueError for NaN scores, unequal lengths, or trials of one kind only.
    """
    hits, false_alarms = _accepted(scores, labels, weights)[:2]
    bends = (np.diff(hits[1:], 2) != 0) | (np.diff(false_alarms[1:], 2) != 0)
    corner = np.concatenate([[True, True], bends, [True]])[: len(hits)]
    miss, false_alarm = 1 - hits[corner] / hits[-1], false_alarms[corner] / false_alarms[-1]
    closest = np.argmin(np.abs(miss - false_alarm))
    return float(max(miss[closest], false_alarm[closest]))


def eer_hull(scores: ArrayLike, labels: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Equal error rate of the ROC's convex hull, as a share in [0, 0.5].

    Where the hull crosses miss = false alarms: the error of the best system that calibration alone could make of these
    scores at the least favourable prior (Brümmer and de Villiers, "The BOSARIS Toolkit", 2011). No larger than `eer`.
    """
    hits, false_alarms = _hull(*_accepted(scores, labels, weights)[:2])
    miss, false_alarm = 1 - hits / hits[-1], false_alarms / false_alarms[-1]
    after = int(np.argmax(false_alarm >= miss))  # never 0: there nothing is accepted
    gap_before, gap_after = miss[after - 1] - false_alarm[after - 1], miss[after] - false_alarm[after]
    share = gap_before / (gap_before - gap_after)
    return float(false_alarm[after - 1] + share * (false_alarm[after] - false_alarm[after - 1]))


def min_dcf(
    scores: ArrayLike,
    labels: ArrayLike,
    p_target: float,
    c_miss: float = 1,
    c_fa: float = 1,
    weights: ArrayLike | None = None,
) -> float:
    """Minimum of the normalised detection cost over all thresholds (NIST SRE evaluation plans).

    The cost of a threshold is c_miss * miss rate * p_target + c_fa * false-alarm rate * (1 - p_target), divided by what
    the better of accepting and rejecting everything costs. Arguments and errors as for `eer`.
    As in voxceleb_trainer and the LAP paper's code, a threshold may fall between trials of equal score, which are then
    rejected in the order given: with ties the value can be a little lower than any real threshold reaches.
    """
    scores, labels, weights = _trials(scores, labels, weights)
    if weights is None and (rates := _rates_without_ties(scores, labels)) is not None:
        miss, false_alarm = rates
    else:
        order = slice(None) if _ascending(scores) else np.argsort(scores, kind="stable")
        rejected = labels[order]
        counted = np.ones(len(labels), np.int64) if weights is None else weights[order]
        misses, rejections = np.cumsum(counted * rejected), np.cumsum(counted)
        miss, kept = misses / misses[-1], rejections - misses
        false_alarm = 1 - kept / kept[-1]
    cost = c_miss * miss * p_target + c_fa * false_alarm * (1 - p_target)
    return float(cost.min() / min(c_miss * p_target, c_fa * (1 - p_target)))


def min_dcf_threshold(
    scores: ArrayLike, labels: ArrayLike, p_target: float, c_miss: float = 1, c_fa: float = 1
) -> tuple[float, float]:
    """The lowest normalised cost that a real threshold reaches, and the threshold: scores equal to it are accepted.

    Without ties the cost is `min_dcf`; accepting everything (threshold of the lowest score) and nothing (inf) count.
    """
    hits, false_alarms, thresholds = _accepted(scores, labels)
    cost = c_miss * p_target * (1 - hits / hits[-1]) + c_fa * (1 - p_target) * false_alarms / false_alarms[-1]
    best = int(np.argmin(cost))
    return float(cost[best] / min(c_miss * p_target, c_fa * (1 - p_target))), float(thresholds[best])


def act_dcf(
    llrs: ArrayLike,
    labels: ArrayLike,
    p_target: float,
    c_miss: float = 1,
    c_fa: float = 1,
    weights: ArrayLike | None = None,
) -> float:
    """The normalised cost that is really paid when log-likelihood ratios (natural logarithm) decide by Bayes' rule.

    Accepted is llr >= log(c_fa (1 - p_target) / (c_miss p_target)). `min_dcf` less this is lost by bad calibration.
    """
    llrs, labels, weights = _trials(llrs, labels, weights)
    accepted = llrs >= np.log(c_fa * (1 - p_target)) - np.log(c_miss * p_target)
    miss, false_alarm = _mean(~accepted, labels, weights), _mean(accepted, ~labels, weights)
    cost = c_miss * p_target * miss + c_fa * (1 - p_target) * false_alarm
    return cost / min(c_miss * p_target, c_fa * (1 - p_target))


def cllr(llrs: ArrayLike, labels: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Cost of log-likelihood ratios (natural logarithm), in bits: 0 is perfect, 1 tells nothing.

    The mean of log2(1 + 1 / LR) over targets and of log2(1 + LR) over nontargets, halved (Brümmer and du Preez,
    "Application-independent evaluation of speaker detection", Computer Speech & Language, 2006).
    """
    llrs, labels, weights = _trials(llrs, labels, weights)
    x = np.where(labels, -llrs, llrs)
    loss = np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))  # log(1 + exp(x)) that does not overflow
    return (_mean(loss, labels, weights) + _mean(loss, ~labels, weights)) / 2 / float(np.log(2))


def min_cllr(scores: ArrayLike, labels: ArrayLike, weights: ArrayLike | None = None) -> float:
    """`cllr` after the best calibration that keeps the order of the scores: what discrimination alone costs, in bits.

    That calibration is isotonic regression (pool adjacent violators), whose blocks are the sides of the ROC's convex
    hull: the slope of a side is the likelihood ratio of the trials on it.
    """
    hits, false_alarms = _hull(*_accepted(scores, labels, weights)[:2])
    miss_mass, false_mass = np.diff(hits) / hits[-1], np.diff(false_alarms) / false_alarms[-1]
    mixed = (miss_mass > 0) & (false_mass > 0)  # a side of one kind only is told without loss
    p, q = miss_mass[mixed], false_mass[mixed]
    return float((p @ np.log2(1 + q / p) + q @ np.log2(1 + p / q)) / 2)


def far_at_frr(scores: ArrayLike, labels: ArrayLike, frr: float, weights: ArrayLike | None = None) -> float:
    """The lowest false-alarm rate of any threshold whose miss rate is at most `frr`."""
    miss, false_alarm = error_rates(scores, labels, weights)
    return float(false_alarm[np.argmax(miss <= frr + 1e-12)])  # the first: false alarms only grow


def frr_at_far(scores: ArrayLike, labels: ArrayLike, far: float, weights: ArrayLike | None = None) -> float:
    """The lowest miss rate of any threshold whose false-alarm rate is at most `far`."""
    miss, false_alarm = error_rates(scores, labels, weights)
    return float(miss[np.searchsorted(false_alarm, far + 1e-12, side="right") - 1])


def error_rates(
    scores: ArrayLike, labels: ArrayLike, weights: ArrayLike | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Miss and false-alarm rates at every threshold, from above the highest score down to the lowest.

    Returns two float64 arrays (distinct scores + 1,): trials with equal scores are accepted together. Errors as `eer`.
    """
    hits, false_alarms = _accepted(scores, labels, weights)[:2]
    return 1 - hits / hits[-1], false_alarms / false_alarms[-1]


@dataclass(frozen=True)
class Curve:
    """Points of the ROC and DET curves, from the highest threshold (inf: nothing accepted) to the lowest.

    threshold, miss, false_alarm: float64 (points,). ROC: 1 - miss over false_alarm. DET: both as `probit`.
    """

    threshold: np.ndarray
    miss: np.ndarray
    false_alarm: np.ndarray

    def det(self) -> tuple[np.ndarray, np.ndarray]:
        """False alarms and misses in normal deviates, both finite: points with a rate of 0 or 1 are left out."""
        inside = (self.miss > 0) & (self.miss < 1) & (self.false_alarm > 0) & (self.false_alarm < 1)
        return probit(self.false_alarm[inside]), probit(self.miss[inside])


def curve(scores: ArrayLike, labels: ArrayLike, points: int = 400) -> Curve:
    """The ROC/DET curve in about so many points, spread evenly in normal deviates of both rates; both ends kept."""
    hits, false_alarms, thresholds = _accepted(scores, labels)
    miss, false_alarm = 1 - hits / hits[-1], false_alarms / false_alarms[-1]
    if len(miss) > points:
        wanted = np.array([NormalDist().cdf(x) for x in np.linspace(-5, 5, points // 2)])
        by_false_alarm = np.searchsorted(false_alarm, wanted)
        by_miss = len(miss) - 1 - np.searchsorted(miss[::-1], wanted)
        chosen = np.concatenate([[0, len(miss) - 1], by_false_alarm, by_miss])
        chosen = np.unique(np.clip(chosen, 0, len(miss) - 1))
        miss, false_alarm, thresholds = miss[chosen], false_alarm[chosen], thresholds[chosen]
    return Curve(thresholds, miss, false_alarm)


def probit(rates: ArrayLike) -> np.ndarray:
    """Normal deviates of rates, float64 in their shape: the scale of DET curves (Martin et al., Eurospeech 1997).

    Raises ValueError for a rate that isn't strictly between 0 and 1: its place is infinitely far.
    """
    return np.vectorize(NormalDist().inv_cdf, otypes=[np.float64])(rates)


def histogram(scores: ArrayLike, labels: ArrayLike, bins: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Edges (bins + 1,), and the share of the targets and of the nontargets in each bin: each sums to 1."""
    scores, labels, _ = _trials(scores, labels)
    edges = np.histogram_bin_edges(scores, bins)
    kinds = [np.histogram(scores[kind], edges)[0] / kind.sum() for kind in (labels, ~labels)]
    return edges, kinds[0], kinds[1]


def _accepted(
    scores: ArrayLike, labels: ArrayLike, weights: ArrayLike | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How many targets and nontargets each threshold of `error_rates` accepts, and the thresholds."""
    scores, labels, weights = _trials(scores, labels, weights)
    order = slice(None) if _ascending(scores) else np.argsort(scores)
    scores, labels = scores[order][::-1], labels[order][::-1]
    last_of_ties = np.append(np.flatnonzero(scores[1:] != scores[:-1]), len(scores) - 1)
    if weights is None:
        hits = np.append(0, np.cumsum(labels)[last_of_ties])
        return hits, np.append(0, last_of_ties + 1) - hits, np.append(np.inf, scores[last_of_ties])
    weights = weights[order][::-1]
    hits = np.append(0, np.cumsum(weights * labels)[last_of_ties])
    false_alarms = np.append(0, np.cumsum(weights)[last_of_ties]) - hits
    return hits, false_alarms, np.append(np.inf, scores[last_of_ties])


def _rates_without_ties(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Miss and false-alarm rates before each target and after everything, where a cost can have its minimum.

    Two sorts of values are several times faster than one of positions. None if a target and a nontarget have the same
    score: then the order given decides.
    """
    targets, nontargets = np.sort(scores[labels]), np.sort(scores[~labels])
    below = np.searchsorted(nontargets, targets)
    if (nontargets[np.minimum(below, len(nontargets) - 1)] == targets).any():
        return None
    misses = np.append(np.arange(len(targets)), len(targets))
    rejected = np.append(below, len(nontargets))
    if rejected[0] == 0:  # something is always rejected: the first trial
        misses[0] = 1
    return misses / len(targets), 1 - rejected / len(nontargets)


def _hull(hits: np.ndarray, false_alarms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The corners of the upper convex hull of the ROC given by counts (thresholds,) that start at 0."""
    x, y = false_alarms.astype(np.float64), hits.astype(np.float64)
    removed = len(x)
    while removed * 10 > len(x) > 2:  # a point under the chord of its neighbours is no corner: drop all of them at once
        corner = _turn(x[:-2], y[:-2], x[1:-1], y[1:-1], x[2:], y[2:]) < 0
        keep = np.concatenate([[True], corner, [True]])
        removed = len(x) - int(keep.sum())
        x, y = x[keep], y[keep]
    if not removed:
        return y, x
    found: list[tuple[float, float]] = []  # the few that are left, one by one
    for point in zip(x.tolist(), y.tolist(), strict=True):
        while len(found) > 1 and _turn(*found[-2], *found[-1], *point) >= 0:
            found.pop()
        found.append(point)
    x, y = np.array(found).T
    return y, x


def _turn(x0, y0, x1, y1, x2, y2):
    """Below zero where the way over three points turns right, as an upper hull does."""
    return (x1 - x0) * (y2 - y0) - (y1 - y0) * (x2 - x0)


def _mean(values: np.ndarray, among: np.ndarray, weights: np.ndarray | None) -> float:
    if weights is None:
        return float(values[among].mean())
    return float((values[among] * weights[among]).sum() / weights[among].sum())


def _ascending(scores: np.ndarray) -> bool:
    return bool((scores[1:] >= scores[:-1]).all())


def _trials(
    scores: ArrayLike, labels: ArrayLike, weights: ArrayLike | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """All as arrays, checked (see the module for what is refused), without the trials that count 0 times."""
    scores, labels = np.asarray(scores, np.float64), np.asarray(labels).astype(bool)
    if scores.ndim != 1 or scores.shape != labels.shape:
        raise ValueError(f"scores {scores.shape} and labels {labels.shape} must be two lists of the same length")
    if np.isnan(scores).any():
        raise ValueError(f"{int(np.isnan(scores).sum())} of {len(scores)} scores are NaN")
    if weights is not None:
        weights = np.asarray(weights)
        if weights.shape != scores.shape:
            raise ValueError(f"weights {weights.shape} must be as many as scores {scores.shape}")
        counted = np.flatnonzero(weights)
        scores, labels, weights = scores[counted], labels[counted], weights[counted]
    targets = int(labels.sum())
    nontargets = len(labels) - targets
    if not targets or not nontargets:
        raise ValueError(f"{targets} target and {nontargets} nontarget trials: an error rate needs both kinds")
    return scores, labels, weights

"""Confidence intervals by drawing speakers, not trials, and the difference of two systems with its interval.

Trials of one speaker are not independent, so drawing trials gives intervals that are too narrow. Each replicate draws
as many speakers as there are, with replacement: a nontarget trial of speakers drawn a and b times then counts a * b
times, a target trial of a speaker drawn a times counts a times (two copies of a speaker are two speakers, and between
them there is no trial).
"""

import inspect
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice, pairwise
from os import cpu_count

import numpy as np
from numpy.typing import ArrayLike

Statistic = Callable[..., float]  # of (scores, labels), and of weights= where it can, which is faster


@dataclass(frozen=True)
class Difference:
    """What the second system has more than the first, with its interval; `distinct` if the interval leaves out 0."""

    value: float
    low: float
    high: float

    @property
    def distinct(self) -> bool:
        return self.low > 0 or self.high < 0


def interval(
    statistic: Statistic,
    scores: ArrayLike,
    labels: ArrayLike,
    enrol_speakers: ArrayLike,
    test_speakers: ArrayLike,
    replicates: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """The percentile interval (low, high) of a statistic of trials.

    statistic: a function of `metrics`, or any of (scores, labels) (with partial() for further arguments). scores,
    labels, enrol_speakers, test_speakers: (trials,); speakers by any name. Raises ValueError if almost no replicate has
    both kinds of trials. Memory: about 60 bytes a trial for each core.
    """
    values = replicate_values(statistic, scores, labels, enrol_speakers, test_speakers, replicates, seed)
    return _percentiles(values, confidence)


def paired(
    statistic: Statistic,
    first: ArrayLike,
    second: ArrayLike,
    labels: ArrayLike,
    enrol_speakers: ArrayLike,
    test_speakers: ArrayLike,
    replicates: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Difference:
    """statistic(second) - statistic(first) on the same trials, both taken from the same replicates.

    Much narrower than two intervals beside each other suggest, since hard speakers are hard for both.
    """
    trials = labels, enrol_speakers, test_speakers
    values = [replicate_values(statistic, scores, *trials, replicates, seed) for scores in (first, second)]
    low, high = _percentiles(values[1] - values[0], confidence)
    value = float(statistic(np.asarray(second), np.asarray(labels)) - statistic(np.asarray(first), np.asarray(labels)))
    return Difference(value, low, high)


def breakdown(
    statistic: Statistic,
    scores: ArrayLike,
    labels: ArrayLike,
    groups: ArrayLike,
    enrol_speakers: ArrayLike,
    test_speakers: ArrayLike,
    replicates: int = 1000,
    seed: int = 0,
) -> Iterator[tuple[str, int, float, tuple[float, float]]]:
    """(group, trials, value, interval) of the trials of each value of `groups` (trials,), sorted.

    Groups with trials of one kind only have no error rate and are left out; `in_ranges` makes groups of numbers.
    """
    arrays = [np.asarray(a) for a in (scores, labels, enrol_speakers, test_speakers)]
    groups = np.asarray(groups).astype(str)
    for group in np.unique(groups):
        part = [a[groups == group] for a in arrays]
        if 0 < part[1].astype(bool).sum() < len(part[1]):
            try:
                bounds = interval(statistic, *part, replicates=replicates, seed=seed)
            except ValueError:  # a handful of speakers: a value, but no interval
                bounds = (float("nan"), float("nan"))
            yield str(group), len(part[0]), float(statistic(part[0], part[1])), bounds


def in_ranges(values: ArrayLike, edges: ArrayLike, unit: str = "") -> np.ndarray:
    """The name of the range that each value is in, such as "2-5 s"; "unknown" for NaN.

    >>> in_ranges([1, 2, 9, float("nan")], [2, 5], "s").tolist()
    ['under 2 s', '2-5 s', '5 s and over', 'unknown']
    """
    edges = np.asarray(edges, np.float64)
    space = f" {unit}" if unit else ""
    middle = [f"{low:g}-{high:g}{space}" for low, high in pairwise(edges)]
    names = np.array([f"under {edges[0]:g}{space}", *middle, f"{edges[-1]:g}{space} and over", "unknown"])
    values = np.asarray(values, np.float64)
    return names[np.where(np.isnan(values), len(names) - 1, np.searchsorted(edges, values, side="right"))]


def replicate_values(
    statistic: Statistic,
    scores: ArrayLike,
    labels: ArrayLike,
    enrol_speakers: ArrayLike,
    test_speakers: ArrayLike,
    replicates: int = 1000,
    seed: int = 0,
) -> np.ndarray:
    """The statistic of each replicate: float64 (replicates,), NaN where one kind of trials was not drawn.

    The same seed draws the same speakers, whatever the scores, so that systems can be compared.
    """
    scores, labels = np.asarray(scores, np.float64), np.asarray(labels).astype(bool)
    enrol_speakers, test_speakers = np.asarray(enrol_speakers), np.asarray(test_speakers)
    if not scores.shape == labels.shape == enrol_speakers.shape == test_speakers.shape:
        shapes = [a.shape for a in (scores, labels, enrol_speakers, test_speakers)]
        raise ValueError(f"scores, labels and both speakers must be as many as trials, not {shapes}")
    names, index = np.unique(np.concatenate([enrol_speakers, test_speakers]), return_inverse=True)
    order = np.argsort(scores, kind="stable")  # once: replicates are in order then
    enrol, test = index[: len(scores)][order], index[len(scores) :][order]
    scores, labels = scores[order], labels[order]
    try:
        weighs = "weights" in inspect.signature(statistic).parameters
    except ValueError:  # a builtin
        weighs = False

    def value(counts: np.ndarray) -> float:
        first = counts[enrol]
        weights = np.where(enrol == test, first, first * counts[test])
        if not (weights[labels].any() and weights[~labels].any()):
            return float("nan")
        if weighs:
            return float(statistic(scores, labels, weights=weights))
        return float(statistic(np.repeat(scores, weights), np.repeat(labels, weights)))

    def draws() -> Iterator[np.ndarray]:
        for stream in np.random.SeedSequence(seed).spawn(replicates):
            drawn = np.random.default_rng(stream).integers(len(names), size=len(names))
            yield np.bincount(drawn, minlength=len(names))

    remaining, values = draws(), []
    workers = cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:  # numpy lets go of the interpreter; a few at a time bounds memory
        while batch := list(islice(remaining, 8 * workers)):
            values.extend(pool.map(value, batch))
    return np.array(values)


def _percentiles(values: np.ndarray, confidence: float) -> tuple[float, float]:
    valid = values[~np.isnan(values)]
    if len(valid) < max(len(values) / 2, 1):
        missing = len(values) - len(valid)
        raise ValueError(f"{missing} of {len(values)} replicates drew trials of one kind only: too few speakers")
    low, high = np.quantile(valid, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)

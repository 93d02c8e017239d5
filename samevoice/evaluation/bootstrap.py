"""Confidence intervals by drawing speakers, not trials, and the difference of two systems with its interval.

Trials of one speaker are not independent, so drawing trials gives intervals that are too narrow. Each replicate draws
as many speakers as there are, with replacement: a nontarget trial of speakers drawn a and b times then counts a * b
times, a target trial of a speaker drawn a times counts a times (two copies of a speaker are two speakers, and between
them there is no trial).
"""

import inspect
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice, pairwise
from os import cpu_count

import numpy as np
from numpy.typing import ArrayLike

FEWEST = 5  # targets, and nontargets, of a group of a breakdown

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


def intervals(
    statistics: Mapping[str, Statistic],
    scores: ArrayLike,
    labels: ArrayLike,
    enrol_speakers: ArrayLike,
    test_speakers: ArrayLike,
    replicates: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> dict[str, tuple[float, float]]:
    """`interval` of several statistics, each replicate drawn once for all."""
    trials = scores, labels, enrol_speakers, test_speakers
    values = _replicates(list(statistics.values()), *trials, replicates, seed)
    return {name: _percentiles(column, confidence) for name, column in zip(statistics, values.T, strict=True)}


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


@dataclass(frozen=True)
class Part:
    """Some of the trials. interval: None where they hold too few speakers for one, or none was asked for."""

    group: str
    targets: int
    nontargets: int
    value: float
    interval: tuple[float, float] | None


def breakdown(
    statistic: Statistic,
    scores: ArrayLike,
    labels: ArrayLike,
    groups: ArrayLike,
    enrol_speakers: ArrayLike,
    test_speakers: ArrayLike,
    replicates: int = 1000,
    seed: int = 0,
) -> Iterator[Part]:
    """The trials of each value of `groups` (trials,), ranges in their order and others sorted.

    Groups with fewer than FEWEST trials of a kind are left out: nothing can be said of them.
    A group of nontargets only (of two genders, say) is measured with all targets, one of targets only with all
    nontargets. `in_ranges` makes groups of numbers. replicates: 0 for no intervals.
    """
    arrays = [np.asarray(a) for a in (scores, labels, enrol_speakers, test_speakers)]
    same, groups = arrays[1].astype(bool), np.asarray(groups).astype(str)
    for group in sorted(np.unique(groups).tolist(), key=_order):
        chosen = groups == group
        for kind in (same, ~same):
            chosen = chosen if (chosen & kind).any() else chosen | kind
        part = [a[chosen] for a in arrays]
        if min((same & chosen).sum(), (~same & chosen).sum()) < FEWEST:
            continue
        try:
            bounds = interval(statistic, *part, replicates=replicates, seed=seed) if replicates else None
        except ValueError:  # a handful of speakers: a value, but no interval
            bounds = None
        targets = int(same[chosen].sum())
        yield Part(group, targets, int(chosen.sum()) - targets, float(statistic(part[0], part[1])), bounds)


def _order(group: str) -> tuple[float, str]:
    """Where a group of `in_ranges` comes, and after them all others by name."""
    if group.startswith("under "):
        return -math.inf, group
    number = re.match(r"-?[0-9.]+(?=[ -])", group)
    return float(number[0]) if number else math.inf, group


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
    return _replicates([statistic], scores, labels, enrol_speakers, test_speakers, replicates, seed)[:, 0]


def _replicates(
    statistics: Sequence[Statistic],
    scores: ArrayLike,
    labels: ArrayLike,
    enrol_speakers: ArrayLike,
    test_speakers: ArrayLike,
    replicates: int,
    seed: int,
) -> np.ndarray:
    """`replicate_values` of each statistic: float64 (replicates, statistics)."""
    scores, labels = np.asarray(scores, np.float64), np.asarray(labels).astype(bool)
    enrol_speakers, test_speakers = np.asarray(enrol_speakers), np.asarray(test_speakers)
    if not scores.shape == labels.shape == enrol_speakers.shape == test_speakers.shape:
        shapes = [a.shape for a in (scores, labels, enrol_speakers, test_speakers)]
        raise ValueError(f"scores, labels and both speakers must be as many as trials, not {shapes}")
    names, index = np.unique(np.concatenate([enrol_speakers, test_speakers]), return_inverse=True)
    order = np.argsort(scores, kind="stable")  # once: replicates are in order then
    enrol, test = index[: len(scores)][order], index[len(scores) :][order]
    scores, labels = scores[order], labels[order]
    weighing = [_weighs(statistic) for statistic in statistics]

    def value(counts: np.ndarray) -> list[float]:
        first = counts[enrol]
        weights = np.where(enrol == test, first, first * counts[test])
        if not (weights[labels].any() and weights[~labels].any()):
            return [float("nan")] * len(statistics)
        return [
            float(statistic(scores, labels, weights=weights))
            if weighs
            else float(statistic(np.repeat(scores, weights), np.repeat(labels, weights)))
            for statistic, weighs in zip(statistics, weighing, strict=True)
        ]

    def draws() -> Iterator[np.ndarray]:
        for stream in np.random.SeedSequence(seed).spawn(replicates):
            drawn = np.random.default_rng(stream).integers(len(names), size=len(names))
            yield np.bincount(drawn, minlength=len(names))

    remaining, values = draws(), []
    workers = cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:  # numpy lets go of the interpreter; a few at a time bounds memory
        while batch := list(islice(remaining, 8 * workers)):
            values.extend(pool.map(value, batch))
    return np.array(values, np.float64).reshape(-1, len(statistics))


def _weighs(statistic: Statistic) -> bool:
    try:
        return "weights" in inspect.signature(statistic).parameters
    except ValueError:  # a builtin
        return False


def _percentiles(values: np.ndarray, confidence: float) -> tuple[float, float]:
    valid = values[~np.isnan(values)]
    if len(valid) < max(len(values) / 2, 1):
        missing = len(values) - len(valid)
        raise ValueError(f"{missing} of {len(values)} replicates drew trials of one kind only: too few speakers")
    low, high = np.quantile(valid, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)

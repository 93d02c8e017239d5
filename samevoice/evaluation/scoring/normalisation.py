"""Score normalisation against a cohort of other speakers: z-, t-, s- and adaptive s-norm."""

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from os import cpu_count
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from samevoice.evaluation.scoring.cosine import dots, unit

ROWS = 512  # recordings against the whole cohort at a time: 12 MB for 5,994 speakers
SAME = 1e-6  # cosines this close are one: products of other shapes round otherwise


class ScoreNorm:
    """(cosine - mean) / standard deviation, both of one side's cosines with a cohort.

    method: "z" takes the enrolment's, "t" the test's, "s" the average of the two normalised scores; "as" is "s" with,
    for each side, only its `top_n` nearest of the cohort (Matějka et al., "Analysis of score normalization in
    multilingual speaker recognition", Interspeech 2017, AS-norm1). Deviations are over n - 1, as in the LAP paper's
    code. The cosines are of the embeddings as given: subtract the cohort's mean from everything before, where wanted.
    Learned: `cohort_` float32 (cohort, dim), unit rows; `cohort_speakers_`.
    """

    cohort_: np.ndarray
    cohort_speakers_: np.ndarray | None

    def __init__(self, method: Literal["z", "t", "s", "as"] = "as", top_n: int = 600):
        self.method = method
        self.top_n = top_n

    def fit(self, cohort: np.ndarray, speakers: ArrayLike | None = None, average: bool = True) -> "ScoreNorm":
        """cohort: (n, dim). speakers: (n,), who says each.

        average: with speakers known, the plain mean of a speaker's embeddings stands for them, as in the LAP code.
        """
        if self.method not in ("z", "t", "s", "as"):
            raise ValueError(f"unknown normalisation {self.method!r}: z, t, s or as")
        cohort = np.asarray(cohort, np.float32)
        self.cohort_speakers_ = None if speakers is None else np.asarray(speakers)
        if speakers is not None and average:
            self.cohort_speakers_, cohort = speaker_means(cohort, speakers)
        self.cohort_ = unit(cohort)
        if len(cohort) < 2 or (self.method == "as" and not 2 <= self.top_n <= len(cohort)):
            raise ValueError(f"a cohort of {len(cohort)} is too small for {self.method}-norm with top {self.top_n}")
        return self

    def transform(
        self,
        embeddings: np.ndarray,
        enrol: ArrayLike,
        test: ArrayLike,
        speakers: ArrayLike | None = None,
    ) -> np.ndarray:
        """embeddings (n, dim), rows enrol and test (trials,) -> normalised cosines float64 (trials,).

        speakers: (n,), given where the trial's own two speakers shall not be in the cohort (trials drawn from the
        cohort's speakers). Memory: the embeddings again, and 5 MB for each core.
        """
        enrol, test, units = np.asarray(enrol), np.asarray(test), unit(embeddings)
        cosines = dots(units, units, enrol, test).astype(np.float64)
        sides = {"z": [(enrol, test)], "t": [(test, enrol)]}.get(self.method, [(enrol, test), (test, enrol)])
        used, position = np.unique(np.concatenate([side for side, _ in sides]), return_inverse=True)
        known = self._own(speakers)
        summary = self._against_cohort(units, used, extra=0 if known is None else 2)
        total = np.zeros(len(cosines))
        for (side, other), at in zip(sides, np.split(position, len(sides)), strict=True):
            sums, squares = summary[0, at], summary[1, at]
            count = np.full(len(at), self._n(), np.float64)
            if known is not None:
                sums, squares, count = self._without_own(units, summary[:, at], side, other, known)
            mean = sums / count
            deviation = np.sqrt(np.maximum(squares - sums * mean, 1e-20) / (count - 1))
            total += (cosines - mean) / deviation
        return total / len(sides)

    def _n(self) -> int:
        return self.top_n if self.method == "as" else len(self.cohort_)

    def _own(self, speakers: ArrayLike | None) -> np.ndarray | None:
        """Which cohort row is each recording's own speaker: (n,), -1 for none; None if nobody is to be left out."""
        if speakers is None:
            return None
        if self.cohort_speakers_ is None:
            raise ValueError("to leave out the trial's own speakers, fit the cohort with its speakers")
        names, first = np.unique(self.cohort_speakers_, return_index=True)
        if len(names) < len(self.cohort_):
            raise ValueError("own speakers are left out of a cohort with one embedding a speaker: fit with average")
        speakers = np.asarray(speakers)
        place = np.minimum(np.searchsorted(names, speakers), len(names) - 1)
        return np.where(names[place] == speakers, first[place], -1)

    def _against_cohort(self, units: np.ndarray, used: np.ndarray, extra: int) -> np.ndarray:
        """Of each used recording's n + extra highest cosines: sum, sum of squares, and the two lowest, falling.

        float64 (4, used). Of fewer that the cohort holds: infinite ones, which are in no sum.
        """
        n, cohort = self._n() + extra, len(self.cohort_)
        found = np.empty((4, len(used)))
        found[2:] = -np.inf
        transposed = np.ascontiguousarray(self.cohort_.T)

        def summarise(rows: slice, cosines: np.ndarray) -> None:
            if n < cohort:
                cosines.partition(cohort - n, axis=1)
                cosines = cosines[:, cohort - n :]
            found[0, rows] = cosines.sum(axis=1, dtype=np.float64)
            found[1, rows] = np.einsum("ij,ij->i", cosines, cosines, dtype=np.float64)
            if extra and n <= cohort:
                found[2:, rows] = np.partition(cosines, 1, axis=1)[:, 1::-1].T
            elif extra and n == cohort + 1:
                found[3, rows] = cosines.min(axis=1)
                found[2, rows] = np.inf

        # The products are made here, one after the other: BLAS has threads of its own, and two pools would compete.
        threads = cpu_count() or 1
        with ThreadPoolExecutor(threads) as pool:
            under_way: deque[Future] = deque()
            for start in range(0, len(used), ROWS):
                rows = slice(start, start + ROWS)
                under_way.append(pool.submit(summarise, rows, units[used[rows]] @ transposed))  # (rows, cohort)
                if len(under_way) > 2 * threads:
                    under_way.popleft().result()
            for summary in under_way:
                summary.result()
        return found

    def _without_own(self, units, summary, side, other, own) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Sum, sum of squares and count of each trial's n highest cosines with the cohort less its own speakers.

        The n + 2 highest hold them: take out the own speakers that are among these, then the lowest that are left over.
        """
        sums, squares, second_lowest, lowest = summary.copy()
        kept = np.full(len(side), min(self._n() + 2, len(self.cohort_)), np.int64)
        mine, theirs = own[side], own[other]
        for speaker in (mine, np.where(theirs == mine, -1, theirs)):
            there = np.flatnonzero(speaker >= 0)
            cosine = dots(units, self.cohort_, side[there], speaker[there]).astype(np.float64)
            inside = cosine >= lowest[there] - SAME
            there, cosine = there[inside], cosine[inside]
            sums[there] -= cosine
            squares[there] -= cosine**2
            kept[there] -= 1
            # If it is one of the two lowest, the other one is lowest now; what is lower still is not known or needed.
            was_lowest = cosine <= lowest[there] + SAME
            lowest[there] = np.where(was_lowest, second_lowest[there], lowest[there])
            was_second = ~was_lowest & (cosine <= second_lowest[there] + SAME)
            second_lowest[there] = np.where(was_lowest | was_second, np.inf, second_lowest[there])
        for value in (lowest, second_lowest):
            over = kept > self._n()
            sums[over] -= value[over]
            squares[over] -= value[over] ** 2
            kept[over] -= 1
        if kept.min(initial=2) < 2:
            raise ValueError("without the trial's own speakers the cohort is too small")
        return sums, squares, kept.astype(np.float64)


def speaker_means(embeddings: np.ndarray, speakers: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """The sorted speakers, and the mean embedding of each: float32 (speakers, dim)."""
    names, index, counts = np.unique(np.asarray(speakers), return_inverse=True, return_counts=True)
    order = np.argsort(index, kind="stable")
    sums = np.add.reduceat(np.asarray(embeddings, np.float32)[order], np.cumsum(counts) - counts, axis=0)
    return names, sums / counts[:, None].astype(np.float32)

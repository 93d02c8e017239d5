"""Quality-aware calibration: a score and what was measured of both recordings, as one log-likelihood ratio."""

import numpy as np
from numpy.typing import ArrayLike

from samevoice.evaluation.calibration import fit_logistic
from samevoice.evaluation.scoring.cosine import BLOCK


def quality_inputs(
    scores: ArrayLike,
    embeddings: np.ndarray,
    enrol: ArrayLike,
    test: ArrayLike,
    seconds: ArrayLike,
    snr_db: ArrayLike | None = None,
    speech_seconds: ArrayLike | None = None,
) -> np.ndarray:
    """The inputs of `QualityCalibration`: float64 (trials, 9), two more columns for each of the last two arguments.

    scores: (trials,), normalised. embeddings: (n, dim) as the network gives them, before any mean is subtracted.
    enrol, test: rows (trials,). seconds, snr_db, speech_seconds: (n,); NaN where unknown.
    The nine, in the order of the LAP paper's code (which is Thienpondt et al., ICASSP 2021, with more norms): score,
    log seconds of enrolment and test; L1 and L2 norm of the enrolment, then of the test; standard deviations over
    dimensions of both. Then ours: signal-to-noise ratios in dB of both, log(1 + speech seconds) of both.
    """
    enrol, test = np.asarray(enrol), np.asarray(test)
    duration = np.log(np.asarray(seconds, np.float64))
    l1, l2, deviation = _norms(np.asarray(embeddings)).T
    columns = [np.asarray(scores, np.float64), duration[enrol], duration[test]]
    columns += [l1[enrol], l2[enrol], l1[test], l2[test], deviation[enrol], deviation[test]]
    if snr_db is not None:
        snr = np.asarray(snr_db, np.float64)
        columns += [snr[enrol], snr[test]]
    if speech_seconds is not None:
        speech = np.log1p(np.asarray(speech_seconds, np.float64))
        columns += [speech[enrol], speech[test]]
    return np.stack(columns, axis=1)


def _norms(embeddings: np.ndarray) -> np.ndarray:
    """L1 norm, L2 norm and standard deviation over dimensions of each row: float64 (n, 3)."""
    found = np.empty((len(embeddings), 3))
    for start in range(0, len(embeddings), BLOCK):
        x = embeddings[start : start + BLOCK].astype(np.float64)
        columns = (np.abs(x).sum(axis=1), np.sqrt(np.square(x).sum(axis=1)), x.std(axis=1))
        found[start : start + BLOCK] = np.stack(columns, axis=1)
    return found


class QualityCalibration:
    """A quality measure function: llr from `quality_inputs`, by logistic regression on pairs of training speakers.

    Inputs are standardised, and NaN (no SNR could be measured) stands for the mean. strength: inverse of the L2
    penalty; 1 is scikit-learn's, which the LAP code keeps (there, on inputs as they are).
    `fit` needs scikit-learn (the `train` extra). Learned: `mean_`, `deviation_`, `weights_` (inputs,), `offset_`.
    """

    mean_: np.ndarray
    deviation_: np.ndarray
    weights_: np.ndarray
    offset_: float

    def __init__(self, strength: float = 1.0):
        self.strength = strength

    def fit(self, inputs: np.ndarray, labels: ArrayLike) -> "QualityCalibration":
        """inputs: (trials, inputs), of pairs from `draw_pairs`. labels: (trials,), true for targets."""
        inputs = np.where(np.isnan(inputs).all(axis=0), 0.0, inputs)  # one that is never known says nothing
        self.mean_ = np.nanmean(inputs, axis=0)
        deviation = np.nanstd(inputs, axis=0)
        self.deviation_ = np.where(deviation > 1e-12 * np.maximum(np.abs(self.mean_), 1), deviation, 1)
        self.weights_, self.offset_ = fit_logistic(self._standard(inputs), labels, self.strength)
        return self

    def transform(self, inputs: np.ndarray) -> np.ndarray:
        """(trials, inputs) -> natural-logarithm likelihood ratios (trials,)."""
        return self._standard(inputs) @ self.weights_ + self.offset_

    def _standard(self, inputs: np.ndarray) -> np.ndarray:
        return np.nan_to_num((np.asarray(inputs, np.float64) - self.mean_) / self.deviation_, nan=0.0)


def draw_pairs(speakers: ArrayLike, pairs: int = 30_000, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of recordings to train a calibration on, half of one speaker: rows (pairs,) twice, and labels.

    speakers: (n,). As in the LAP code: a speaker (or two) evenly, whatever they recorded, then a recording of each;
    targets are two different recordings. Pairs may come twice. Raises ValueError without two speakers, or where nobody
    was recorded twice.
    """
    random = np.random.default_rng(seed)
    names, index, counts = np.unique(np.asarray(speakers), return_inverse=True, return_counts=True)
    order, first = np.argsort(index, kind="stable"), np.cumsum(counts) - counts
    twice = np.flatnonzero(counts > 1)
    if len(names) < 2 or not len(twice):
        raise ValueError(f"pairs need two speakers or more, some recorded twice: {len(index)} of {len(names)} speakers")
    targets = (pairs + 1) // 2
    who = random.choice(twice, targets)
    one = random.integers(counts[who])
    two = (one + random.integers(1, counts[who])) % counts[who]
    left = random.integers(len(names), size=pairs - targets)
    right = (left + random.integers(1, len(names), pairs - targets)) % len(names)
    enrol = np.concatenate([first[who] + one, first[left] + random.integers(counts[left])])
    test = np.concatenate([first[who] + two, first[right] + random.integers(counts[right])])
    return order[enrol], order[test], np.arange(pairs) < targets

"""Ways of scoring by their names: which object of this folder, fitted on what."""

import difflib
from typing import Literal, cast

import numpy as np

from samevoice.evaluation.scoring.cosine import Cosine, MeanSubtraction, unit
from samevoice.evaluation.scoring.normalisation import ScoreNorm
from samevoice.evaluation.scoring.plda import PLDA
from samevoice.evaluation.scoring.qmf import QualityCalibration, draw_pairs, quality_inputs
from samevoice.evaluation.scoring.recordings import Pairs, Recordings

SUBTRACT = "mean-subtraction"
NORMS = {"z-norm": "z", "t-norm": "t", "s-norm": "s", "as-norm": "as"}
PLDAS = ("plda", "adapted-plda")
NAMES = ("cosine", SUBTRACT, *NORMS, *(f"{SUBTRACT}+{name}" for name in NORMS), *PLDAS)
QMF_PAIRS = 30_000
_QMF_SEED = 0


class Scorer:
    """One of NAMES. "mean-subtraction+as-norm" takes the cohort's mean from every embedding first.

    top_n: of adaptive s-norm. Learned: `top_n_`, the same or, in a cohort of fewer speakers, all of them.
    """

    top_n_: int | None = None

    def __init__(self, name: str = "cosine", top_n: int = 600):
        if name not in NAMES:
            close = difflib.get_close_matches(name, NAMES, n=1, cutoff=0.3)
            hint = f"did you mean {close[0]}? " if close else ""
            raise ValueError(f"no scoring called {name!r}; {hint}valid: {', '.join(NAMES)}")
        self.name, self.top_n = name, top_n
        self._last = name.removeprefix(f"{SUBTRACT}+")
        self._mean: MeanSubtraction | None = None
        self._norm: ScoreNorm | None = None
        self._plda: PLDA | None = None

    @property
    def needs_cohort(self) -> bool:
        return self.name != "cosine"

    @property
    def gives_llrs(self) -> bool:
        """Whether its scores are log-likelihood ratios by themselves."""
        return self.name in PLDAS

    def fit(
        self, cohort: Recordings | None = None, adaptation: Recordings | None = None, own: np.ndarray | None = None
    ) -> "Scorer":
        """cohort: needed for all but "cosine"; the mean, PLDA and the cohort's speaker averages come from it.

        adaptation: recordings like the trials', for "adapted-plda"; with their speakers where all are known. own: the
        trials' speakers, where some are in the cohort: they are left out of the mean and of PLDA here, and of the
        normalisation trial by trial. Raises ValueError for what is missing or too small.
        """
        self._own = own
        if not self.needs_cohort:
            return self
        if cohort is None:
            raise ValueError(f"{self.name} needs a cohort: recordings of other speakers")
        others = cohort if own is None else cohort.only(~np.isin(cohort.speakers, own))
        if not len(others):
            raise ValueError("all speakers of the cohort are in the trials")
        if self.name.startswith(SUBTRACT):
            self._mean = MeanSubtraction().fit(others.embeddings)
        if self._last in NORMS:
            self._norm = self._fitted_norm(cohort)
        if self.name in PLDAS:
            self._plda = self._fitted_plda(others, adaptation)
        return self

    def transform(self, recordings: Recordings, pairs: Pairs) -> np.ndarray:
        """Each pair's score (pairs,), higher means more alike; `pairs.per_trial` makes them the trials'."""
        return self._scores(recordings, pairs, self._own is not None)

    def fit_qmf(self, cohort: Recordings, own: np.ndarray | None = None) -> QualityCalibration:
        """Calibration of these scores by `qualities`, on 30,000 pairs of the cohort's speakers less `own`.

        The pair's own speakers are left out of the normalisation. Needs scikit-learn. Raises ValueError for PLDA,
        which was fitted on these very speakers and scores them better than others.
        """
        if self.name in PLDAS:
            raise ValueError(f"{self.name} can't be calibrated on the recordings that it was fitted on")
        if not cohort.speakers_known:
            raise ValueError("quality-aware calibration needs a cohort with known speakers")
        rows = np.arange(len(cohort)) if own is None else np.flatnonzero(~np.isin(cohort.speakers, own))
        enrol, test, labels = draw_pairs(cohort.speakers[rows], QMF_PAIRS, _QMF_SEED)
        pairs = Pairs(rows[enrol], rows[test])
        scores = self._scores(cohort, pairs, without_own=True)
        return QualityCalibration().fit(qualities(scores, cohort, pairs), labels)

    def _fitted_norm(self, cohort: Recordings) -> ScoreNorm:
        speakers = cohort.speakers if cohort.speakers_known else None
        size = len(cohort) if speakers is None else len(np.unique(speakers))
        self.top_n_ = min(self.top_n, size) if self._last == "as-norm" else None
        method = cast(Literal["z", "t", "s", "as"], NORMS[self._last])
        return ScoreNorm(method, self.top_n_ or self.top_n).fit(self._centred(cohort.embeddings), speakers)

    def _fitted_plda(self, cohort: Recordings, adaptation: Recordings | None) -> PLDA:
        if not cohort.speakers_known:
            raise ValueError(f"{self.name} needs a cohort with known speakers")
        plda = PLDA().fit(cohort.embeddings, cohort.speakers)
        if self.name == "plda":
            return plda
        if adaptation is None:
            raise ValueError(f"{self.name} needs recordings to adapt to: other ones than the trials', of their kind")
        return plda.adapt(adaptation.embeddings, adaptation.speakers if adaptation.speakers_known else None)

    def _centred(self, embeddings: np.ndarray) -> np.ndarray:
        return embeddings if self._mean is None else self._mean.transform(embeddings)

    def _scores(self, recordings: Recordings, pairs: Pairs, without_own: bool) -> np.ndarray:
        """Models are the mean of unit-length embeddings; for PLDA, as in Kaldi, of embeddings as they are."""
        if self._plda is not None:
            counts = np.array([1] * len(recordings) + [len(rows) for rows in pairs.models])[pairs.enrol]
            return self._plda.transform(pairs.with_models(recordings.embeddings), pairs.enrol, pairs.test, counts)
        embeddings = self._centred(recordings.embeddings)
        if pairs.models:
            embeddings = pairs.with_models(unit(embeddings))
        if self._norm is None:
            return Cosine().transform(embeddings, pairs.enrol, pairs.test)
        speakers = pairs.with_models(recordings.speakers, first) if without_own else None
        return self._norm.transform(embeddings, pairs.enrol, pairs.test, speakers)


def qualities(scores: np.ndarray, recordings: Recordings, pairs: Pairs) -> np.ndarray:
    """`quality_inputs` of these pairs; a model has the seconds of all its recordings and their mean SNR."""
    return quality_inputs(
        scores,
        pairs.with_models(recordings.embeddings),
        pairs.enrol,
        pairs.test,
        pairs.with_models(recordings.seconds, np.sum),
        pairs.with_models(recordings.snr_db),
        pairs.with_models(recordings.speech_seconds, np.sum),
    )


def first(values: np.ndarray, axis: int = 0) -> np.ndarray:
    """What all recordings of a model have in common: the first one's."""
    return values[0]

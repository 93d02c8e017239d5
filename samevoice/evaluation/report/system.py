"""One system over one list: its recordings as arrays, its scorers fitted, and an entry of the report for each."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from samevoice.audio import AudioError
from samevoice.evaluation import bootstrap, protocols
from samevoice.evaluation import trials as lists
from samevoice.evaluation.protocols import Condition
from samevoice.evaluation.report.measure import measure
from samevoice.evaluation.report.scores import Scores, collect, column
from samevoice.evaluation.scoring import Pairs, QualityCalibration, Recordings, Scorer, pairs_of
from samevoice.evaluation.scoring.scorer import PLDAS, first, qualities
from samevoice.evaluation.trials import Trials
from samevoice.hub.cards import Calibration
from samevoice.runtime.embedding_cache import Clip
from samevoice.runtime.verifier import Embedded

Embed = Callable[[list[Clip]], list[Embedded | AudioError]]
SECONDS, DECIBELS = (2, 5, 10), (10, 20, 30)  # where the breakdown's ranges meet
QMF = " + qmf"


@dataclass(frozen=True)
class Plan:
    """How to score. scorings: of `Scorer`'s names. qmf: an entry more for each, with quality-aware calibration.

    enrolment: what is averaged of sides with several recordings, see `pairs_of`. exclude_own: the cohort may hold
    speakers of the trials; else that is refused.
    """

    scorings: Sequence[str] = ("cosine",)
    qmf: bool = False
    top_n: int = 600
    enrolment: str = "embeddings"
    exclude_own: bool = False
    replicates: int = 1000

    def check(self, cohort: bool, adaptation: bool) -> None:
        """ValueError for a name that isn't one, or for a set of recordings that is missing or that nothing needs."""
        needing = [name for name in self.scorings if Scorer(name).needs_cohort]
        if (needing or self.qmf) and not cohort:
            what = needing[0] if needing else "quality-aware calibration"
            raise ValueError(f"{what} needs a cohort: name recordings of other speakers with --cohort")
        if cohort and not (needing or self.qmf):
            raise ValueError("cosine needs no cohort; name a scoring that does, such as --scoring as-norm")
        if ("adapted-plda" in self.scorings) != adaptation:
            raise ValueError("--scoring adapted-plda and --adaptation need each other")
        if self.qmf and set(self.scorings) <= set(PLDAS):
            raise ValueError("PLDA can't be calibrated on the cohort that it was fitted on: name another --scoring too")


@dataclass
class System:
    """A model, by the function that embeds with it, and its scorers once they are fitted.

    calibration: of the model's cosines. notes: what a reader of the report must know.
    """

    embed: Embed
    plan: Plan
    calibration: Calibration | None = None
    notes: list[str] = field(default_factory=list)
    scorers: list[Scorer] = field(default_factory=list)
    qmf: dict[str, QualityCalibration] = field(default_factory=dict)

    def fit(self, listed: Trials, table: pa.Table, cohort: pa.Table | None, adaptation: pa.Table | None) -> None:
        """The scorers, on recordings that are not the trials'. Raises ValueError; for a set of recordings that is
        missing, or that shares something with the trials, before anything is embedded.
        """
        self.plan.check(cohort is not None, adaptation is not None)
        tested = only(table, listed.utterances)
        own = _own(cohort, tested, self.plan.exclude_own) if cohort is not None else None
        if adaptation is not None:
            _refuse_shared(adaptation, tested, "to adapt to")
        known = self._fitting("cohort", cohort)
        near = self._fitting("adaptation", adaptation)
        self.scorers = [Scorer(name, self.plan.top_n).fit(known, near, own) for name in self.plan.scorings]
        for scorer in self.scorers:
            if scorer.top_n_ and scorer.top_n_ < self.plan.top_n:
                self.notes.append(f"{scorer.name}: top {scorer.top_n_}, all of the cohort, not {self.plan.top_n}")
        if self.plan.qmf and known is not None:
            self.qmf = {s.name: s.fit_qmf(known, own) for s in self.scorers if s.name not in PLDAS}

    def entries(
        self, listed: Trials, table: pa.Table, conditions: Sequence[Condition], noise: Sequence[str], root: str
    ) -> tuple[list[dict[str, Any]], Scores]:
        """An entry for each condition and scoring, and all their scores. noise, root: see `protocols.clip`."""
        made, kept = [], {}
        for condition in conditions:
            for entry, scores in self._of_condition(listed, table, condition, noise, root):
                made.append(entry)
                kept[column(entry)] = scores
        speaker = dict(zip(table["utterance"].to_pylist(), table["speaker"].to_pylist(), strict=True))
        return made, collect(listed, speaker, kept)

    def _of_condition(
        self, listed: Trials, table: pa.Table, condition: Condition, noise: Sequence[str], root: str
    ) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
        chosen = only(table, listed.utterances)
        treated = [
            Clip(path, *protocols.clip(path, name, condition, noise, root))
            for path, name in zip(chosen["path"].to_pylist(), chosen["utterance"].to_pylist(), strict=True)
        ]
        recordings, failed = heard(chosen, self.embed(treated))
        short = sum(protocols.TOO_SHORT in error.problem for error in failed.values())
        used = lists.without(listed, failed)
        there = _there(listed, failed)
        sides = pairs_of(used, recordings.names)
        about = {"condition": condition.name, "recordings": len(recordings), "too_short": short}
        about |= {"refused": len(failed) - short, "trials_left_out": len(listed) - len(used)}
        who = _speakers(recordings, sides)
        for name, scores, llrs in self._scored(recordings, pairs_of(used, recordings.names, self.plan.enrolment)):
            groups = groups_of(recordings, sides)
            figures = measure(scores, used.labels, who, llrs, groups, self.plan.replicates)
            everywhere = np.full(len(listed), np.nan)
            everywhere[there] = scores
            yield {"scoring": name, **about, **figures}, everywhere

    def _scored(self, recordings: Recordings, pairs: Pairs) -> Iterator[tuple[str, np.ndarray, np.ndarray | None]]:
        """Name, scores and log-likelihood ratios of each entry, (trials,)."""
        for scorer in self.scorers:
            of_pairs = scorer.transform(recordings, pairs)
            scores = pairs.per_trial(of_pairs)
            if scorer.name == "cosine" and self.calibration:
                llrs = scores * self.calibration.slope + self.calibration.offset
            else:
                llrs = scores if scorer.gives_llrs else None
            yield scorer.name, scores, llrs
            if scorer.name in self.qmf:
                llrs = pairs.per_trial(self.qmf[scorer.name].transform(qualities(of_pairs, recordings, pairs)))
                yield scorer.name + QMF, llrs, llrs

    def _fitting(self, what: str, table: pa.Table | None) -> Recordings | None:
        if table is None:
            return None
        recordings, failed = heard(table, self.embed([Clip(path) for path in table["path"].to_pylist()]))
        if not len(recordings):
            raise ValueError(f"no recording of the {what} could be used: {next(iter(failed.values()))}")
        speakers = f"{len(np.unique(recordings.speakers)):,} speakers" if recordings.speakers_known else "no speakers"
        refused = f", {len(failed):,} refused" if failed else ""
        self.notes.append(f"{what}: {len(recordings):,} recordings, {speakers}{refused}")
        return recordings


def heard(table: pa.Table, results: Sequence[Embedded | AudioError]) -> tuple[Recordings, dict[str, AudioError]]:
    """What was embedded of a table's rows as arrays, and by utterance why others were not."""
    names = table["utterance"].to_pylist()
    failed = {name: r for name, r in zip(names, results, strict=True) if isinstance(r, AudioError)}
    good = [r for r in results if not isinstance(r, AudioError)]
    rows = table.filter(pa.array([not isinstance(r, AudioError) for r in results], pa.bool_()))

    def text(name: str) -> np.ndarray:
        return np.array(rows[name].to_pylist(), np.str_)

    def numbers(name: str) -> np.ndarray:
        return np.array([getattr(r.quality, name) for r in good], np.float64)  # None becomes NaN

    embeddings = np.stack([r.embedding for r in good]) if good else np.zeros((0, 0), np.float32)
    recordings = Recordings(
        text("utterance"), embeddings, text("speaker"), numbers("seconds"), numbers("speech_seconds"),
        numbers("snr_db"), text("gender"), text("language"), text("session"),
    )  # fmt: skip
    return recordings, failed


def groups_of(recordings: Recordings, pairs: Pairs) -> Iterator[tuple[str, np.ndarray]]:
    """Kinds and what each trial is by them, text (trials,): of its shorter and its noisier side, and what both share.

    One after the other, since each is 30 MB for VoxCeleb1-E.
    """

    def sides(values: np.ndarray, average: Callable[..., np.ndarray] = first) -> tuple[np.ndarray, np.ndarray]:
        both = pairs.with_models(values, average)
        return both[pairs.enrol], both[pairs.test]

    def shared(values: np.ndarray, different: str) -> np.ndarray:
        a, b = sides(values)
        return np.where((a == "") | (b == ""), "unknown", np.where(a == b, a, different))

    yield "duration", bootstrap.in_ranges(np.minimum(*sides(recordings.seconds, np.sum)), SECONDS, "s")
    yield "SNR", bootstrap.in_ranges(np.minimum(*sides(recordings.snr_db, np.mean)), DECIBELS, "dB")
    yield "gender", shared(recordings.genders, "two genders")
    yield "language", shared(recordings.languages, "two languages")
    enrol, test = sides(recordings.sessions)
    session = np.where(enrol == test, "same session", "two sessions")
    yield "session", np.where((enrol == "") | (test == ""), "unknown", session)


def _speakers(recordings: Recordings, pairs: Pairs) -> tuple[np.ndarray, np.ndarray] | None:
    """Both sides' speakers as numbers (trials,); None if not all are known."""
    if not recordings.speakers_known:
        return None
    who = pairs.with_models(np.unique(recordings.speakers, return_inverse=True)[1].astype(np.int32), first)
    return who[pairs.enrol], who[pairs.test]


def only(table: pa.Table, utterances: Sequence[str]) -> pa.Table:
    """The rows of these utterances, in their order."""
    place = {name: row for row, name in enumerate(table["utterance"].to_pylist())}
    return table.take(pa.array([place[name] for name in utterances], pa.int64()))


def _there(trials: Trials, failed: dict[str, AudioError]) -> np.ndarray:
    """Which trials have all their recordings: bool (trials,)."""
    side = np.array([not any(name in failed for name in some) for some in trials.members])
    test = np.array([name not in failed for name in trials.tests])
    return side[trials.enrol] & test[trials.test]


def _own(cohort: pa.Table, tested: pa.Table, allowed: bool) -> np.ndarray | None:
    """Speakers of the trials that are in the cohort, where that is allowed; None if there are none."""
    own = (set(cohort["speaker"].to_pylist()) & set(tested["speaker"].to_pylist())) - {""}
    if not own:
        _refuse_shared(cohort, tested, "of the cohort")
        return None
    if not allowed:
        raise ValueError(
            f"{len(own):,} speakers of the cohort are in the trials, such as {min(own)}: give a cohort of others, or "
            "leave each trial's own out of it with --exclude-own-speakers"
        )
    return np.array(sorted(own), np.str_)


def _refuse_shared(others: pa.Table, tested: pa.Table, what: str) -> None:
    here, there = ({os.path.abspath(path) for path in table["path"].to_pylist()} for table in (others, tested))
    if shared := here & there:
        raise ValueError(f"{len(shared):,} recordings {what} are in the trials, such as {min(shared)}")

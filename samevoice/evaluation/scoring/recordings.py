"""What is scored: embedded recordings as arrays, and trials as pairs of their rows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import numpy as np

from samevoice.evaluation.trials import Trials

ENROLMENTS = ("embeddings", "scores")


@dataclass(frozen=True)
class Recordings:
    """Embedded recordings, a row each.

    names: text (n,). embeddings: float32 (n, dim), as the network gave them. speakers, genders, languages, sessions:
    text (n,), "" where unknown. seconds, speech_seconds, snr_db: float64 (n,), NaN where unknown.
    """

    names: np.ndarray
    embeddings: np.ndarray
    speakers: np.ndarray
    seconds: np.ndarray
    speech_seconds: np.ndarray
    snr_db: np.ndarray
    genders: np.ndarray
    languages: np.ndarray
    sessions: np.ndarray

    def __len__(self) -> int:
        return len(self.names)

    def only(self, kept: np.ndarray) -> "Recordings":
        """The rows where `kept`, bool (n,), is true."""
        return Recordings(*(getattr(self, field.name)[kept] for field in fields(self)))

    @property
    def speakers_known(self) -> bool:
        return bool((self.speakers != "").all())


@dataclass(frozen=True)
class Pairs:
    """enrol, test: rows (pairs,) of n recordings. models: row n + i stands for the average of the rows models[i].

    trial: which trial a pair belongs to, (pairs,), where a trial's score is the average of several; None: pair i is
    trial i.
    """

    enrol: np.ndarray
    test: np.ndarray
    models: tuple[np.ndarray, ...] = ()
    trial: np.ndarray | None = None

    def with_models(self, values: np.ndarray, average: Callable[..., np.ndarray] = np.mean) -> np.ndarray:
        """(n, ...) -> (n + models, ...): values of the recordings, then those of the models."""
        if not self.models:
            return values
        return np.concatenate([values, np.stack([average(values[rows], axis=0) for rows in self.models])])

    def per_trial(self, scores: np.ndarray) -> np.ndarray:
        """(pairs,) -> (trials,)."""
        if self.trial is None:
            return scores
        return np.bincount(self.trial, scores) / np.bincount(self.trial)


def pairs_of(trials: Trials, names: Sequence[str] | np.ndarray, enrolment: str = "embeddings") -> Pairs:
    """Trials as rows of the recordings called `names`, which must all be there.

    enrolment: where a side is enrolled with several recordings, their "embeddings" are averaged, or the "scores" of
    each with the test.
    """
    if enrolment not in ENROLMENTS:
        raise ValueError(f"enrolments of several recordings average their embeddings or scores, not {enrolment!r}")
    place = {name: row for row, name in enumerate(names)}
    test = np.array([place[name] for name in trials.tests])[trials.test]
    members = [np.array([place[name] for name in some]) for some in trials.members]
    counts = np.array([len(rows) for rows in members])
    if enrolment == "scores" and counts.max() > 1:
        times = counts[trials.enrol]
        start = np.cumsum(counts) - counts
        within = np.arange(times.sum()) - np.repeat(np.cumsum(times) - times, times)
        enrol = np.concatenate(members)[np.repeat(start[trials.enrol], times) + within]
        return Pairs(enrol, np.repeat(test, times), trial=np.repeat(np.arange(len(trials)), times))
    several = counts > 1
    rows = np.where(several, len(names) + np.cumsum(several) - 1, [rows[0] for rows in members])
    return Pairs(rows[trials.enrol], test, tuple(m for m in members if len(m) > 1))

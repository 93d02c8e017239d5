"""The main object: a loaded model that embeds recordings and decides whether two hold the same voice."""

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from threading import Event

import numpy as np

from samevoice.audio.decode import MAX_HOURS, Audio, AudioError
from samevoice.audio.quality import Quality
from samevoice.hub import cards, find_model
from samevoice.runtime.pieces import Piece, Recording
from samevoice.runtime.session import Session

_READ_AHEAD = 64  # recordings decoded before the network runs, so that equal lengths can meet in a batch


@dataclass(frozen=True)
class Embedded:
    """embedding: float32 (dim,), as the network gave it (not of unit length). quality: the recording's record."""

    embedding: np.ndarray
    quality: Quality


@dataclass(frozen=True)
class Verification:
    """Whether two recordings hold the same voice, and what that rests on.

    score: cosine of the two embeddings, in [-1, 1]. llr: natural logarithm of how many times likelier this score is
    from one voice than from two; None if the model's card has no calibration. same: score >= threshold.
    threshold_reason: why this threshold. a, b: the quality of the two recordings.
    """

    score: float
    llr: float | None
    same: bool
    threshold: float
    threshold_reason: str
    model: str
    a: Quality
    b: Quality

    @property
    def warnings(self) -> list[str]:
        """What makes this decision less sure, the first recording's then the second's."""
        return [f"first: {w}" for w in self.a.warnings] + [f"second: {w}" for w in self.b.warnings]


def load(
    model: str | os.PathLike = "default", device: str = "cpu", offline: bool = False, max_hours: float = MAX_HOURS
) -> "Verifier":
    """A `Verifier` for a card's name, a folder with `card.yaml` and `model.onnx`, or a hub id; fetched if need be.

    device: "cpu" or "cuda". offline: touch no network. max_hours: refuse longer recordings.
    Raises HubError if there is no such model or it can't be fetched, ValueError for a device that isn't there.
    """
    card, path = find_model(model, offline)
    return Verifier(card, path, device, max_hours)


class Verifier:
    """A model ready to embed and compare. Made by `samevoice.load`; safe to share between threads."""

    def __init__(self, card: cards.Card, path: Path, device: str = "cpu", max_hours: float = MAX_HOURS):
        self.card = card
        self.max_hours = max_hours
        self._network = Session(path, device)

    def embed(self, audio: Audio) -> np.ndarray:
        """The embedding of one recording, float32 (dim,).

        audio: a path, bytes, an open binary file, or (samples, rate). A recording over a minute is embedded minute by
        minute, and directions and lengths are averaged by seconds of speech.
        Raises AudioError for anything that no voice can be told from.
        """
        return self.embed_many([audio])[0]

    def embed_many(self, audios: Sequence[Audio], batch_size: int = 16) -> np.ndarray:
        """The embeddings of several recordings, float32 (n, dim), each the same as it has alone.

        Raises AudioError at the first recording that can't be used (`embed_each` goes on), ValueError for none at all.
        """
        if not len(audios):
            raise ValueError("no recordings to embed")
        embeddings = {}
        for index, result in self.embed_each(audios, batch_size):
            if isinstance(result, AudioError):
                raise result
            embeddings[index] = result.embedding
        return np.stack([embeddings[i] for i in range(len(audios))])

    def embed_each(
        self, audios: Iterable[Audio], batch_size: int = 16
    ) -> Iterator[tuple[int, "Embedded | AudioError"]]:
        """(position, embedding and quality, or why not) of each recording, as soon as it is known.

        Only pieces with the same number of frames share a batch: padding would change an embedding.
        """
        numbered = enumerate(audios)
        given_up = Event()  # the pool waits for its readers, and hours of audio take one minutes
        with ThreadPoolExecutor(os.cpu_count()) as readers:
            try:
                while window := list(islice(numbered, _READ_AHEAD)):
                    read = readers.map(lambda item: (item[0], self._read(item[1], given_up)), window)
                    yield from self._embed_window(read, batch_size)
            finally:
                given_up.set()

    def verify(
        self, a: Audio, b: Audio, threshold: float | None = None, operating_point: str | None = None
    ) -> Verification:
        """Do these two recordings hold the same voice?

        threshold: the cosine from which they do. operating_point: take the card's threshold for a false-alarm rate,
        such as "far=0.1%". With neither, the threshold is where both answers are equally likely (llr = 0).
        Raises AudioError for a recording that can't be used, ValueError for an operating point the card has not.
        """
        limit, reason = self.threshold(threshold, operating_point)
        results = dict(self.embed_each([a, b]))
        first, second = results[0], results[1]
        if isinstance(first, AudioError):
            raise first
        if isinstance(second, AudioError):
            raise second
        return self.decide(first, second, limit, reason)

    def decide(self, a: Embedded, b: Embedded, threshold: float, reason: str) -> Verification:
        """`verify` for recordings already embedded, with what `threshold` gave."""
        score = cosine(a.embedding, b.embedding)
        llr = self.card.calibration.llr(score) if self.card.calibration else None
        same = score >= threshold
        return Verification(score, llr, same, threshold, reason, self.card.name, a.quality, b.quality)

    def threshold(self, threshold: float | None = None, operating_point: str | None = None) -> tuple[float, str]:
        """The cosine that divides same from different, and why it is that one. Raises ValueError if there is none."""
        if threshold is not None and operating_point is not None:
            raise ValueError("give a threshold or an operating point, not both")
        if threshold is not None:
            if not -1 <= threshold <= 1:
                raise ValueError(f"a threshold is a cosine between -1 and 1, not {threshold:g}")
            return threshold, "given by the caller"
        calibration = self.card.calibration
        if calibration is None:
            raise ValueError(
                f"{self.card.name} has not been calibrated, so only a threshold of your own can decide (--threshold); "
                f"`samevoice models calibrate {self.card.name} FOLDER` calibrates it on your recordings"
            )
        if operating_point is None:
            return -calibration.offset / calibration.slope, f"even odds (llr = 0) on {calibration.data}"
        point = calibration.operating_points.get(operating_point.removeprefix("far="))
        if point is None:
            valid = ", ".join(f"far={rate}" for rate in calibration.operating_points)
            raise ValueError(f"{self.card.name} has no operating point {operating_point!r}; valid: {valid}")
        return point.threshold, f"{operating_point} (misses {point.miss:.1%} there) on {calibration.data}"

    def _embed_window(
        self, read: "Iterator[tuple[int, tuple[Piece, Quality] | Embedded | AudioError]]", batch_size: int
    ) -> Iterator[tuple[int, "Embedded | AudioError"]]:
        waiting: dict[int, list[tuple[int, Piece, Quality]]] = defaultdict(list)  # by number of frames
        for index, result in read:
            if isinstance(result, tuple):
                piece, quality = result
                waiting[len(piece.features)].append((index, piece, quality))
            else:
                yield index, result
        for bucket in waiting.values():
            for start in range(0, len(bucket), batch_size):
                batch = bucket[start : start + batch_size]
                embeddings = self._network(np.stack([piece.features for _, piece, _ in batch]))
                for (index, _, quality), embedding in zip(batch, embeddings, strict=True):
                    yield index, Embedded(embedding, quality)

    def _read(self, audio: Audio, given_up: Event) -> "tuple[Piece, Quality] | Embedded | AudioError":
        """A recording of one piece, to be embedded with others of its length; a longer one's mean, embedded here."""
        try:
            recording = Recording(audio, self.card.features, self.max_hours, given_up)
            pieces = iter(recording)
            first, second = next(pieces, None), next(pieces, None)
            if first and not second:
                return first, recording.quality
            return Embedded(self._mean(piece for piece in chain((first, second), pieces) if piece), recording.quality)
        except AudioError as error:
            return error

    def _mean(self, pieces: Iterable[Piece]) -> np.ndarray:
        """One embedding of several pieces: the mean of their directions, and of their lengths, by seconds of speech."""
        total, length, seconds = np.float32(0), 0.0, 0.0
        for piece in pieces:
            embedding = self._network(piece.features[None])[0]
            norm = np.linalg.norm(embedding)
            total = total + embedding / norm * np.float32(piece.speech_seconds)
            length, seconds = length + float(norm) * piece.speech_seconds, seconds + piece.speech_seconds
        return np.asarray(total / np.linalg.norm(total) * np.float32(length / seconds))


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """The cosine of two vectors, in [-1, 1]."""
    value = float(np.dot(a, b) / (np.linalg.norm(a) * np.linalg.norm(b)))
    return min(max(value, -1.0), 1.0)

"""Embeddings that outlive the process: one SQLite file, keyed by the model's and the recording's content."""

import hashlib
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import astuple, dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from samevoice.audio.decode import Audio, AudioError
from samevoice.audio.quality import Quality
from samevoice.hub.cards import Card
from samevoice.runtime.verifier import Embedded, Verifier

VERSION = 2  # of how a recording becomes an embedding: another one keeps old entries from being used
_WINDOW = 64  # recordings between two commits: the most that Ctrl-C can lose
_TABLES = """
CREATE TABLE IF NOT EXISTS files (path TEXT PRIMARY KEY, size INTEGER, mtime_ns INTEGER, sha256 TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS embeddings (
    model TEXT, audio TEXT, treatment TEXT, embedding BLOB, problem TEXT,
    seconds REAL, speech_seconds REAL, snr_db REAL, clipping REAL, bandwidth_hz REAL,
    PRIMARY KEY (model, audio, treatment)
) WITHOUT ROWID;
"""


class CacheError(ValueError):
    """This file can't serve as a cache; the message names it and says why."""


@dataclass(frozen=True)
class Clip:
    """A recording, perhaps changed before it is embedded.

    path: of the file. treatment: what is done to it, in words that name all that decides the result ("first 3 s");
    "" for nothing. load: makes the changed recording, for a treatment.
    """

    path: str
    treatment: str = ""
    load: Callable[[], Audio] | None = None


def model_key(card: Card, path: Path) -> str:
    """What tells one model from another: its file's content and how its features are computed."""
    digest = hashlib.sha256(f"{VERSION} {card.features}".encode())
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


class EmbeddingCache:
    """Embeds what has not been embedded before; a context manager over one file, which several processes may share.

    Recordings are known by their content, so a moved or copied one is not embedded again; one whose path, size and
    time of change are as before is not even read. Refusals (AudioError) are kept like embeddings, but those of files
    that can't be opened are not. Every 64 recordings are committed, so an interrupted run goes on where it was.
    """

    def __init__(self, path: Path | str, model: str):
        """model: of `model_key`. Raises CacheError."""
        self.path, self.model = Path(path), model
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._database = sqlite3.connect(self.path, timeout=60)
            self._database.executescript(_TABLES)
        except sqlite3.Error as error:
            raise CacheError(f"{path}: not a cache of embeddings ({error}); delete it or name another file") from None

    def __enter__(self) -> "EmbeddingCache":
        return self

    def __exit__(self, *_) -> None:
        self._database.close()

    def __len__(self) -> int:
        """How many embeddings and refusals of this model there are."""
        return self._database.execute("SELECT count(*) FROM embeddings WHERE model = ?", [self.model]).fetchone()[0]

    def embed_each(
        self, verifier: Verifier, clips: Sequence[Clip], batch_size: int = 16
    ) -> Iterator[tuple[int, Embedded | AudioError]]:
        """(position, embedding and quality, or why not) of each clip, as soon as it is known: first what is kept.

        verifier: the model that `model` is the key of. Clips of the same content and treatment are embedded once.
        """
        places: dict[tuple[str, str], list[int]] = {}
        for index, clip in enumerate(clips):
            try:
                audio = self._hash(clip.path)
            except OSError as error:
                yield index, AudioError(clip.path, f"can't be opened: {error.strerror}")
                continue
            places.setdefault((audio, clip.treatment), []).append(index)
        self._database.commit()
        waiting = []
        for key, same in places.items():
            found = self._find(key, clips[same[0]].path)
            if found is None:
                waiting.append(key)
            else:
                yield from ((index, found) for index in same)
        queue = iter(waiting)
        while window := list(islice(queue, _WINDOW)):
            for number, result in _embed(verifier, [clips[places[key][0]] for key in window], batch_size):
                self._keep(window[number], result)
                yield from ((index, result) for index in places[window[number]])
            self._database.commit()

    def _hash(self, path: str) -> str:
        """sha256 of the file's content."""
        name = os.path.abspath(path)
        about = os.stat(name)
        known = self._database.execute("SELECT size, mtime_ns, sha256 FROM files WHERE path = ?", [name]).fetchone()
        if known and known[:2] == (about.st_size, about.st_mtime_ns):
            return known[2]
        with open(name, "rb") as file:
            digest = hashlib.sha256()
            while block := file.read(1 << 20):
                digest.update(block)
        row = (name, about.st_size, about.st_mtime_ns, digest.hexdigest())
        self._database.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)", row)
        return digest.hexdigest()

    def _find(self, key: tuple[str, str], path: str) -> Embedded | AudioError | None:
        query = "SELECT * FROM embeddings WHERE model = ? AND audio = ? AND treatment = ?"
        with closing(self._database.execute(query, [self.model, *key])) as rows:
            row = rows.fetchone()
        if row is None:
            return None
        if row[4] is not None:
            return AudioError(path, row[4])
        return Embedded(np.frombuffer(row[3], "<f4").astype(np.float32), Quality(*row[5:]))

    def _keep(self, key: tuple[str, str], result: Embedded | AudioError) -> None:
        if isinstance(result, AudioError):
            values = (None, result.problem, None, None, None, None, None)
        else:
            values = (result.embedding.astype("<f4").tobytes(), None, *astuple(result.quality))
        places = ", ".join("?" * (3 + len(values)))
        row = (self.model, *key, *values)
        self._database.execute(f"INSERT OR REPLACE INTO embeddings VALUES ({places})", row)


def _embed(verifier: Verifier, clips: Sequence[Clip], batch_size: int) -> Iterator[tuple[int, Embedded | AudioError]]:
    """`Verifier.embed_each` for clips; one that can't be loaded is told like one that can't be embedded."""
    numbers: list[int] = []
    audios: list[Audio] = []
    for number, clip in enumerate(clips):
        try:
            audios.append(clip.load() if clip.load else clip.path)
            numbers.append(number)
        except AudioError as error:
            yield number, error
    for at, result in verifier.embed_each(audios, batch_size):
        yield numbers[at], result


def embed_all(
    cache: EmbeddingCache,
    verifier: Verifier,
    clips: Sequence[Clip],
    track: Callable[[Iterable, int], Iterable] = lambda items, total: items,
) -> list[Embedded | AudioError]:
    """All results in the order of the clips. track: shows progress over an iterable of so many."""
    found = dict(track(cache.embed_each(verifier, clips), len(clips)))
    return [found[i] for i in range(len(clips))]

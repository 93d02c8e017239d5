"""What a corpus is to us, and what its walkers share."""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path


class CorpusError(ValueError):
    """The user's folder can't be taken for this corpus; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Found:
    """An utterance that was found but not yet decoded; the fields are the manifest's columns.

    duration: None for the rest of the file. problem: why it can't be used, if that is known already.
    """

    utterance: str
    speaker: str
    path: str
    split: str = ""
    session: str = ""
    gender: str = ""
    language: str = ""
    offset: float = 0.0
    duration: float | None = None
    problem: str = ""


@dataclass(frozen=True)
class Published:
    """How much of a part its authors say there is; None where they count no speakers."""

    speakers: int | None
    utterances: int


@dataclass(frozen=True)
class Corpus:
    """A walker, and what a person must know to get the corpus and to see whether it is all there.

    walk: (folder, **options) -> the utterances, in an order that doesn't change. layout: what it looks for.
    get: where to get the corpus, with its licence. published: by split. trials: names of lists that may lie in the
    folder, and how many trials each has. listed: (folder) -> the speakers that there should be, by split.
    """

    walk: Callable[..., Iterable[Found]]
    layout: str
    get: str = ""
    published: Mapping[str, Published] = field(default_factory=dict)
    trials: Mapping[str, int] = field(default_factory=dict)
    listed: Callable[[Path], Mapping[str, set[str]]] | None = None


def recordings(folder: Path) -> list[str]:
    """Paths of all recordings in a folder, sorted. Links to folders are followed: corpora often are such links."""
    from samevoice.audio.formats import SUFFIXES  # with numpy and more, which a list of corpora doesn't need

    found, seen = [], set()
    for place, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:  # a link back up
            folders.clear()
            continue
        seen.add(real)
        found += [os.path.join(place, name) for name in files if os.path.splitext(name)[1].lower() in SUFFIXES]
    return sorted(found)


def beside(folder: Path, name: str) -> Path | None:
    """A list or table that belongs to a corpus: in its folder, in the one around it, or in `meta` in either."""
    places = [folder, folder / "meta", folder.parent, folder.parent / "meta"]
    return next((place / name for place in places if (place / name).is_file()), None)


def gender(text: str | None) -> str:
    """`f`, `m`, an empty string for unknown, or what else it says, in small letters.

    >>> gender("Female"), gender("male_masculine"), gender(" M "), gender(None)
    ('f', 'm', 'm', '')
    """
    word = (text or "").strip().lower()
    return word[0] if word[:1] in ("f", "m") else word

"""Anybody's recordings: SPEAKER/any.wav, or SPEAKER/SESSION/any.wav."""

from collections.abc import Iterator
from pathlib import Path

from samevoice.data.corpora.corpus import Corpus, Found, recordings


def walk(folder: Path) -> Iterator[Found]:
    for path in recordings(folder):
        name = Path(path).relative_to(folder)
        if len(name.parts) > 1:  # what lies in the folder itself has no speaker
            session = "/".join(name.parts[:2]) if len(name.parts) > 2 else ""
            yield Found(name.as_posix(), name.parts[0], path, session=session)


CORPUS = Corpus(walk, layout="SPEAKER/recording.wav, or SPEAKER/SESSION/recording.wav")

"""MUSAN (Snyder, Chen and Povey, 2015): what the noise, music and babble of augmentation are drawn from."""

from collections.abc import Iterator
from pathlib import Path

from samevoice.data.corpora.corpus import Corpus, Found, Published, recordings

_KINDS = ("music", "speech", "noise")


def walk(folder: Path) -> Iterator[Found]:
    for path in recordings(folder):
        parts = Path(path).parts
        if len(parts) > 2 and (kind := parts[-3]) in _KINDS:
            stem = Path(path).stem  # speech-librivox-0004: one talker each, as far as MUSAN tells
            yield Found(stem, stem, path, split=kind, session=f"musan-{parts[-2]}")


CORPUS = Corpus(
    walk,
    layout="music|speech|noise/SOURCE/*.wav",
    get="""\
https://www.openslr.org/17 (public domain and CC BY; mirrors: https://openslr.trmal.net/17,
https://openslr.elda.org/17): musan.tar.gz, 11 GB.""",
    published={"music": Published(None, 660), "speech": Published(None, 426), "noise": Published(None, 930)},
)

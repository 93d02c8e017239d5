"""LibriSpeech (Panayotov, Chen, Povey and Khudanpur, ICASSP 2015)."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from samevoice.data.corpora.corpus import Corpus, Found, Published, beside, recordings

_UTTERANCE = re.compile(r"(\d+)-(\d+)-\d{4}$")
_SPLIT = re.compile(r"(train|dev|test)-(clean|other)(-\d+)?")


def walk(folder: Path) -> Iterator[Found]:
    about = _speakers(folder)
    for path in recordings(folder):
        stem = Path(path).stem
        if match := _UTTERANCE.match(stem):
            speaker, chapter = match.groups()
            splits = [part for part in Path(path).absolute().parts[:-1] if _SPLIT.fullmatch(part)]
            yield Found(
                utterance=stem,
                speaker=speaker,
                path=path,
                split=splits[-1] if splits else "",
                session=f"{speaker}-{chapter}",
                gender=about.get(speaker, ("", ""))[0],
                language="en",
            )


def _speakers(folder: Path) -> dict[str, tuple[str, str]]:
    """Gender and part of each speaker, from SPEAKERS.TXT: `14 | F | train-clean-360 | 25.03 | Kristin LeMoine`"""
    path = beside(folder, "SPEAKERS.TXT")
    if path is None:
        return {}
    lines = [line.split("|") for line in path.read_text().splitlines() if line and not line.startswith(";")]
    return {line[0].strip(): (line[1].strip().lower(), line[2].strip()) for line in lines}


def _listed(folder: Path) -> Mapping[str, set[str]]:
    speakers: dict[str, set[str]] = {}
    for speaker, (_, split) in _speakers(folder).items():
        speakers.setdefault(split, set()).add(speaker)
    return speakers


CORPUS = Corpus(
    walk,
    layout="train-clean-100/SPEAKER/CHAPTER/SPEAKER-CHAPTER-0000.flac and so on, any of its parts",
    get="""\
https://www.openslr.org/12 (CC BY 4.0; mirrors: https://openslr.trmal.net/12, https://openslr.elda.org/12):
train-clean-100.tar.gz (6 GB), train-clean-360, train-other-500, and the dev and test parts. Unpack them all in one
folder; they carry SPEAKERS.TXT (gender, and which speakers there are).""",
    published={
        "train-clean-100": Published(251, 28539),
        "train-clean-360": Published(921, 104014),
        "train-other-500": Published(1166, 148688),
        "dev-clean": Published(40, 2703),
        "dev-other": Published(33, 2864),
        "test-clean": Published(40, 2620),
        "test-other": Published(33, 2939),
    },
    listed=_listed,
)

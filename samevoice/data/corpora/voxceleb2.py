"""VoxCeleb2 (Chung, Nagrani and Zisserman, Interspeech 2018), in its own m4a or converted."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from samevoice.data.corpora.corpus import Corpus, Found, Published, gender
from samevoice.data.corpora.voxceleb1 import metadata, utterances

_TEST = re.compile(r"(vox2_)?test(_(aac|m4a|wav|flac|mp4))?")


def walk(folder: Path) -> Iterator[Found]:
    about = metadata(folder, "vox2_meta.csv")
    for path, speaker, video, number in utterances(folder):
        row = about.get(speaker, {})
        yield Found(
            utterance=f"{speaker}/{video}/{number}.wav",
            speaker=speaker,
            path=path,
            split=row.get("Set") or _split(folder, path),
            session=video,
            gender=gender(row.get("Gender")),
        )


def _split(folder: Path, path: str) -> str:
    """By the folders on the way: test/aac, vox2_test_aac; else dev, which is 97 % of it."""
    above = (folder.name, *Path(path).relative_to(folder).parts[:-3])
    return "test" if any(map(_TEST.fullmatch, above)) else "dev"


def _listed(folder: Path) -> Mapping[str, set[str]]:
    speakers: dict[str, set[str]] = {}
    for speaker, row in metadata(folder, "vox2_meta.csv").items():
        speakers.setdefault(row.get("Set", ""), set()).add(speaker)
    return speakers


CORPUS = Corpus(
    walk,
    layout="id00012/VIDEO/00001.m4a (or .wav, .flac), in any folders; the test part in test or vox2_test_aac",
    get="""\
Ask for it at https://mm.kaist.ac.kr/datasets/voxceleb/ or https://www.robots.ox.ac.uk/~vgg/data/voxceleb/
(CC BY 4.0; the audio comes by a form): vox2_dev_aac.zip, in parts to be joined, and vox2_test_aac.zip; 80 GB.
From the same pages, into the same folder: vox2_meta.csv (gender, and which speakers there are).
The m4a files are read as they are; --convert flac makes 16 kHz copies, which are quicker to read in training.""",
    published={"dev": Published(5994, 1092009), "test": Published(118, 36237)},
    listed=_listed,
)

"""VoxCeleb1 (Nagrani, Chung and Zisserman, Interspeech 2017): counts of its web page's verification split."""

import re
from collections.abc import Iterator
from pathlib import Path

from samevoice.data.corpora.corpus import Corpus, Found, Published, beside, gender, recordings

_UTTERANCE = re.compile(r"(id\d{5})/([^/]+)/(\d{5})\.\w+$")
TEST_SPEAKERS = {f"id{number}" for number in range(10270, 10310)}  # those whose names begin with E
ALL_SPEAKERS = {f"id{number}" for number in range(10001, 11252)}


def utterances(folder: Path) -> Iterator[tuple[str, str, str, str]]:
    """(path, speaker, video, number) of each id10001/VIDEO/00001.wav, whatever its ending and what is above it."""
    for path in recordings(folder):
        if match := _UTTERANCE.search(path.replace("\\", "/")):
            yield path, match[1], match[2], match[3]


def metadata(folder: Path, name: str) -> dict[str, dict[str, str]]:
    """The rows of vox1_meta.csv or vox2_meta.csv by speaker; none if it isn't there."""
    path = beside(folder, name)
    if path is None:
        return {}
    lines = [[cell.strip() for cell in re.split(r"[\t,]", line)] for line in path.read_text().splitlines() if line]
    return {line[0]: dict(zip(lines[0], line, strict=False)) for line in lines[1:]}


def walk(folder: Path) -> Iterator[Found]:
    about = metadata(folder, "vox1_meta.csv")
    for path, speaker, video, number in utterances(folder):
        yield Found(
            utterance=f"{speaker}/{video}/{number}.wav",
            speaker=speaker,
            path=path,
            split="test" if speaker in TEST_SPEAKERS else "dev",
            session=video,
            gender=gender(about.get(speaker, {}).get("Gender")),
        )


CORPUS = Corpus(
    walk,
    layout="id10001/VIDEO/00001.wav, in any folders (vox1_dev_wav/wav, vox1_test_wav/wav), test speakers by their id",
    get="""\
Ask for it at https://mm.kaist.ac.kr/datasets/voxceleb/ or https://www.robots.ox.ac.uk/~vgg/data/voxceleb/
(CC BY 4.0; the audio comes by a form): vox1_dev_wav.zip, in four parts to be joined, and vox1_test_wav.zip.
From the same pages, into the same folder: vox1_meta.csv (gender) and the cleaned trial lists veri_test2.txt (O),
list_test_all2.txt (E) and list_test_hard2.txt (H).""",
    published={"dev": Published(1211, 148642), "test": Published(40, 4874)},
    trials={"veri_test2.txt": 37611, "list_test_all2.txt": 579818, "list_test_hard2.txt": 550894},
    listed=lambda folder: {"dev": ALL_SPEAKERS - TEST_SPEAKERS, "test": TEST_SPEAKERS},
)

"""CN-Celeb 1 and 2 (Fan et al., ICASSP 2020; Li et al., Speech Communication 2022).

Counts are those of the released files that systems are trained on: 797 + 1,996 speakers, as training lists have them.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from samevoice.data.corpora.corpus import Corpus, Found, Published, recordings

_DATA = re.compile(r"(id\d{5})/([a-z_]+-\d+)-\d+\.\w+$")  # id00012/singing-01-002.flac
_EVAL = re.compile(r"eval/(enroll|test)/((id\d{5})-[\w-]+)\.\w+$")


def walk(folder: Path) -> Iterator[Found]:
    for path in recordings(folder):
        name = path.replace("\\", "/")
        if match := _EVAL.search(name):
            part, stem, speaker = match.groups()
            utterance = stem if part == "enroll" else f"test/{stem}.wav"  # as in eval/lists/trials.lst
            yield Found(utterance, speaker, path, split=f"eval-{part}", session=_session(stem), language="zh")
        elif match := _DATA.search(name):
            speaker, session = match.groups()
            utterance = f"{speaker}/{Path(path).stem}"
            yield Found(utterance, speaker, path, split=_split(speaker), session=f"{speaker}/{session}", language="zh")


def _split(speaker: str) -> str:
    """The files that the evaluation's were cut from are no training data: eval-source."""
    number = int(speaker[2:])
    return "cnceleb2" if number >= 10000 else "cnceleb1-dev" if number < 800 else "eval-source"


def _session(stem: str) -> str:
    """id00800-singing-01-001 -> id00800/singing-01; enrolments are put together from several."""
    parts = stem.split("-")
    return f"{parts[0]}/{'-'.join(parts[1:-1])}" if len(parts) > 3 else ""


CORPUS = Corpus(
    walk,
    layout="CN-Celeb_flac/data/id00012/singing-01-002.flac, CN-Celeb_flac/eval/enroll|test, CN-Celeb2_flac/data",
    get="""\
https://www.openslr.org/82 (CC BY-SA 4.0; mirrors: https://openslr.trmal.net/82, https://openslr.elda.org/82):
cn-celeb_v2.tar.gz (CN-Celeb1, 22 GB) and the parts of cn-celeb2_v2, to be joined. Unpack both in one folder.""",
    published={
        "cnceleb1-dev": Published(797, 107953),
        "cnceleb2": Published(1996, 524787),
        "eval-enroll": Published(196, 196),
        "eval-test": Published(200, 17777),
    },
)

"""RIRS_NOISES (Ko et al., ICASSP 2017): simulated and real room impulse responses, and noises."""

import re
from collections.abc import Iterator
from pathlib import Path

from samevoice.data.corpora.corpus import Corpus, Found, Published, recordings

_SIMULATED = re.compile(r"(smallroom|mediumroom|largeroom)/(Room\d+)/[^/]+$")


def walk(folder: Path) -> Iterator[Found]:
    for path in recordings(folder):
        name = Path(path).as_posix()
        relative = Path(path).relative_to(folder).as_posix()
        if match := _SIMULATED.search(name):
            room = f"{match.group(1)}-{match.group(2)}"
            yield Found(relative, room, path, split="rir", session=room)
        elif "real_rirs_isotropic_noises/" in name:
            noise = "noise" in Path(path).stem  # RVB2014_type1_noise_simroom1_1.wav; the others are responses
            yield Found(relative, relative, path, split="noise" if noise else "rir")
        elif "pointsource_noises/" in name:
            yield Found(relative, relative, path, split="noise")


CORPUS = Corpus(
    walk,
    layout="simulated_rirs/smallroom/Room001/*.wav and so on, real_rirs_isotropic_noises, pointsource_noises",
    get="""\
https://www.openslr.org/28 (Apache-2.0; mirrors: https://openslr.trmal.net/28, https://openslr.elda.org/28):
rirs_noises.zip, 1.3 GB. Without it, `samevoice prepare rirs --simulate -o OUT` makes rooms and noise.""",
    # 20,000 in each size of simulated room and 325 real ones; 92 of rooms and 843 of point sources
    published={"rir": Published(None, 60325), "noise": Published(None, 935)},
)

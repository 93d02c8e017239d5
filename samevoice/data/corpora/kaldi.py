"""A Kaldi data folder. Commands in wav.scp are never run: the file that they read is decoded by us."""

import shlex
from collections.abc import Iterator
from pathlib import Path

from samevoice.data.corpora.corpus import Corpus, CorpusError, Found, gender


def walk(folder: Path) -> Iterator[Found]:
    for name in ("wav.scp", "utt2spk"):
        if not (folder / name).is_file():
            raise CorpusError(f"{folder}: no {name}, so it is no Kaldi data folder")
    files = {key: _file(value, folder) for key, value in _table(folder / "wav.scp").items()}
    genders = _table(folder / "spk2gender")
    segments = _table(folder / "segments")  # utterance -> recording start end
    for utterance, speaker in _table(folder / "utt2spk").items():
        recording, start, end = segments[utterance].split() if utterance in segments else (utterance, "0", "-1")
        path, problem = files.get(recording, ("", f"{recording} is not in wav.scp"))
        if segments and utterance not in segments:
            path, problem = "", "is not in segments"
        yield Found(
            utterance=utterance,
            speaker=speaker,
            path=path or str(folder / "wav.scp"),
            session=recording if segments else "",
            gender=gender(genders.get(speaker)),
            offset=float(start),
            duration=None if float(end) < 0 else float(end) - float(start),
            problem=problem,
        )


def _table(path: Path) -> dict[str, str]:
    """Lines of `key value`; none if the file isn't there."""
    if not path.is_file():
        return {}
    lines = [line.split(maxsplit=1) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return {line[0]: line[1].strip() if len(line) > 1 else "" for line in lines}


def _file(value: str, folder: Path) -> tuple[str, str]:
    """(path, "") of a value of wav.scp, or ("", why not)."""
    if not value.endswith("|"):
        return _path(value, folder), ""
    try:
        words = shlex.split(value.rstrip("|"))
    except ValueError:
        words = []
    there = {found for word in words if (found := _path(word, folder)) and Path(found).is_file()}
    if len(there) != 1:
        return "", f"wav.scp has a command that doesn't read one file that is there, and we run none: {value}"
    return there.pop(), ""


def _path(value: str, folder: Path) -> str:
    """Kaldi's paths are relative to where its scripts run, so the working directory comes first."""
    here = Path(value).absolute()
    return str(here if here.exists() else folder / value)


CORPUS = Corpus(walk, layout="wav.scp and utt2spk; segments and spk2gender are used if they are there")

"""A table of recordings, by the names that such tables give their columns (Common Voice's among them)."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from samevoice.data.corpora.corpus import Corpus, CorpusError, Found, gender

SPEAKER_NAMES = ("speaker", "speaker_id", "client_id", "spk", "spk_id", "speakerid")
_NAMES = {
    "path": ("path", "file", "filename", "wav", "audio", "audio_path"),
    "speaker": SPEAKER_NAMES,
    "utterance": ("utterance", "utterance_id", "utt", "utt_id", "id"),
    "offset": ("offset", "start"),
    "duration": ("duration",),
    "split": ("split", "set", "subset"),
    "session": ("session", "session_id", "video", "chapter", "chapter_id"),
    "gender": ("gender", "sex"),
    "language": ("language", "lang", "locale"),
}


def column(wanted: str | None, names: Sequence[str], header: Sequence[str], what: str, place: Path) -> str | None:
    """The column that the user named, else the first of the usual names that is there. CorpusError if theirs isn't."""
    if wanted is not None and wanted not in header:
        raise CorpusError(f"{place}: no column {wanted!r} for the {what}; it has {', '.join(header)}")
    lower = {name.lower(): name for name in reversed(header)}
    return wanted or next((lower[name] for name in names if name in lower), None)


def walk(
    folder: Path, root: Path | None = None, path_column: str | None = None, speaker_column: str | None = None
) -> Iterator[Found]:
    """folder: the table. root: what its paths are relative to; its own folder if None."""
    try:
        with folder.open(newline="", encoding="utf-8-sig") as lines:
            yield from _rows(folder, lines, root or folder.parent, {"path": path_column, "speaker": speaker_column})
    except (UnicodeDecodeError, csv.Error, IsADirectoryError) as error:
        raise CorpusError(f"{folder}: not a CSV ({error})") from None


def _rows(place: Path, lines, root: Path, wanted: dict[str, str | None]) -> Iterator[Found]:
    reader = csv.DictReader(lines, delimiter="\t" if place.suffix == ".tsv" else ",")
    header = list(reader.fieldnames or [])
    at = {key: column(wanted.get(key), names, header, key, place) for key, names in _NAMES.items()}
    for key in ("path", "speaker"):
        if at[key] is None:
            raise CorpusError(
                f"{place}: which column has the {key}? Say it with --{key}-column; there are {', '.join(header)}"
            )
    for number, row in enumerate(reader, start=2):
        cell = {key: (row[name] or "").strip() if name else "" for key, name in at.items()}
        problem = "" if cell["path"] and cell["speaker"] else f"line {number} has no path or no speaker"
        try:
            offset, duration = float(cell["offset"] or 0), float(cell["duration"]) if cell["duration"] else None
        except ValueError:
            offset, duration, problem = 0.0, None, f"line {number}: the offset or the duration is not a number"
        whole = at["offset"] is None  # a duration without an offset only repeats how long the file is
        yield Found(
            utterance=cell["utterance"] or cell["path"] or f"line {number}",
            speaker=cell["speaker"],
            path=str(root / cell["path"]),
            split=cell["split"],
            session=cell["session"],
            gender=gender(cell["gender"]),
            language=cell["language"],
            offset=offset,
            duration=None if whole else duration,
            problem=problem,
        )


CORPUS = Corpus(walk, layout="a CSV (or .tsv) with a header and columns for path and speaker")

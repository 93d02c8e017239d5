"""A Hugging Face data set with sound in it, read by pyarrow: nothing of it is run, and `datasets` isn't needed."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from samevoice.data.corpora.corpus import Corpus, CorpusError, Found, gender
from samevoice.data.corpora.csv import SPEAKER_NAMES, column
from samevoice.files import replacing

_MAGIC = {b"RIFF": ".wav", b"fLaC": ".flac", b"OggS": ".ogg", b"ID3": ".mp3"}


def walk(
    folder: Path, copies: Path | None = None, offline: bool = False, speaker_column: str | None = None
) -> Iterator[Found]:
    """folder: the data set's files, or OWNER/NAME on the hub. copies: where sound inside tables is written as files."""
    if not folder.exists():
        folder = _download(folder.as_posix(), offline)
    copies = copies or folder / "audio"
    for path in sorted([*folder.rglob("*.parquet"), *folder.rglob("*.arrow")]):
        name = path.relative_to(folder).with_suffix("").as_posix()
        row = 0
        for batch in _batches(path):
            yield from _rows(batch, row, path, name, folder, copies, speaker_column)
            row += len(batch)


def _batches(path: Path) -> Iterator[pa.RecordBatch]:
    try:
        if path.suffix == ".parquet":
            yield from pq.ParquetFile(path).iter_batches(64)
        else:
            yield from pa.ipc.open_stream(pa.memory_map(str(path)))
    except pa.ArrowInvalid as error:
        raise CorpusError(f"{path}: damaged ({error}); download it again") from None


def _rows(batch, first: int, path: Path, name: str, folder: Path, copies: Path, speaker_column) -> Iterator[Found]:
    header = batch.schema.names
    sound = next((field.name for field in batch.schema if _is_sound(field.type)), None)
    speaker = column(speaker_column, SPEAKER_NAMES, header, "speaker", path)
    if sound is None or speaker is None:
        raise CorpusError(
            f"{path}: no column with {'sound' if sound is None else 'the speaker; say it with --speaker-column'}; "
            f"there are {', '.join(header)}"
        )
    others = {
        "gender": column(None, ("gender", "sex"), header, "gender", path),
        "language": column(None, ("language", "lang", "locale"), header, "language", path),
    }
    for number, row in enumerate(batch.select([sound, speaker, *filter(None, others.values())]).to_pylist(), first):
        utterance, audio = f"{name}/{number:06d}", row[sound] or {}
        file, problem = _file(audio, copies / f"{utterance}", folder)
        told = {key: str(row[at] or "") if at else "" for key, at in others.items()}
        yield Found(
            utterance=utterance,
            speaker=str(row[speaker]) if row[speaker] is not None else "",
            path=str(file),
            split=_split(path, folder),
            gender=gender(told["gender"]),
            language=told["language"],
            problem=problem if row[speaker] is not None else "has no speaker",
        )


def _is_sound(kind: pa.DataType) -> bool:
    return pa.types.is_struct(kind) and {"bytes", "path"} <= {kind.field(i).name for i in range(kind.num_fields)}


def _file(audio: dict, target: Path, folder: Path) -> tuple[Path, str]:
    """The file of one cell, written to `target` with its ending when the cell holds the sound itself."""
    content, told = audio.get("bytes"), audio.get("path") or ""
    if content is None:
        return folder / told, "" if told else "its cell holds no sound"
    suffix = Path(told).suffix.lower()
    if not re.fullmatch(r"\.\w{1,5}", suffix):
        suffix = next((ending for magic, ending in _MAGIC.items() if content.startswith(magic)), ".audio")
    target = target.with_name(target.name + suffix)
    if not target.exists() or target.stat().st_size != len(content):
        with replacing(target) as temporary:
            temporary.write_bytes(content)
    return target, ""


def _split(path: Path, folder: Path) -> str:
    """train-00000-of-00002.parquet -> train; train/data-00000-of-00002.arrow -> train"""
    word = re.split(r"[-.]", path.name)[0]
    return path.parent.name if word in ("data", "") or (word.isdigit() and path.parent != folder) else word


def _download(name: str, offline: bool) -> Path:
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise CorpusError(f"{name}: no such folder, and no OWNER/NAME of a data set on the hub")
    import huggingface_hub

    offline = offline or os.environ.get("SAMEVOICE_OFFLINE", "") not in ("", "0")
    try:
        place = huggingface_hub.snapshot_download(
            name, repo_type="dataset", allow_patterns=["*.parquet"], local_files_only=offline
        )
    except Exception as error:  # its own errors and those of its HTTP library, which differs from release to release
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CorpusError(f"data set {name}: {reason}; download it and give its folder") from None
    return Path(place)


CORPUS = Corpus(
    walk,
    layout="*.parquet or *.arrow with a column of sound and one for the speaker",
    get="https://huggingface.co/datasets; gated ones need `hf auth login` first.",
)

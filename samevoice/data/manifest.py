"""The one list of recordings that everything after `samevoice prepare` reads: a Parquet table, a row an utterance."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from samevoice.files import replacing

SCHEMA = pa.schema(
    [
        ("utterance", pa.string()),  # unique; the name that the corpus's trial lists use, where it has them
        ("speaker", pa.string()),
        ("path", pa.string()),  # of the file, relative to the folder that the file's metadata calls `root`
        ("offset", pa.float64()),  # where the utterance starts in the file, s
        ("duration", pa.float64()),  # how long it is, s
        ("rate", pa.int32()),  # of the file, Hz
        ("split", pa.string()),  # the corpus's own part, or ""
        ("session", pa.string()),  # the video, chapter or call, unique over the corpus, or "" if unknown
        ("gender", pa.string()),  # "f", "m", or ""
        ("language", pa.string()),  # as the corpus says it, or ""
    ]
)
OPTIONAL = {"split", "session", "gender", "language"}  # may be left out; "" then
_ROOT = b"root"


class ManifestError(ValueError):
    """This table is no manifest; the message says which column or row, and why."""


def write(path: Path | str, rows: Iterable[Mapping] | pa.Table, root: Path | str | None = None) -> pa.Table:
    """Check the rows, sort nothing, write them atomically, and return them as a table.

    rows: mappings or a table with the columns of SCHEMA; those of OPTIONAL may be left out, others are kept.
    root: the folder that relative paths are relative to; the manifest's own folder if None. Raises ManifestError.
    """
    table = validate(rows if isinstance(rows, pa.Table) else _table(rows))
    folder = Path(root) if root is not None else Path(path).parent
    kept = table.replace_schema_metadata({_ROOT: os.fsencode(folder.absolute())})
    with replacing(Path(path)) as temporary:
        pq.write_table(kept, temporary, compression="zstd")
    return table


def read(path: Path | str, root: Path | str | None = None) -> pa.Table:
    """The table, checked, its paths joined to the folder that they are relative to.

    root: that folder, when the recordings have moved since the manifest was written. Raises ManifestError.
    """
    if not Path(path).is_file():
        raise ManifestError(f"{path}: no such file; write it with `samevoice prepare`")
    try:
        table = pq.read_table(path)
    except pa.ArrowInvalid as error:
        raise ManifestError(f"{path}: not a Parquet file ({error}); write it with `samevoice prepare`") from None
    try:
        table = validate(table)
    except ManifestError as error:
        raise ManifestError(f"{path}: {error}") from None
    stored = (table.schema.metadata or {}).get(_ROOT)
    folder = Path(root) if root is not None else Path(os.fsdecode(stored) if stored else Path(path).parent)
    paths = [os.path.join(folder, name) for name in table["path"].to_pylist()]
    return table.set_column(table.schema.get_field_index("path"), "path", pa.array(paths, pa.string()))


def together(tables: Mapping[str, pa.Table], shared_speakers: bool = False) -> pa.Table:
    """Several corpora as one.

    tables: what messages call each, and the table. shared_speakers: a speaker's name that two of them have is one
    person; otherwise that is refused (LibriSpeech's speaker 1089 isn't somebody else's 1089). Raises ManifestError.
    """
    owner: dict[str, str] = {}
    for name, table in tables.items():
        for speaker in [] if shared_speakers else table["speaker"].unique().to_pylist():
            if speaker in owner:
                raise ManifestError(
                    f"speaker {speaker!r} is in {owner[speaker]} and in {name}; prepare one of them with --prefix, "
                    "or say that they are the same person (shared_speakers)"
                )
            owner[speaker] = name
    return validate(pa.concat_tables(tables.values(), promote_options="default"))


def validate(table: pa.Table) -> pa.Table:
    """The table with SCHEMA's columns first and in its types; ManifestError says what is wrong with it."""
    columns = {}
    for field in SCHEMA:
        if field.name in table.column_names:
            try:
                columns[field.name] = table[field.name].cast(field.type)
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
                raise ManifestError(f"column {field.name} is not {field.type}: {error}") from None
        elif field.name in OPTIONAL:
            columns[field.name] = pa.array([""] * len(table), field.type)
        else:
            raise ManifestError(f"there is no column {field.name}; it has {', '.join(table.column_names)}")
        if columns[field.name].null_count:
            if field.name not in OPTIONAL:
                raise ManifestError(f"column {field.name} is empty in {columns[field.name].null_count} rows")
            columns[field.name] = columns[field.name].fill_null("")
    others = {name: table[name] for name in table.column_names if name not in columns}
    checked = pa.table({**columns, **others}, metadata=table.schema.metadata)
    for name in ("utterance", "speaker", "path"):
        _refuse(checked, _values(checked, name) == "", f"an empty {name}")
    _refuse(checked, ~(_values(checked, "offset") >= 0), "a negative offset")
    _refuse(checked, ~(_values(checked, "duration") > 0), "a duration that is not positive")
    _refuse(checked, _values(checked, "rate") <= 0, "a rate that is not positive")
    if len(checked["utterance"].unique()) < len(checked):
        twice = [name for name, count in Counter(checked["utterance"].to_pylist()).items() if count > 1]
        raise ManifestError(f"{len(twice)} utterance names are there more than once, such as {twice[0]!r}")
    return checked


def _values(table: pa.Table, column: str) -> np.ndarray:
    return table[column].to_numpy()


def _table(rows: Iterable[Mapping]) -> pa.Table:
    rows = list(rows)
    return pa.Table.from_pylist(rows) if rows else SCHEMA.empty_table()


def _refuse(table: pa.Table, wrong: np.ndarray, what: str) -> None:
    if wrong.any():
        row = table.slice(int(wrong.argmax()), 1).to_pylist()[0]
        raise ManifestError(f"{wrong.sum()} rows have {what}, such as utterance {row['utterance']!r} ({row['path']})")

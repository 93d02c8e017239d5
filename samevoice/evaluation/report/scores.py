"""Every entry's scores beside its report, in `scores.parquet`: for comparing, fusing and looking at single trials."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from samevoice.evaluation.trials import Trials
from samevoice.files import replacing

FILE = "scores.parquet"
_TEXT = ("enrol", "test", "enrol_speaker", "test_speaker")


class ScoresError(ValueError):
    """This file holds no scores of a report; the message names it."""


@dataclass(frozen=True)
class Scores:
    """table: a row a trial, with the columns enrol, test, label, enrol_speaker, test_speaker, and one of float32 for
    each entry (`column`), null where a recording could not be used under its condition.
    """

    table: pa.Table

    def __len__(self) -> int:
        return len(self.table)

    @property
    def labels(self) -> np.ndarray:
        return self.table["label"].to_numpy()

    def of(self, entry: Mapping[str, Any]) -> np.ndarray | None:
        """float64 (trials,), NaN for trials left out; None if there is no such entry."""
        name = column(entry)
        return self.table[name].to_numpy().astype(np.float64) if name in self.table.column_names else None

    def names(self, side: str) -> tuple[np.ndarray, np.ndarray]:
        """One of the text columns as codes (trials,) and what they stand for, text (values,)."""
        texts = self.table[side].combine_chunks()
        return texts.indices.to_numpy(), np.array(texts.dictionary.to_pylist(), np.str_)

    def speakers(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """Of these trials' enrolments and tests, numbers (rows,) each; None if some are not known."""
        sides = [self.names(side) for side in ("enrol_speaker", "test_speaker")]
        names = np.unique(np.concatenate([texts for _, texts in sides]))
        if "" in names:
            return None
        enrol, test = (np.searchsorted(names, texts)[codes[rows]] for codes, texts in sides)
        return enrol, test

    def replaced(self, entries: Mapping[str, np.ndarray]) -> "Scores":
        """The same trials with other entries."""
        return Scores(_with_entries(self.table.select([*_TEXT[:2], "label", *_TEXT[2:]]), entries))


def column(entry: Mapping[str, Any]) -> str:
    return f"{entry['scoring']}, {entry['condition']}"


def collect(trials: Trials, speakers: Mapping[str, str], entries: Mapping[str, np.ndarray]) -> Scores:
    """speakers: of each utterance. entries: scores (trials,) by `column`, NaN for trials that were left out."""
    of_models = [speakers[some[0]] for some in trials.members]
    of_tests = [speakers[name] for name in trials.tests]
    columns = {
        "enrol": _coded(trials.enrolments, trials.enrol),
        "test": _coded(trials.tests, trials.test),
        "label": pa.array(trials.labels),
        "enrol_speaker": _coded(of_models, trials.enrol),
        "test_speaker": _coded(of_tests, trials.test),
    }
    return Scores(_with_entries(pa.table(columns), entries))


def write(scores: Scores, path: Path) -> None:
    with replacing(path) as temporary:
        pq.write_table(scores.table, temporary, compression="zstd")


def read(path: Path) -> Scores:
    """Raises ScoresError, OSError."""
    try:
        table = pq.read_table(path, memory_map=False)
    except pa.ArrowInvalid as error:
        raise ScoresError(f"{path}: not a Parquet file ({error})") from None
    if missing := {*_TEXT, "label"} - set(table.column_names):
        raise ScoresError(f"{path}: not the scores of a report: no column {', '.join(sorted(missing))}")
    for name in _TEXT:
        texts = table[name].combine_chunks()
        coded = texts if pa.types.is_dictionary(texts.type) else texts.dictionary_encode()
        table = table.set_column(table.schema.get_field_index(name), name, coded)
    return Scores(table)


def _with_entries(table: pa.Table, entries: Mapping[str, np.ndarray]) -> pa.Table:
    for name, scores in entries.items():
        table = table.append_column(name, pa.array(scores.astype(np.float32), mask=np.isnan(scores)))
    return table


def _coded(names: Sequence[str], rows: np.ndarray) -> pa.DictionaryArray:
    unique, codes = np.unique(np.array(names, np.str_), return_inverse=True)
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)[rows]), pa.array(unique.tolist()))

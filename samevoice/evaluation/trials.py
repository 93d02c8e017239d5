"""Trial lists: which recordings are compared with which, and whether they hold one speaker."""

import csv
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from samevoice.data.sampling import pairs
from samevoice.files import replacing

KINDS = ("balanced", "same-gender", "cross-session", "exhaustive")
MOST_PAIRS = 50_000_000  # an exhaustive list of more takes more memory than people expect
SHOWN = 3
_ENROL = ("enrolment", "enrollment", "enrol", "enroll", "modelid", "model", "reference", "utt1", "path1", "file1")
_TEST = ("test", "segmentid", "segment", "probe", "utt2", "path2", "file2")
_LABEL = ("label", "target", "targettype", "key", "same", "same_speaker")
_TARGET = {"1", "target", "tgt", "true", "same", "yes"}
_NONTARGET = {"0", "nontarget", "non-target", "nontgt", "imp", "impostor", "false", "different", "no"}
_LABELS = dict.fromkeys(_TARGET, True) | dict.fromkeys(_NONTARGET, False)


class TrialError(ValueError):
    """This list can't be used; the message says which line and why."""


@dataclass(frozen=True)
class Trials:
    """enrolments: names of the enrolled sides; members: the utterances of each (one, or several to be averaged).
    tests: names of tested utterances. enrol, test: int32 (trials,), positions in those. labels: bool (trials,), true
    for targets.
    """

    enrolments: tuple[str, ...]
    members: tuple[tuple[str, ...], ...]
    tests: tuple[str, ...]
    enrol: np.ndarray
    test: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def utterances(self) -> list[str]:
        """Every utterance that must be embedded, once, in the order of the list."""
        return list(dict.fromkeys([name for some in self.members for name in some] + list(self.tests)))


@dataclass(frozen=True)
class Problems:
    """What is odd about a list. missing, contradictory, repeated, with_itself: examples first, all of them."""

    trials: int
    missing: tuple[str, ...]  # utterances that aren't there
    lost: int  # trials that need them
    contradictory: tuple[tuple[str, str], ...]  # pairs that are both target and nontarget
    repeated: tuple[tuple[str, str], ...]  # pairs that come again, in either order, with one label
    with_itself: tuple[str, ...]  # an utterance against itself

    @property
    def fatal(self) -> bool:
        """Whether a figure from this list would be wrong or incomplete."""
        return bool(self.missing or self.contradictory)

    def lines(self) -> list[str]:
        """What to tell a person; empty if all is well."""

        def such(examples: Sequence) -> str:
            shown = ", ".join(e if isinstance(e, str) else " ".join(e) for e in examples[:SHOWN])
            return f"{shown}{', ...' if len(examples) > SHOWN else ''}"

        told = []
        if self.contradictory:
            pairs = such(self.contradictory)
            told.append(f"{len(self.contradictory):,} pairs are called both target and nontarget: {pairs}")
        if self.missing:
            lost = f"{self.lost:,} of {self.trials:,} trials need them"
            told.append(f"{len(self.missing):,} recordings are missing, {lost}: {such(self.missing)}")
        if self.repeated:
            told.append(f"{len(self.repeated):,} pairs come more than once: {such(self.repeated)}")
        if self.with_itself:
            told.append(f"{len(self.with_itself):,} utterances are compared with themselves: {such(self.with_itself)}")
        return told


def of_rows(
    rows: Sequence[tuple[str, str, bool]], enrolments: Mapping[str, Sequence[str]] | None = None, where: str = "trials"
) -> Trials:
    """Trials from (enrolment, test, target). enrolments: the utterances of each model; None if they are utterances."""
    if not rows:
        raise TrialError(f"{where}: holds no trials")
    sides = tuple(dict.fromkeys(a for a, _, _ in rows))
    tests = tuple(dict.fromkeys(b for _, b, _ in rows))
    place, test_place = {a: i for i, a in enumerate(sides)}, {b: i for i, b in enumerate(tests)}
    if enrolments is None:
        members = tuple((name,) for name in sides)
    else:
        if unknown := [name for name in sides if not enrolments.get(name)]:
            raise TrialError(f"{where}: {len(unknown)} models have no enrolment recordings, such as {unknown[0]}")
        members = tuple(tuple(enrolments[name]) for name in sides)
    return Trials(
        sides,
        members,
        tests,
        np.fromiter((place[a] for a, _, _ in rows), np.int32, len(rows)),
        np.fromiter((test_place[b] for _, b, _ in rows), np.int32, len(rows)),
        np.fromiter((same for _, _, same in rows), bool, len(rows)),
    )


def read(path: Path | str, enrolments: Path | str | None = None) -> Trials:
    """A list in any of these forms, told apart by its ending and first line. Raises TrialError.

    VoxCeleb: `1 a b`. Kaldi: `a b target`. With a header (comma, tab or spaces between, as the first line has it):
    columns such as enrolment/modelid, test/segmentid and label/targettype, in any order, as NIST's keys have them.
    Parquet: the same columns; the enrolment column may hold lists of utterances, which are averaged.
    enrolments: a file with the utterances of each model (see `read_enrolments`), for lists of models.
    """
    path = Path(path)
    models = read_enrolments(enrolments) if enrolments is not None else None
    if path.suffix == ".parquet":
        return _of_parquet(path, models)
    lines = _lines(path)
    split = _splitter(lines[0][1])
    first = split(lines[0][1])
    header = [word.lower() for word in first]
    columns = [next((i for i, word in enumerate(header) if word in names), -1) for names in (_ENROL, _TEST, _LABEL)]
    if with_header := min(columns) >= 0:
        enrol, test, label = columns
    else:
        enrol, test, label = _order(path, first)
    most, rows = max(enrol, test, label), []
    for number, line in lines[with_header:]:
        found = split(line)
        if len(found) <= most or (len(found) > 3 and not with_header):
            raise TrialError(
                f"{path}, line {number}: {len(found)} words, not the {most + 1} of a trial: {line!r}; names with "
                "spaces need commas or tabs between them, and more columns a header"
            )
        same = _LABELS.get(found[label])
        rows.append((found[enrol], found[test], _label(found[label], path, number) if same is None else same))
    return of_rows(rows, models, str(path))


def read_enrolments(path: Path | str) -> dict[str, list[str]]:
    """The utterances of each model: lines `model utterance [utterance ...]` (Kaldi's spk2utt; several lines of one
    model add up), or NIST's `modelid segmentid` with that header. Raises TrialError.
    """
    lines = _lines(Path(path))
    split = _splitter(lines[0][1])
    header = [word.lower() for word in split(lines[0][1])][:2]
    nist = len(header) == 2 and header[0] in _ENROL and header[1] in _TEST
    models: dict[str, list[str]] = {}
    for number, line in lines[nist:]:
        model, *utterances = split(line)[: 2 if nist else None]
        if not utterances:
            raise TrialError(f"{path}, line {number}: no utterance for {model}")
        models.setdefault(model, []).extend(u for u in utterances if u not in models.get(model, ()))
    return models


def write(trials: Trials, path: Path | str) -> None:
    """By the ending: .csv and .parquet with a header, .kaldi as `a b target`, all else as VoxCeleb's `1 a b`.

    Enrolments of several utterances can be written to Parquet only, names with spaces to .csv too; TrialError.
    """
    path = Path(path)
    several = any(len(some) > 1 for some in trials.members)
    if several and path.suffix != ".parquet":
        raise TrialError(f"{path}: enrolments of several utterances can only be written to .parquet")
    names = trials.utterances
    if path.suffix not in (".csv", ".parquet") and (spaced := [name for name in names if len(name.split()) != 1]):
        raise TrialError(f"{path}: {spaced[0]!r} has spaces; write a .csv or .parquet")
    first = [trials.members[i][0] for i in trials.enrol]
    second = [trials.tests[i] for i in trials.test]
    same = trials.labels.tolist()
    with replacing(path) as temporary:
        if path.suffix == ".parquet":
            sides = [list(trials.members[i]) for i in trials.enrol] if several else first
            pq.write_table(pa.table({"enrolment": sides, "test": second, "label": same}), temporary)
            return
        with temporary.open("w", newline="", encoding="utf-8") as file:
            if path.suffix == ".csv":
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(["enrolment", "test", "label"])
                writer.writerows((a, b, int(s)) for a, b, s in zip(first, second, same, strict=True))
            elif path.suffix == ".kaldi":
                kinds = ("nontarget", "target")
                file.writelines(f"{a} {b} {kinds[s]}\n" for a, b, s in zip(first, second, same, strict=True))
            else:
                file.writelines(f"{int(s)} {a} {b}\n" for a, b, s in zip(first, second, same, strict=True))


def check(trials: Trials, available: Container[str]) -> Problems:
    """What is wrong, found before anything is embedded. available: the utterances that there are."""
    missing = tuple(name for name in trials.utterances if name not in available)
    gone = set(missing)
    without = np.array([any(name in gone for name in some) for some in trials.members])
    absent = np.array([name in gone for name in trials.tests])
    lost = int((without[trials.enrol] | absent[trials.test]).sum())
    sides, tests, codes = _codes(trials)
    unique, first, counts = np.unique(codes, return_index=True, return_counts=True)
    targets = np.bincount(np.searchsorted(unique, codes), trials.labels)
    both = (targets > 0) & (targets < counts)
    itself = np.unique(sides[sides == tests], return_index=True)[1]
    own = np.flatnonzero(sides == tests)[itself]

    def names(at: np.ndarray) -> tuple[tuple[str, str], ...]:
        return tuple((trials.enrolments[trials.enrol[i]], trials.tests[trials.test[i]]) for i in np.sort(at))

    return Problems(
        trials=len(trials),
        missing=missing,
        lost=lost,
        contradictory=names(first[both]),
        repeated=names(first[(counts > 1) & ~both]),
        with_itself=tuple(trials.tests[trials.test[i]] for i in np.sort(own)),
    )


def without(trials: Trials, missing: Container[str]) -> Trials:
    """The trials that need none of these utterances. Raises TrialError if that leaves none."""
    side = np.array([not any(name in missing for name in some) for some in trials.members])
    test = np.array([name not in missing for name in trials.tests])
    kept = side[trials.enrol] & test[trials.test]
    if not kept.any():
        raise TrialError("no trial is left whose recordings are all there")
    enrol, new_enrol = np.unique(trials.enrol[kept], return_inverse=True)
    tests, new_test = np.unique(trials.test[kept], return_inverse=True)
    return Trials(
        tuple(trials.enrolments[i] for i in enrol),
        tuple(trials.members[i] for i in enrol),
        tuple(trials.tests[i] for i in tests),
        new_enrol.astype(np.int32),
        new_test.astype(np.int32),
        trials.labels[kept],
    )


def make(table: pa.Table, kind: str, count: int = 10_000, nontargets: int | None = None, seed: int = 0) -> Trials:
    """A new list over a manifest's recordings; the same for the same seed, whatever the order of its rows.

    kind: "balanced" draws `count` targets and as many nontargets, speakers in turn; "same-gender" the same with
    nontargets within a gender; "cross-session" the same with the two sides of every pair in two known sessions;
    "exhaustive" is every pair once (`count` and `seed` play no part). nontargets: how many instead; with None there are
    as many of one kind as of the other, fewer than `count` when there are no more. Raises TrialError.
    """
    if kind not in KINDS:
        raise TrialError(f"unknown kind {kind!r}; valid: {', '.join(KINDS)}")
    if kind == "exhaustive":
        made = all_pairs(table["utterance"].to_pylist(), table["speaker"].to_pylist())
        _both(made.labels, kind)
        return made
    _known(table["utterance"].to_pylist(), table["speaker"].to_pylist())
    if kind == "cross-session":
        known = np.array(table["session"].to_pylist(), object) != ""
        if not known.any():
            raise TrialError(
                "no recording has a session, so that no pair is known to cross two: a manifest or a CSV says it in the "
                "column session, a folder by SPEAKER/SESSION/RECORDING"
            )
        table = table.filter(pa.array(known))
    else:
        table = table.set_column(table.schema.get_field_index("session"), "session", pa.array([""] * len(table)))
    if kind == "same-gender" and not any(table["gender"].to_pylist()):
        raise TrialError("no recording has a gender: a manifest or a CSV says it in the column gender")
    wanted = count if nontargets is None else nontargets
    left, right, same = pairs(table, count, wanted, seed, same_gender=kind == "same-gender")
    _both(same, kind)
    if nontargets is None:
        each = min(int(same.sum()), int((~same).sum()))
        kept = np.concatenate([np.flatnonzero(same)[:each], np.flatnonzero(~same)[:each]])
        left, right, same = left[kept], right[kept], same[kept]
    names = table["utterance"].to_pylist()
    return of_rows([(names[a], names[b], bool(s)) for a, b, s in zip(left, right, same, strict=True)])


def all_pairs(names: Sequence[str], speakers: Sequence[str] | np.ndarray) -> Trials:
    """Every pair of recordings once. Memory: 9 bytes a pair, and 16 while it is made. Raises TrialError."""
    n = len(names)
    _known(names, speakers)
    if n * (n - 1) // 2 > MOST_PAIRS:
        raise TrialError(f"{n:,} recordings make {n * (n - 1) // 2:,} pairs, over {MOST_PAIRS:,}: draw some of them")
    if n < 2:
        raise TrialError(f"{n} recordings make no pair")
    numbers = np.unique(np.asarray(speakers, object).astype(str), return_inverse=True)[1]
    rows, columns = np.triu_indices(n, 1)
    everyone = tuple(names)
    enrol, test = rows.astype(np.int32), columns.astype(np.int32)
    return Trials(
        everyone, tuple((name,) for name in everyone), everyone, enrol, test, numbers[rows] == numbers[columns]
    )


def _known(names: Sequence[str], speakers: Sequence[str] | np.ndarray) -> None:
    """Recordings whose speaker isn't known make no trials: they would pass for one person."""
    if unknown := [name for name, speaker in zip(names, speakers, strict=True) if not speaker]:
        raise TrialError(
            f"{len(unknown):,} of {len(names):,} recordings have no speaker, such as {unknown[0]}: a manifest or a CSV "
            "says it in the column speaker, a folder by SPEAKER/RECORDING"
        )


def _both(same: np.ndarray, kind: str) -> None:
    targets, nontargets = int(same.sum()), int((~same).sum())
    if not targets or not nontargets:
        raise TrialError(
            f"{kind}: {targets:,} targets and {nontargets:,} nontargets are all there are; both are needed"
        )


def _codes(trials: Trials) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Numbers of both sides in one name space, and one number for each unordered pair: three int64 (trials,)."""
    number: dict[tuple[str, ...], int] = {}
    sides = [number.setdefault(tuple(sorted(some)), len(number)) for some in trials.members]
    tests = [number.setdefault((name,), len(number)) for name in trials.tests]
    a, b = np.array(sides, np.int64)[trials.enrol], np.array(tests, np.int64)[trials.test]
    return a, b, np.minimum(a, b) * len(number) + np.maximum(a, b)


def _lines(path: Path) -> list[tuple[int, str]]:
    """(number, line) of every line that says something."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise TrialError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise TrialError(f"{path}: not a list of trials ({error})") from None
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not lines:
        raise TrialError(f"{path}: is empty")
    return lines


def _splitter(first: str) -> Callable[[str], list[str]]:
    """What takes a line of this list apart: at tabs, or commas, or spaces, whichever the first line has.

    `1 a,b c` is taken apart at spaces, because that makes a trial of it.
    """
    if "\t" in first:
        return lambda line: [word.strip() for word in line.split("\t")]
    words = first.split()
    trial = len(words) == 3 and (words[0] in ("0", "1") or words[2].lower() in _LABELS) and words[0][-1] != ","
    return _cells if "," in first and not trial else str.split


def _cells(line: str) -> list[str]:
    cells = next(csv.reader([line])) if '"' in line else line.split(",")
    return [cell.strip() for cell in cells]


def _order(path: Path, words: list[str]) -> tuple[int, int, int]:
    """Where enrolment, test and label are in a line without header."""
    if len(words) >= 3:
        if words[2].lower() in _LABELS.keys() - {"0", "1"}:
            return 0, 1, 2
        if words[0] in ("0", "1"):
            return 1, 2, 0
        if words[2].lower() in _LABELS:
            return 0, 1, 2
    raise TrialError(
        f"{path}: the first line {' '.join(words)!r} is neither `1 a b`, `a b target`, nor a header with an enrolment, "
        "a test and a label"
    )


def _label(word: str, path: Path, line: int | None = None) -> bool:
    same = _LABELS.get(word.lower())
    if same is None:
        where = f"{path}, line {line}" if line else f"{path}"
        raise TrialError(f"{where}: {word!r} is neither target nor nontarget")
    return same


def _of_parquet(path: Path, models: Mapping[str, Sequence[str]] | None) -> Trials:
    try:
        table = pq.read_table(path)
    except FileNotFoundError:
        raise TrialError(f"{path}: no such file") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise TrialError(f"{path}: not a Parquet file ({error})") from None
    found = {name.lower(): name for name in table.column_names}
    columns = []
    for kind, names in (("enrolment", _ENROL), ("test", _TEST), ("label", _LABEL)):
        name = next((found[name] for name in names if name in found), "")
        if not name:
            raise TrialError(f"{path}: no column for the {kind}; it has {', '.join(table.column_names)}")
        columns.append(table[name].to_pylist())
    sides, tests, labels = columns
    if any(None in column for column in columns):
        raise TrialError(f"{path}: some cells are empty")
    if sides and isinstance(sides[0], list):
        models = {" ".join(side): side for side in sides}
        sides = [" ".join(side) for side in sides]
    same = [label if isinstance(label, bool) else _label(str(label), path) for label in labels]
    return of_rows(list(zip(map(str, sides), map(str, tests), same, strict=True)), models, str(path))

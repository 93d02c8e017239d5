"""From a corpus as it was downloaded to a manifest: decode everything once, and tell what is missing or broken."""

import csv
import json
import os
import signal
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import soundfile

from samevoice.audio import RATE, AudioError, open_audio, resampled
from samevoice.data import manifest
from samevoice.data.corpora import Corpus, CorpusError, Found, Published
from samevoice.data.corpora.corpus import beside
from samevoice.files import replacing

MAX_HOURS = 24.0  # of one file; decoding needs no more memory for it
CHUNK = 32  # files that a worker is given at once
SLACK = 0.05  # seconds that a segment may reach past the end of its file

Track = Callable[[Iterable, int, str], Iterable]  # (items, how many, what is done) -> the items, shown as they pass


@dataclass(frozen=True)
class Task:
    """A file to decode, and where its 16 kHz copy goes, if one is wanted."""

    path: str
    target: str | None = None


@dataclass(frozen=True)
class Checked:
    """What decoding a file told: of its 16 kHz copy, if that was made."""

    path: str
    rate: int = 0
    duration: float = 0.0
    copied: bool = False
    problem: str = ""


@dataclass(frozen=True)
class Part:
    """What was found of one split, beside what its authors published."""

    split: str
    speakers: int
    utterances: int
    hours: float
    published: Published | None = None
    missing_speakers: list[str] = field(default_factory=list)  # where the corpus's own lists name them


@dataclass(frozen=True)
class Trials:
    """A trial list that lies beside the corpus."""

    name: str
    trials: int
    published: int
    missing: int  # utterances that it names and the manifest hasn't


@dataclass(frozen=True)
class Failure:
    """An utterance that the manifest leaves out."""

    utterance: str
    path: str
    problem: str


@dataclass(frozen=True)
class Summary:
    """What `prepare` did."""

    output: Path
    parts: list[Part]
    trials: list[Trials]
    failed: list[Failure]
    decoded: int  # files; the others were known from an earlier run

    @property
    def complete(self) -> bool:
        """Nothing is missing, as far as it is known how much there should be."""
        return not self.failed and all(
            part.published is None or part.utterances >= part.published.utterances for part in self.parts
        )


def prepare(
    corpus: Corpus,
    folder: Path,
    output: Path,
    jobs: int | None = None,
    convert: bool = False,
    prefix: str = "",
    recheck: bool = False,
    track: Track = lambda items, total, what: items,
    **options,
) -> Summary:
    """Write the manifest of what is in `folder`, and OUTPUT.failed.csv of what can't be used.

    jobs: processes that decode; one for each core if None, this one alone if 0. convert: write 16 kHz FLAC copies to
    a folder beside the manifest, which then names those. prefix: put before speakers, utterances and sessions.
    recheck: decode again what an earlier run has decoded. options: the corpus's own. An interrupted run keeps what it
    has decoded (.NAME.checked.jsonl beside the manifest), and so does a complete one: later runs decode what is new
    or changed. Raises CorpusError if the folder isn't this corpus, or nothing in it can be used.
    """
    found = list(track(corpus.walk(folder, **options), 0, "looking for recordings"))
    if not found:
        raise CorpusError(f"{folder}: nothing found; expected {corpus.layout}" + (f"\n{corpus.get}" * bool(corpus.get)))
    usable, failed = _sorted_out(found)
    copies = output.parent / f"{output.stem}-flac" if convert else None
    tasks = [Task(path, _target(path, folder, copies)) for path in dict.fromkeys(item.path for item in usable)]
    journal = Journal(output.parent / f".{output.stem}.checked.jsonl", fresh=recheck)
    with journal:
        new = [task for task in tasks if not journal.knows(task)]
        for checked in track(check_all(new, os.cpu_count() or 1 if jobs is None else jobs), len(new), "decoding"):
            journal.add(checked)
    rows = []
    for item in usable:
        row, problem = _row(item, journal.results[item.path], folder, copies, prefix)
        if problem:
            failed.append(Failure(item.utterance, item.path, problem))
        else:
            rows.append(row)
    _write_failed(output.with_suffix(".failed.csv"), failed)
    if not rows:
        first = f"; the first: {failed[0].path}: {failed[0].problem}"
        raise CorpusError(f"{folder}: none of {len(found)} utterances can be used{first}")
    manifest.write(output, rows, root=copies or folder)
    parts = _parts(corpus, folder, rows, prefix)
    return Summary(output, parts, _trials(corpus, folder, rows, prefix), failed, len(new))


def check_all(tasks: Sequence[Task], jobs: int) -> Iterator[Checked]:
    """Decode every file, in any order. A file that kills its process is reported like any other bad one."""
    if jobs == 0:
        yield from map(check, tasks)
        return
    left = list(tasks)
    while left:
        suspects: list[Task] = []
        done = 0
        for result in _in_pool(left, jobs, suspects):
            done += 1
            yield result
        if done == len(left):
            return
        yield from _one_by_one(suspects)
        left = left[done + len(suspects) :]


def check(task: Task) -> Checked:
    """Decode one file, and write its copy."""
    try:
        if os.path.exists(task.path) and not os.path.isfile(task.path):  # reading a pipe would never end
            return Checked(task.path, problem="is no regular file")
        source = open_audio(task.path, MAX_HOURS)
        if task.target is not None:
            return Checked(task.path, RATE, _copy(resampled(source), Path(task.target)) / RATE, copied=True)
        return Checked(task.path, source.rate, sum(map(len, source.blocks)) / source.rate)
    except AudioError as error:
        return Checked(task.path, problem=error.problem)
    except Exception as error:  # one file must not end the work on a million others
        return Checked(task.path, problem=f"{type(error).__name__}: {error}")


class Journal:
    """What has been decoded: a line of JSON for each file, written as it is known, so that a kill loses little.

    A file's line holds for as long as its size and its time of change stay, and its copy is there.
    """

    def __init__(self, path: Path, fresh: bool = False):
        self.results: dict[str, Checked] = {}
        self._stamps: dict[str, list[int]] = {}
        self._path = path
        self._unsaved = 0
        if fresh:
            path.unlink(missing_ok=True)

    def __enter__(self) -> "Journal":
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._path.open("a+", encoding="utf-8")
        self._file.seek(0)
        for line in self._file:
            try:
                path, stamp, *told = json.loads(line)
            except ValueError:  # the line that a kill cut short
                continue
            self._stamps[path], self.results[path] = stamp, Checked(path, *told)
        self._file.write("\n")  # so that a line cut short doesn't spoil the next
        return self

    def __exit__(self, *error) -> None:
        self._file.close()

    def knows(self, task: Task) -> bool:
        if self._stamps.get(task.path) != _stamp(task.path):
            return False
        copied = self.results[task.path].copied
        return not copied if task.target is None else copied and Path(task.target).is_file()

    def add(self, checked: Checked) -> None:
        """Failures are kept for this run only: the user may mend them before the next."""
        self.results[checked.path] = checked
        if not checked.problem:
            line = [checked.path, _stamp(checked.path), checked.rate, checked.duration, checked.copied]
            self._file.write(json.dumps(line) + "\n")
            self._unsaved += 1
            if self._unsaved % CHUNK == 0:
                self._file.flush()


def _stamp(path: str) -> list[int]:
    try:
        told = os.stat(path)
    except OSError:
        return []
    return [told.st_size, told.st_mtime_ns]


def _sorted_out(found: list[Found]) -> tuple[list[Found], list[Failure]]:
    """What is worth decoding, and what isn't: problems that the walker saw, and names that are there twice."""
    usable: dict[str, Found] = {}
    failed = []
    for item in found:
        problem = item.problem
        if not problem and item.utterance in usable:
            problem = f"is the same utterance as {usable[item.utterance].path}, which is used"
        if problem:
            failed.append(Failure(item.utterance, item.path, problem))
        else:
            usable[item.utterance] = item
    return list(usable.values()), failed


def _target(path: str, folder: Path, copies: Path | None) -> str | None:
    if copies is None:
        return None
    relative = os.path.relpath(path, folder)
    if relative.startswith(".."):  # a list may name files anywhere
        relative = path.lstrip(os.sep)
    return str(copies / f"{relative}.flac")


def _copy(blocks: Iterable[np.ndarray], target: Path) -> int:
    """Write 16-bit FLAC at 16 kHz; the number of samples."""
    samples = 0
    with (
        replacing(target) as temporary,
        soundfile.SoundFile(temporary, "w", RATE, 1, "PCM_16", format="FLAC") as file,
    ):
        for block in blocks:
            file.write(block)
            samples += len(block)
    return samples


def _row(item: Found, checked: Checked, folder: Path, copies: Path | None, prefix: str) -> tuple[dict, str]:
    duration = checked.duration - item.offset if item.duration is None else item.duration
    if checked.problem:
        return {}, checked.problem
    if duration <= 0:
        return {}, f"starts at {item.offset:g} s, and is to last {duration:g} s"
    if item.offset + duration > checked.duration + SLACK:
        return {}, f"ends at {item.offset + duration:.2f} s, and the file after {checked.duration:.2f} s"
    place = _target(item.path, folder, copies) or item.path
    root = copies or folder
    inside = os.path.relpath(place, root)
    return {
        "utterance": prefix + item.utterance,
        "speaker": prefix + item.speaker,
        "path": os.path.abspath(place) if inside.startswith("..") else inside,
        "offset": item.offset,
        "duration": min(duration, checked.duration - item.offset),
        "rate": checked.rate,
        "split": item.split,
        "session": prefix + item.session if item.session else "",
        "gender": item.gender,
        "language": item.language,
    }, ""


def _parts(corpus: Corpus, folder: Path, rows: list[dict], prefix: str) -> list[Part]:
    speakers: dict[str, set[str]] = defaultdict(set)
    utterances: Counter[str] = Counter()
    seconds: Counter[str] = Counter()
    for row in rows:
        speakers[row["split"]].add(row["speaker"].removeprefix(prefix))
        utterances[row["split"]] += 1
        seconds[row["split"]] += row["duration"]
    listed = corpus.listed(folder) if corpus.listed else {}
    return [
        Part(
            split,
            len(speakers[split]),
            utterances[split],
            seconds[split] / 3600,
            corpus.published.get(split),
            sorted(set(listed.get(split, ())) - speakers[split]) if split in utterances else [],
        )
        for split in dict.fromkeys([*corpus.published, *sorted(utterances)])
    ]


def _trials(corpus: Corpus, folder: Path, rows: list[dict], prefix: str) -> list[Trials]:
    there = {row["utterance"].removeprefix(prefix) for row in rows}
    lists = []
    for name, published in corpus.trials.items():
        if (path := beside(folder, name)) is not None:
            lines = [line.split() for line in path.read_text().splitlines() if line.strip()]
            lists.append(Trials(name, len(lines), published, len({u for line in lines for u in line[1:]} - there)))
    return lists


def _write_failed(path: Path, failed: list[Failure]) -> None:
    if not failed:
        path.unlink(missing_ok=True)
        return
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["utterance", "path", "problem"])
        writer.writerows((item.utterance, item.path, item.problem) for item in failed)


def processes(jobs: int) -> ProcessPoolExecutor:
    """Workers that leave Ctrl-C to us."""
    # spawn: a fork of a process with threads (progress bars, numerical libraries) may hang
    return ProcessPoolExecutor(jobs, get_context("spawn"), initializer=_ignore_interrupts)


def _ignore_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which lets us finish the file


def _check_chunk(tasks: list[Task]) -> list[Checked]:
    return [check(task) for task in tasks]


def _in_pool(tasks: list[Task], jobs: int, suspects: list[Task]) -> Iterator[Checked]:
    """Results until all are there or a process dies; then `suspects` are the tasks that were under way."""
    chunks = (tasks[i : i + CHUNK] for i in range(0, len(tasks), CHUNK))
    with processes(min(jobs, -(-len(tasks) // CHUNK))) as pool:
        running: dict[Future, list[Task]] = {}
        try:
            while True:
                for chunk in chunks:
                    running[pool.submit(_check_chunk, chunk)] = chunk
                    if len(running) >= 2 * jobs:
                        break
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    results = future.result()
                    del running[future]
                    yield from results
        except BrokenProcessPool:
            suspects += [task for chunk in running.values() for task in chunk]
        finally:
            pool.shutdown(cancel_futures=True)


def _one_by_one(tasks: list[Task]) -> Iterator[Checked]:
    """Slower, but it tells which file kills its process."""
    pool = processes(1)
    try:
        for task in tasks:
            try:
                yield pool.submit(check, task).result()
            except BrokenProcessPool:
                yield Checked(task.path, problem="made the decoder crash; write it again from its source")
                pool.shutdown()
                pool = processes(1)
    finally:
        pool.shutdown()

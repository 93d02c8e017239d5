"""Filter banks of whole utterances, each in several views, computed once: what training on a processor reads.

A folder holds `frames.f16`, the log mels of all views one after the other and without their mean subtracted, perhaps
`teacher.f32`, a teacher's embedding of each view, and `index.parquet`, a manifest with a row a view. Until that is
written, `journal.jsonl` says what of the two others is whole.
"""

import copy
import functools
import hashlib
import json
import logging
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import filelock
import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from samevoice.audio import RATE, AudioError
from samevoice.audio.fbank import SHIFT, WINDOW, FbankSettings
from samevoice.audio.fbank_torch import Fbank
from samevoice.audio.quality import QualityMeter
from samevoice.data import manifest, sampling
from samevoice.data.augment.examples import assemble, augmented, masked, one_thread
from samevoice.data.augment.plan import Plan, Planner
from samevoice.data.augment.settings import Augmentation, fraction
from samevoice.data.banks import INDEX as BANK_INDEX
from samevoice.data.banks import Banks
from samevoice.data.crops import read_crop
from samevoice.data.loader import Batch
from samevoice.data.prepare import Track, processes
from samevoice.files import replacing
from samevoice.runtime.pieces import MIN_SPEECH_SECONDS
from samevoice.runtime.session import Session

log = logging.getLogger(__name__)
INDEX, FRAMES, TEACHER, JOURNAL, PLAN = "index.parquet", "frames.f16", "teacher.f32", "journal.jsonl", "plan.json"
VERSION = 1  # of what the numbers are: another one keeps old folders from being used
_BLOCK = 16  # utterances between two entries of the journal: the most that a worker's death can lose
_MASKS = ("frequency_masks", "frequency_width", "time_masks", "time_width")  # what is drawn anew for each crop


class FeaturesError(ValueError):
    """This folder can't be written to or read; the message names it, says why and what to do."""


def write(
    table: pa.Table,
    folder: Path,
    settings: FbankSettings,
    augmentation: Augmentation,
    banks: Banks | None,
    views: int,
    longest: float,
    seed: int = 0,
    teacher: str | os.PathLike | None = None,
    jobs: int | None = None,
    track: Track = lambda items, total, what: items,
) -> None:
    """Compute the folder, or what is missing of it; one that is whole is left as it is.

    table: a manifest as `manifest.read` gives it. View 0 of an utterance is the utterance. What happens in view v from
    1 on is drawn from sampling.key(seed, v, utterance), but the speed from (seed, v, speaker), so that all utterances
    of a speaker in a view make one voice; masks are left to the loader. longest: seconds of a view; a longer utterance
    is cut, at another place in each view. teacher: a model's name or folder, as `samevoice.load` takes it; its
    embedding is of the clean utterance at the view's speed, and of the same cut. jobs: processes; one for each core if
    None, this one alone if 0.

    Utterances that can't be read, and views with less than half a second of speech, are left out with a warning.
    Interrupted or killed at any moment, the same call goes on from the last 16 utterances. Of several processes that
    call it at once, one computes and the others wait.
    Raises FeaturesError for a folder made with other settings, BankError for a bank that is not there, HubError for a
    teacher that is not.
    """
    if views < 1 or longest * RATE < WINDOW:
        raise ValueError(f"{views} views of up to {longest} s: there must be one or more, of a frame (25 ms) or more")
    task = _task(settings, augmentation, banks, views, longest, seed, teacher)
    folder.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(folder / ".lock"):
        _claim(folder, _described(table, task))
        if (folder / INDEX).exists():
            return
        rows = range(len(table))
        blocks = [rows[first : first + _BLOCK] for first in range(0, len(rows), _BLOCK)]
        with _Store(folder) as store:
            left = blocks[store.blocks :]
            made = _computed(table, left, task, os.cpu_count() or 1 if jobs is None else jobs)
            for block in track(made, len(left), "computing features"):
                for problem in block.problems:
                    log.warning("left out: %s", problem)
                store.add(block)
            _write_index(table, store.views, folder)
        (folder / JOURNAL).unlink()


class View(NamedTuple):
    """Where a view's frames are, and of what. row: of the manifest; samples: how long the view is, at 16 kHz."""

    row: int
    view: int
    speed: float
    start: int
    frames: int
    samples: int


@dataclass(frozen=True)
class _Task:
    """What a worker is to do, the same for all utterances. longest: samples."""

    settings: FbankSettings
    augmentation: Augmentation
    banks: Banks | None
    views: int
    longest: int
    seed: int
    teacher: Path | None
    teacher_key: str | None
    teacher_settings: FbankSettings


@dataclass(frozen=True)
class _Block:
    """Several utterances done. `start` of the views counts from the block's first frame.

    frames: float16 (frames, mels). embeddings: float32 (views, dim), (views, 0) without a teacher.
    """

    views: list[View]
    frames: np.ndarray
    embeddings: np.ndarray
    problems: list[str]


@dataclass(frozen=True)
class _Clean:
    """A cut at some speed. samples: (1, samples). frames: log mels (frames, mels). embedding: the teacher's."""

    samples: Tensor
    frames: np.ndarray
    embedding: np.ndarray


def _task(
    settings: FbankSettings,
    augmentation: Augmentation,
    banks: Banks | None,
    views: int,
    longest: float,
    seed: int,
    teacher: str | os.PathLike | None,
) -> _Task:
    from samevoice.hub import find_model
    from samevoice.runtime.embedding_cache import model_key

    settings = replace(settings, subtract_mean=False)  # a crop's mean isn't its utterance's
    defaults = Augmentation()
    augmentation = replace(augmentation, **{name: getattr(defaults, name) for name in _MASKS})
    Planner(augmentation, banks)  # says which banks are missing
    if not augmentation.banks():
        banks = None
    card, path = find_model(teacher) if teacher is not None else (None, None)
    if card and card.features is None:
        raise FeaturesError(f"{card.name} hears waveforms; a teacher here must hear filter banks")
    return _Task(
        settings,
        augmentation,
        banks,
        views,
        round(longest * RATE),
        seed,
        path,
        model_key(card, path) if card and path else None,
        card.features or settings if card else settings,
    )


def _described(table: pa.Table, task: _Task) -> dict:
    """What decides the folder's content, as JSON has it."""
    digest = hashlib.sha256()
    for row in table.select(["utterance", "speaker", "path", "offset", "duration"]).to_pylist():
        digest.update(repr(tuple(row.values())).encode())
    banks = {
        kind: hashlib.sha256((task.banks.folder / kind / BANK_INDEX).read_bytes()).hexdigest()[:16]
        for kind in sorted(task.augmentation.banks())
        if task.banks
    }
    told = {
        "version": VERSION,
        "manifest": f"{len(table)} utterances {digest.hexdigest()[:16]}",
        "features": asdict(task.settings),
        "augmentation": asdict(task.augmentation),
        "banks": banks,
        "views": task.views,
        "longest": task.longest / RATE,
        "seed": task.seed,
        "teacher": task.teacher_key,
    }
    return json.loads(json.dumps(told))


def _claim(folder: Path, plan: dict) -> None:
    """The folder is for these settings and no others."""
    path = folder / PLAN
    if not path.exists():
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(plan, indent=1))
        return
    there, wanted = _flat(json.loads(path.read_text())), _flat(plan)
    for name in [*wanted, *there]:
        if there.get(name) != wanted.get(name):
            raise FeaturesError(
                f"{folder}: its features were made with {name} {there.get(name)}, now it is {wanted.get(name)}; "
                "delete the folder or name another one"
            )


def _flat(settings: dict) -> dict:
    """{"a": {"b": 1}} -> {"a b": 1}"""
    return {
        f"{name} {inner}" if inner else name: value
        for name, block in settings.items()
        for inner, value in (block.items() if isinstance(block, dict) else [("", block)])
    }


class _Store:
    """The growing files of a folder. blocks: how many are whole; views: theirs."""

    def __init__(self, folder: Path):
        self.blocks = 0
        self.views: list[View] = []
        self._frames = (folder / FRAMES).open("ab")
        self._teacher = (folder / TEACHER).open("ab")
        self._journal = (folder / JOURNAL).open("a+b")
        self._end = 0  # frames
        whole, sizes = 0, [0, 0]
        self._journal.seek(0)
        for line in self._journal:
            if not line.endswith(b"\n"):
                break  # killed while writing it
            told = json.loads(line)
            self.views += [View(*view) for view in told["views"]]
            self.blocks, self._end, sizes, whole = self.blocks + 1, told["end"], told["sizes"], whole + len(line)
        for file, size in zip((self._frames, self._teacher, self._journal), (*sizes, whole), strict=True):
            file.truncate(size)
            file.seek(0, os.SEEK_END)

    def __enter__(self) -> "_Store":
        return self

    def __exit__(self, *_) -> None:
        for file in (self._frames, self._teacher, self._journal):
            file.close()

    def add(self, block: _Block) -> None:
        """Append a block; the journal tells of it when it is on the disk."""
        self._frames.write(block.frames.astype("<f2").tobytes())
        self._teacher.write(block.embeddings.astype("<f4").tobytes())
        for file in (self._frames, self._teacher):
            file.flush()
            os.fsync(file.fileno())
        views = [view._replace(start=view.start + self._end) for view in block.views]
        self._end += len(block.frames)
        told = {"views": views, "end": self._end, "sizes": [self._frames.tell(), self._teacher.tell()]}
        self._journal.write(json.dumps(told).encode() + b"\n")
        self._journal.flush()
        os.fsync(self._journal.fileno())
        self.views += views
        self.blocks += 1


def _write_index(table: pa.Table, views: list[View], folder: Path) -> None:
    if not views:
        raise FeaturesError(f"{folder}: none of {len(table)} utterances could be used; the warnings say why")
    columns = dict(zip(View._fields, map(list, zip(*views, strict=True)), strict=True))
    kept = table.take(pa.array(columns["row"]))
    new_speakers = json.loads((folder / PLAN).read_text())["augmentation"]["new_speakers"]
    names = {
        "utterance": [f"{name}@{view.view}" for name, view in zip(kept["utterance"].to_pylist(), views, strict=True)],
        "speaker": [
            f"{name}@{view.speed:g}" if new_speakers and view.speed != 1 else name
            for name, view in zip(kept["speaker"].to_pylist(), views, strict=True)
        ],
        "duration": [view.samples / RATE for view in views],
    }
    others = {name: columns[name] for name in ("view", "speed", "start", "frames")}
    index = pa.table({name: kept[name] for name in kept.column_names} | names | others)
    manifest.write(folder / INDEX, index)


def _computed(table: pa.Table, blocks: list[range], task: _Task, jobs: int) -> Iterator[_Block]:
    """The blocks, in their order, never more than a few ahead of what is taken."""
    work = ((task, list(block), table.slice(block.start, len(block)).to_pylist()) for block in blocks)
    if jobs == 0 or not blocks:
        yield from (_compute(*arguments) for arguments in work)
        return
    with processes(min(jobs, len(blocks))) as pool:
        try:
            running: deque[Future[_Block]] = deque(pool.submit(_compute, *each) for each in islice(work, 2 * jobs))
            while running:
                block = running.popleft().result()
                running += (pool.submit(_compute, *each) for each in islice(work, 1))
                yield block
        except BrokenProcessPool:
            raise FeaturesError(
                "a worker process died, perhaps for want of memory; the same command goes on where it was, and fewer "
                "jobs need less"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


def _compute(task: _Task, numbers: list[int], rows: list[dict]) -> _Block:
    """A block of utterances, in a worker. numbers: of the rows in the manifest."""
    with one_thread():  # a core has its own worker; and the numbers don't depend on how many there are
        return _worker(task).block(numbers, rows)


@functools.lru_cache(maxsize=1)
def _worker(task: _Task) -> "_Worker":
    return _Worker(task)


class _Worker:
    def __init__(self, task: _Task):
        self.task = task
        self._planner = Planner(replace(task.augmentation, speeds=(), speed_range=None), task.banks)
        self._speeds = task.augmentation.drawn_speeds
        self._fbank = Fbank(task.settings)
        self._teacher = _Teacher(task.teacher, task.teacher_settings) if task.teacher else None

    @torch.no_grad()
    def block(self, numbers: list[int], rows: list[dict]) -> _Block:
        views: list[View] = []
        parts = [np.zeros((0, self.task.settings.mels), np.float16)]
        embeddings: list[np.ndarray] = []
        problems: list[str] = []
        end = 0
        for number, row in zip(numbers, rows, strict=True):
            try:
                starts: dict[int, int] = {}  # of an utterance's arrays, which `parts` keeps: a view may repeat another
                for view, speed, samples, frames, embedding in self._views(row, problems):
                    if id(frames) not in starts:
                        starts[id(frames)] = end
                        parts.append(frames)
                        end += len(frames)
                    views.append(View(number, view, speed, starts[id(frames)], len(frames), samples))
                    embeddings.append(embedding)
            except AudioError as error:
                problems.append(f"{row['utterance']}: {error}")
        stacked = np.stack(embeddings) if embeddings else np.zeros((0, 0), np.float32)
        return _Block(views, np.concatenate(parts), stacked, problems)

    def _views(self, row: dict, problems: list[str]) -> Iterator[tuple[int, float, int, np.ndarray, np.ndarray]]:
        """(view, speed, samples, frames, embedding) of one utterance's views that hold speech."""
        whole = read_crop(row["path"], row["offset"], row["duration"], max(round(row["duration"] * RATE), 1), 0)
        meter = QualityMeter()
        meter.hear(whole)
        meter.finish()
        done: dict[tuple[float, int, int], _Clean] = {}
        for view in range(self.task.views):
            key = sampling.key(self.task.seed, view, row["utterance"])
            at_speed = Plan(self._speed(view, row["speaker"]))
            ratio = fraction(at_speed.speed)
            length = min(len(whole) * ratio.denominator // ratio.numerator, self.task.longest)
            source = at_speed.source_length(length)
            first = sampling.crop_start(len(whole), source, key)
            speech = meter.speech_seconds(first, first + source) / at_speed.speed
            if speech < MIN_SPEECH_SECONDS or length < WINDOW:
                problems.append(f"{row['utterance']}@{view}: {row['path']}: only {speech:.2f} s of speech")
                continue
            place = (at_speed.speed, first, length)
            if place not in done:
                done[place] = self._clean(whole[first : first + source], at_speed, length)
            clean = done[place]
            plan = self._planner.plan(key, length) if view else Plan()
            frames = clean.frames if plan == Plan() else self._frames(self._changed(clean.samples, plan))
            yield view, at_speed.speed, length, frames.astype(np.float16, copy=False), clean.embedding

    def _speed(self, view: int, speaker: str) -> float:
        if view == 0:
            return 1.0
        return self._speeds[sampling.below(sampling.key(self.task.seed, view, speaker), len(self._speeds))]

    def _clean(self, samples: np.ndarray, at_speed: Plan, length: int) -> _Clean:
        changed = augmented(assemble([samples], [at_speed], None, length))
        frames = self._frames(changed)
        embedding = self._teacher(changed) if self._teacher else np.zeros(0, np.float32)
        return _Clean(changed, frames.astype(np.float16), embedding)

    def _changed(self, samples: Tensor, plan: Plan) -> Tensor:
        return augmented(assemble([samples[0].numpy()], [plan], self.task.banks, samples.shape[-1]))

    def _frames(self, samples: Tensor) -> np.ndarray:
        return self._fbank(samples)[0].numpy()


class _Teacher:
    """A teacher's network on one thread: with two in each of two workers, an utterance takes it twice as long."""

    def __init__(self, path: Path, settings: FbankSettings):
        self._network = Session(path, threads=1)
        self._fbank = Fbank(settings)

    def __call__(self, samples: Tensor) -> np.ndarray:
        """(1, samples) -> float32 (dim,) of length 1"""
        embedding = self._network(self._fbank(samples).numpy())[0]
        return (embedding / np.linalg.norm(embedding)).astype(np.float32)


class Features:
    """A folder that `write` has finished.

    table: a manifest with a row a view and the columns view, speed, start and frames besides; its utterances are
    "NAME@view", its speakers "NAME", or "NAME@1.13" for a voice at another speed (if the augmentation makes new
    speakers of them). teacher: float32 (rows, dim) of length 1, None if there was no teacher. settings: of the
    filter banks. Raises FeaturesError.
    """

    def __init__(self, folder: Path):
        if not (folder / INDEX).exists():
            raise FeaturesError(f"{folder}: no finished features are here; compute them first")
        self.folder = folder
        self.table = manifest.read(folder / INDEX)
        plan = json.loads((folder / PLAN).read_text())
        self.settings = FbankSettings(**plan["features"])
        self._start, self._length = self.table["start"].to_numpy(), self.table["frames"].to_numpy()
        mels, rows = self.settings.mels, len(self.table)
        self._frames = self._mapped(FRAMES, "<f2", (int((self._start + self._length).max()), mels))
        self.teacher: np.ndarray | None = None
        if plan["teacher"]:
            dim = (folder / TEACHER).stat().st_size // 4 // rows
            self.teacher = self._mapped(TEACHER, "<f4", (rows, dim))

    def only(self, wanted: Sequence[bool]) -> "Features":
        """The same without the other rows, whose numbers are new then. wanted: (rows,)."""
        fewer = copy.copy(self)
        mask = np.asarray(wanted, bool)
        fewer.table = self.table.filter(pa.array(mask))
        fewer._start, fewer._length = self._start[mask], self._length[mask]
        fewer.teacher = None if self.teacher is None else self.teacher[mask]
        return fewer

    def crop(self, row: int, frames: int, key: int) -> np.ndarray:
        """Float32 (frames, mels) from a place that the key decides; a shorter view starts again."""
        return self.crops([(row, key)], frames)[0].astype(np.float32)

    def crops(self, draws: list[sampling.Draw], frames: int) -> np.ndarray:
        """`crop` of many: float16 (batch, frames, mels)."""
        rows = [row for row, _ in draws]
        starts, lengths = self._start[rows], self._length[rows]
        firsts = [sampling.crop_start(int(n), frames, key) for n, (_, key) in zip(lengths, draws, strict=True)]
        places = np.array(firsts)[:, None] + np.arange(frames)
        return self._frames[starts[:, None] + places % lengths[:, None]]

    def _mapped(self, name: str, dtype: str, shape: tuple[int, int]) -> np.ndarray:
        path, wanted = self.folder / name, shape[0] * shape[1] * np.dtype(dtype).itemsize
        size = path.stat().st_size if path.exists() else 0
        if size != wanted:
            raise FeaturesError(
                f"{path}: has {size} bytes, its index says {wanted}; delete the folder, compute it again"
            )
        return np.asarray(np.memmap(path, dtype, "r", shape=shape))


class FeatureLoader:
    """What data.loader.Loader is, for features: iterating gives the batches of `batches.epoch` from `batches.start` on.

    batches: over `features.table`. seconds: of each example, in the frames that so much sound has. augmentation: only
    its masks happen here. settings: FbankSettings of the network, which say whether each crop loses its mean.
    Raises FeaturesError if the features are others than `settings`.
    """

    def __init__(
        self,
        features: Features,
        batches: sampling.Batches,
        seconds: float,
        augmentation: Augmentation | None = None,
        settings: FbankSettings | None = None,
        device: torch.device | str = "cpu",
    ):
        settings = settings or FbankSettings()
        if replace(settings, subtract_mean=False) != features.settings:
            raise FeaturesError(f"{features.folder}: its filter banks are {features.settings}, not {settings}")
        given = augmentation or Augmentation()
        self.features, self.batches, self.device = features, batches, torch.device(device)
        self.augmentation = Augmentation(**{name: getattr(given, name) for name in _MASKS})
        self.speakers = int(batches.speakers.max()) + 1 if len(batches.speakers) else 0
        self.classes = self.speakers  # voices at other speeds are among them
        self._frames = 1 + (round(seconds * RATE) - WINDOW) // SHIFT
        self._subtract_mean = settings.subtract_mean
        self._planner = Planner(self.augmentation)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        for draws in self.batches:
            yield self._batch(draws)

    @torch.no_grad()
    def _batch(self, draws: list[sampling.Draw]) -> Batch:
        rows = [row for row, _ in draws]
        inputs = torch.from_numpy(self.features.crops(draws, self._frames)).to(self.device).float()
        if self._subtract_mean:
            inputs = inputs - inputs.mean(1, keepdim=True)
        plans = [self._planner.plan(key, self._frames * SHIFT) for _, key in draws]
        labels = torch.from_numpy(self.batches.speakers[rows]).to(self.device)
        return Batch(masked(inputs, plans, self.augmentation), labels, rows, plans)

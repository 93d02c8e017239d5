"""Noise, music, speech and impulse responses, each kind in one memory-mapped array: no file is opened per example.

A bank is a folder of two files: `samples.i16` (or `samples.f16` for impulse responses), all recordings one after the
other at 16 kHz, and `index.parquet`, one row for each (name, group, start, length, direct). Workers share its pages.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np

from samevoice.audio import RATE, AudioError, read
from samevoice.audio.formats import in_folder

KINDS = ("noise", "music", "speech", "rir")
INDEX = "index.parquet"
_SAMPLES = {"rir": "samples.f16"}
BEFORE_DIRECT = RATE // 400  # samples of an impulse response kept before its direct path (2.5 ms)
DECAYED = 1e-6  # an impulse response ends where this share of its energy (-60 dB) is still to come


class BankError(ValueError):
    """A bank can't be made or read; the message says which, why and what to do."""


@dataclass(frozen=True)
class Recording:
    """One file for a bank. group: what counts as one source, a talker for speech; its own path if empty."""

    path: str
    group: str = ""


@dataclass(frozen=True)
class Bank:
    """Recordings of one kind in one array; opened on first use, in each process anew.

    >>> Bank(Path("banks/noise")).slice(3, start=16000, length=32000)  # doctest: +SKIP
    array([...], dtype=float32)
    """

    folder: Path

    def __len__(self) -> int:
        return len(self.starts)

    def __getstate__(self) -> dict:
        return {"folder": self.folder}  # not the array: a worker maps the file itself

    @cached_property
    def _columns(self) -> dict[str, list]:
        from pyarrow import ArrowInvalid, parquet

        try:
            table = parquet.read_table(self.folder / INDEX)
            return {name: table[name].to_pylist() for name in ("name", "group", "start", "length", "direct")}
        except FileNotFoundError:
            raise BankError(f"{self.folder}: no bank is here ({INDEX} is missing); make it first") from None
        except (ArrowInvalid, KeyError) as error:
            raise BankError(f"{self.folder}: its {INDEX} is damaged ({error}); make the bank again") from None

    @cached_property
    def names(self) -> list[str]:
        return self._columns["name"]

    @cached_property
    def groups(self) -> np.ndarray:
        """For each recording the number of its source (talker)."""
        return np.unique(self._columns["group"], return_inverse=True)[1]

    @cached_property
    def starts(self) -> np.ndarray:
        return np.array(self._columns["start"], np.int64)

    @cached_property
    def lengths(self) -> np.ndarray:
        return np.array(self._columns["length"], np.int64)

    @cached_property
    def direct(self) -> np.ndarray:
        """For each impulse response the sample of its direct path."""
        return np.array(self._columns["direct"], np.int64)

    @cached_property
    def samples(self) -> np.ndarray:
        """Everything, (samples,), mapped and read-only: int16, or float16 for impulse responses."""
        path = next((p for p in (self.folder / "samples.i16", self.folder / "samples.f16") if p.exists()), None)
        if path is None:
            raise BankError(f"{self.folder}: its samples are missing; make the bank again")
        dtype = np.dtype("<i2") if path.suffix == ".i16" else np.dtype("<f2")
        wanted = int(self.starts[-1] + self.lengths[-1])
        if path.stat().st_size != wanted * dtype.itemsize:
            size = path.stat().st_size
            raise BankError(f"{path}: has {size} bytes, its index says {wanted * dtype.itemsize}; make the bank again")
        return np.memmap(path, dtype, "r")

    def slice(self, item: int, start: int, length: int) -> np.ndarray:
        """Float32 (length,) of a recording from `start`, going round where it ends; int16 becomes [-1, 1]."""
        first, size = self.starts[item], self.lengths[item]
        recording = np.asarray(self.samples)[first : first + size]
        start %= size
        if start + length <= size:
            piece = recording[start : start + length]
        else:
            piece = np.take(recording, np.arange(start, start + length), mode="wrap")
        if piece.dtype == np.int16:
            return np.multiply(piece, np.float32(1 / 32768), dtype=np.float32)
        return piece.astype(np.float32)

    def draw(self, generator: np.random.Generator, length: int) -> np.ndarray:
        """A stretch of any recording from any place, float32 (length,)."""
        return self.slice(*self.place(generator, int(generator.integers(len(self))), length), length)

    def place(self, generator: np.random.Generator, item: int, length: int) -> tuple[int, int]:
        """(item, start) of a stretch: it crosses the recording's end only where that is shorter."""
        room = int(self.lengths[item]) - length
        return item, int(generator.integers(room + 1 if room >= 0 else self.lengths[item]))

    def items(self, generator: np.random.Generator, count: int) -> list[int]:
        """So many recordings, of different sources as far as there are enough, and no recording twice likewise."""
        chosen: list[int] = []
        again: list[int] = []  # of a source that is there already
        for _ in range(8 * count):
            item = int(generator.integers(len(self)))
            if self.groups[item] not in self.groups[chosen]:
                chosen.append(item)
            elif item not in chosen and item not in again:
                again.append(item)
            if len(chosen) == count:
                break
        chosen += again[: count - len(chosen)]
        while len(chosen) < count:
            chosen.append(int(generator.integers(len(self))))
        return chosen

    def impulse_response(self, item: int) -> tuple[np.ndarray, int]:
        """Float32 (samples,) with the energy 1, and the sample of its direct path."""
        return self.slice(item, 0, int(self.lengths[item])), int(self.direct[item])


@dataclass(frozen=True)
class Banks:
    """A folder of banks: noise/, music/, speech/ and rir/, as many as there are."""

    folder: Path

    def __post_init__(self):
        object.__setattr__(self, "folder", Path(self.folder))

    def __getitem__(self, kind: str) -> Bank:
        return self._banks[kind]

    def __contains__(self, kind: str) -> bool:
        return kind in self._banks

    def __getstate__(self) -> dict:
        return {"folder": self.folder}

    @cached_property
    def _banks(self) -> dict[str, Bank]:
        return {kind: Bank(self.folder / kind) for kind in KINDS if (self.folder / kind / INDEX).exists()}

    def need(self, kinds: Iterable[str]) -> None:
        """Raises BankError naming the banks that are not there."""
        missing = sorted(set(kinds) - set(self._banks))
        if missing:
            raise BankError(
                f"{self.folder}: no bank of {', '.join(missing)} is here; make it from MUSAN and RIRS_NOISES, or from "
                "simulated rooms and noise (samevoice prepare rirs --simulate), or leave its kinds out of the recipe"
            )


def build(
    kind: str,
    recordings: Iterable[Recording],
    banks: Path,
    track: Callable[[Iterable], Iterable] = iter,
    threads: int = 4,
    max_hours: float = 10.0,
) -> tuple[Bank, list[AudioError]]:
    """Make the bank `banks`/`kind`; also the recordings that could not be used.

    Impulse responses (of which a recording may have several, a channel each) get the energy 1, start 2.5 ms before
    their direct path (their highest peak) and end where they have decayed by 60 dB. `track` may show progress.
    Raises BankError when nothing could be used. The old bank, if any, stays until the new one is whole.
    """
    import pyarrow
    from pyarrow import parquet

    from samevoice.files import replacing

    if kind not in KINDS:
        raise BankError(f"there is no bank of {kind!r}; the kinds are {', '.join(KINDS)}")
    folder, rows, failed, end = Path(banks) / kind, [], [], 0
    recordings = list(recordings)
    load = _responses if kind == "rir" else lambda path: [(read(path, max_hours=max_hours), 0)]
    with replacing(folder / _SAMPLES.get(kind, "samples.i16")) as temporary:
        with temporary.open("wb") as out:
            loaded = _in_order(lambda recording: _attempt(load, recording.path), recordings, threads)
            for recording, result in zip(recordings, track(loaded), strict=True):
                if isinstance(result, AudioError):
                    failed.append(result)
                    continue
                for channel, (samples, direct) in enumerate(result):
                    out.write(_stored(samples, kind).tobytes())
                    name = f"{recording.path}#{channel}" if len(result) > 1 else recording.path
                    rows.append((name, recording.group or recording.path, end, len(samples), direct))
                    end += len(samples)
        if not rows:
            why = f"; the first of {len(failed)} failures: {failed[0]}" if failed else ""
            raise BankError(f"no recordings for the bank of {kind}{why}")
        (folder / INDEX).unlink(missing_ok=True)  # it speaks of the old samples
    with replacing(folder / INDEX) as temporary:
        columns = dict(zip(("name", "group", "start", "length", "direct"), zip(*rows, strict=True), strict=True))
        parquet.write_table(pyarrow.table({name: list(values) for name, values in columns.items()}), temporary)
    return Bank(folder), failed


def in_manifest(path: Path) -> dict[str, list[Recording]]:
    """The recordings of a manifest by kind: noise, music, speech or rir, as far as the first hyphen of their `split`.

    Other rows don't count. Recordings of one `speaker` count as one source, so that babble has different talkers;
    where all of a kind have the same one (MUSAN's), each recording is its own.
    """
    from samevoice.data import manifest

    rows: dict[str, list[Recording]] = {}
    for row in manifest.read(path).select(["path", "speaker", "split"]).to_pylist():
        if (kind := row["split"].split("-")[0]) in KINDS:
            rows.setdefault(kind, []).append(Recording(row["path"], row["speaker"]))
    for kind, found in rows.items():
        if len({recording.group for recording in found}) == 1:
            rows[kind] = [Recording(recording.path) for recording in found]
    return rows


def in_directory(folder: Path) -> list[Recording]:
    """All recordings of a folder and those below it."""
    return [Recording(path) for path in in_folder(folder)]


def response(samples: np.ndarray, seconds: float = 2.0) -> tuple[np.ndarray, int]:
    """A measured or simulated impulse response made ready: (samples with the energy 1, sample of the direct path).

    samples: (samples,) at 16 kHz, longer than 0 and not all zero.
    """
    peak = int(np.abs(samples).argmax())
    direct = min(peak, BEFORE_DIRECT)
    kept = samples[peak - direct :][: int(seconds * RATE)].astype(np.float64)
    to_come = np.cumsum(np.square(kept)[::-1])[::-1]
    kept = kept[: int(np.searchsorted(-to_come, -DECAYED * to_come[0]))]
    kept = kept / np.sqrt(np.square(kept).sum())
    return kept.astype(np.float32), direct


def _responses(path: str) -> list[tuple[np.ndarray, int]]:
    """Each channel of a recording: their average would be a comb filter."""
    import soundfile
    import soxr

    try:
        channels, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (OSError, soundfile.LibsndfileError) as error:
        raise AudioError(path, f"can't be read ({error}); check its content") from None
    usable = [channel for channel in channels.T if np.isfinite(channel).all() and channel.any()]
    if not usable:
        raise AudioError(path, "holds no impulse response: every channel is empty, silent or not a number")
    return [response(soxr.resample(channel, rate, RATE)) for channel in usable]


def _attempt(load: Callable[[str], list], path: str) -> list | AudioError:
    try:
        return load(path)
    except AudioError as error:
        return error


def _stored(samples: np.ndarray, kind: str) -> np.ndarray:
    if kind == "rir":
        return samples.astype("<f2")
    return np.clip(np.rint(samples * 32768), -32768, 32767).astype("<i2")


def _in_order(function: Callable, items: list, threads: int) -> Iterator:
    """Like map, by several threads, and never more than a few results ahead of what is taken."""
    waiting = iter(items)
    with ThreadPoolExecutor(threads) as pool:
        running = [pool.submit(function, item) for item in islice(waiting, 2 * threads)]
        while running:
            result = running.pop(0).result()
            running += [pool.submit(function, item) for item in islice(waiting, 1)]
            yield result

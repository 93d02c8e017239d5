"""A manifest packed into webdataset tars: a few large files that clusters and object storage read well.

A folder of shards holds 000000.tar, 000001.tar ... of members N.flac (or what the file was) and N.json, and
index.parquet, a manifest that also says where each member's bytes lie. With it we read members in any order, tell a
damaged one by its checksum, and know each epoch before it begins (sampling.ShardBatches). Other tools can read the
tars as they are.
"""

import functools
import hashlib
import io
import json
import logging
import os
import tarfile
import urllib.request
import zlib
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import filelock
import numpy as np
import pyarrow as pa
import soundfile

from samevoice.audio import RATE, AudioError, read
from samevoice.data import manifest
from samevoice.data.prepare import SLACK, Failure, Track, processes
from samevoice.data.sampling import crop_start, epoch_keys, wrapped
from samevoice.files import replacing
from samevoice.hub import cache

log = logging.getLogger(__name__)
INDEX = "index.parquet"
_PLAN = "plan.json"
_OPEN_SHARDS = 32  # files that one process keeps open


@dataclass(frozen=True)
class Packed:
    """What `pack` did. shards: of how many; written: by this call, the others were there."""

    shards: int
    written: int
    utterances: int
    failed: list[Failure]


@dataclass(frozen=True)
class _Job:
    """One shard to write: rows of the manifest, and the number of its first member."""

    tar: Path
    first: int
    rows: list[dict]
    convert: bool


def pack(
    table: pa.Table,
    folder: Path,
    size_mb: int = 512,
    seed: int = 0,
    mix: bool = True,
    convert: bool = False,
    jobs: int | None = None,
    track: Track = lambda items, total, what: items,
) -> Packed:
    """Write shards of about `size_mb` million bytes each, and their index.

    table: a manifest as `manifest.read` gives it. mix: every speaker's utterances are spread evenly over the shards,
    in an order drawn from `seed`, so that a few shards hold nearly all speakers; else they keep the manifest's order.
    convert: every utterance becomes 16 kHz FLAC; else files are packed as they are, except that a piece of a longer
    one becomes FLAC. jobs: processes; one for each core if None, this one alone if 0. An interrupted run goes on with
    the shards that are missing. Raises ManifestError for a folder with other shards, or an empty table.
    """
    if not len(table):
        raise manifest.ManifestError("there is nothing to pack: the manifest has no rows")
    order = _dealt(table, size_mb * 10**6, seed, mix)
    plan = {"seed": seed, "mix": mix, "convert": convert, "shards": len(order), "order": _digest(table, order)}
    folder.mkdir(parents=True, exist_ok=True)
    _claim(folder, plan)
    starts = np.cumsum([0, *map(len, order)])
    work = [
        _Job(folder / f"{number:06d}.tar", int(start), table.take(pa.array(rows)).to_pylist(), convert)
        for number, (rows, start) in enumerate(zip(order, starts, strict=False))
        if not (folder / INDEX).exists() and not _note(folder / f"{number:06d}.tar").exists()
    ]
    for _ in track(_write_all(work, os.cpu_count() or 1 if jobs is None else jobs), len(work), "packing"):
        pass
    failed: list[Failure] = []
    if not (folder / INDEX).exists():
        notes = [_note(folder / f"{number:06d}.tar") for number in range(len(order))]
        told = [json.loads(note.read_text()) for note in notes]
        failed = [Failure(*failure) for note in told for failure in note["failed"]]
        manifest.write(folder / INDEX, [row for note in told for row in note["rows"]])
        for note in notes:
            note.unlink()
    return Packed(len(order), len(work), len(manifest.read(folder / INDEX)), failed)


class Shards:
    """Shards in a folder or at an address (s3://, gs://, hf://, https://), for data.loader.

    table: their index, a manifest with the columns shard, start, size and crc32, whose paths are names in the shard;
    rows of the methods are its rows.
    cache_folder: where shards from an address are kept; the cache of samevoice if None. cache_gb: how much is kept;
    those unused for longest go first. Addresses other than https:// need fsspec's package for them (s3fs, gcsfs).
    Without index.parquet the tars of a folder are searched, which takes as long as reading them.
    """

    def __init__(self, place: Path | str, cache_folder: Path | None = None, cache_gb: float = 100.0):
        self._place = os.fspath(place).rstrip("/")
        self._remote = "://" in self._place
        name = hashlib.sha256(self._place.encode()).hexdigest()[:16]
        self._folder = Path(place) if not self._remote else (cache_folder or cache.folder() / "shards" / name)
        self._cache_bytes = int(cache_gb * 10**9)
        if self._remote and not (self._folder / INDEX).exists():
            self._fetch(INDEX)
        found = self._folder / INDEX
        self.table = _member_names(manifest.read(found)) if found.exists() else _searched(self._folder)
        self._columns = {name: self.table[name].combine_chunks() for name in ("shard", "path", "utterance")}
        self._start, self._size, self._crc32, self._duration = (
            self.table[name].to_numpy() for name in ("start", "size", "crc32", "duration")
        )
        self._files: OrderedDict[str, int] = OrderedDict()

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_files": OrderedDict()}  # a worker opens files itself

    def __del__(self) -> None:
        for file in getattr(self, "_files", {}).values():
            os.close(file)

    def name(self, row: int) -> str:
        """What messages call a member: its shard, its name in it, and the utterance."""
        shard, path, utterance = (self._columns[key][row].as_py() for key in ("shard", "path", "utterance"))
        return f"{self._place}/{shard}: {path} ({utterance})"

    def content(self, row: int) -> bytes:
        """The bytes of the member's sound file. Raises AudioError if they aren't those that were packed."""
        content = os.pread(self._open(self._columns["shard"][row].as_py()), int(self._size[row]), int(self._start[row]))
        if len(content) < self._size[row]:
            raise AudioError(self.name(row), "is cut off: the shard is shorter than it was; copy the shard again")
        if zlib.crc32(content) != self._crc32[row]:
            raise AudioError(self.name(row), "is damaged (its checksum is wrong); copy the shard again")
        return content

    def samples(self, row: int) -> np.ndarray:
        """The whole utterance, float32 (samples,) at 16 kHz. Raises AudioError."""
        try:
            return read(self.content(row))[: round(self._duration[row] * RATE)]
        except AudioError as error:
            raise error if error.name != "bytes" else AudioError(self.name(row), error.problem) from None

    def crop(self, row: int, length: int, key: int) -> np.ndarray:
        """A crop, float32 (length,) at 16 kHz: the stretch that the packed manifest gives for this key."""
        start = crop_start(round(self._duration[row] * RATE), length, key)
        samples = self.samples(row)[start : start + length]
        if not len(samples):
            raise AudioError(self.name(row), "is shorter than the index says; pack it again")
        return wrapped(samples, length)

    def good(self, rows: range | list[int] | None = None) -> Iterator[tuple[int, np.ndarray]]:
        """(row, samples) of every member that can be read, in the order of the index; a warning names each other."""
        for row in rows if rows is not None else range(len(self.table)):
            try:
                yield row, self.samples(row)
            except AudioError as error:
                log.warning("left out: %s", error)

    def _open(self, shard: str) -> int:
        if shard in self._files:
            self._files.move_to_end(shard)
            return self._files[shard]
        while len(self._files) >= _OPEN_SHARDS:
            os.close(self._files.popitem(last=False)[1])
        path = self._folder / shard
        try:
            file = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            if not self._remote:
                raise AudioError(f"{self._place}/{shard}", "no such shard; copy it again") from None
            self._fetch(shard)
            file = os.open(path, os.O_RDONLY)
        if self._remote:
            os.utime(path)  # used now: the last to go
        self._files[shard] = file
        return file

    def _fetch(self, name: str) -> None:
        """Copy one file here; of several processes that want it, one does."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(self._folder / f".{name}.lock"):
            if (self._folder / name).exists():
                return
            try:
                with _open_address(f"{self._place}/{name}") as source, replacing(self._folder / name) as temporary:
                    _copy(source, temporary)
            except (OSError, ImportError, ValueError) as error:
                reason = str(getattr(error, "reason", None) or error) or type(error).__name__
                raise AudioError(f"{self._place}/{name}", f"can't be fetched ({reason})") from None
            self._make_room()

    def _make_room(self) -> None:
        told = sorted((path.stat().st_mtime, path.stat().st_size, path) for path in self._folder.glob("*.tar"))
        excess = sum(size for _, size, _ in told) - self._cache_bytes
        for _, size, path in told[:-1]:  # what was just fetched stays
            if excess <= 0:
                return
            path.unlink(missing_ok=True)  # whoever has it open goes on reading it
            excess -= size


def search(tar: Path) -> list[dict]:
    """The index's rows of one tar, read from the tar itself. A warning names the members around each damaged place."""
    rows: list[dict] = []
    pending: dict[str, dict] = {}
    for name, start, content in _members(tar):
        key, _, suffix = name.partition(".")
        part = pending.setdefault(key, {})
        if suffix == "json":
            part["about"] = content
        else:
            part["place"] = {"path": name, "start": start, "size": len(content), "crc32": zlib.crc32(content)}
        if len(part) == 2 and (row := _row_of(tar, **pending.pop(key))):
            rows.append(row)
    for key, part in pending.items():
        log.warning("%s: %s has no %s; left out", tar, key, "sound" if "about" in part else "json")
    return rows


def _members(tar: Path) -> Iterator[tuple[str, int, bytes]]:
    """(name, where its content starts, content) of what can be read."""
    before, expected = "its start", 0
    try:
        with tarfile.open(tar, ignore_zeros=True) as archive:  # which also goes on after a damaged header
            for member in archive:
                if member.offset > expected:
                    log.warning("%s: damaged between %s and %s; what was there is left out", tar, before, member.name)
                if file := archive.extractfile(member):
                    yield member.name, member.offset_data, file.read()
                before, expected = member.name, member.offset_data + -(-member.size // 512) * 512
    except (tarfile.TarError, OSError) as error:
        log.warning("%s: ends too early after %s (%s)", tar, before, error)


def _row_of(tar: Path, about: bytes, place: dict) -> dict | None:
    try:
        told = json.loads(about)
        columns = {name: told[name] for name in manifest.SCHEMA.names if name != "path" and name in told}
        return {**columns, "offset": 0.0, "shard": tar.name, **place}
    except (ValueError, TypeError) as error:
        log.warning("%s: the json of %s is damaged (%s); left out", tar, place["path"], error)
        return None


def _member_names(index: pa.Table) -> pa.Table:
    """A manifest's paths are of files; these are of members."""
    names = pa.array([os.path.basename(path) for path in index["path"].to_pylist()], pa.string())
    return index.set_column(index.schema.get_field_index("path"), "path", names)


def _searched(folder: Path) -> pa.Table:
    tars = sorted(folder.glob("*.tar"))
    if not tars:
        raise manifest.ManifestError(f"{folder}: no {INDEX} and no shards; make them with `samevoice prepare shards`")
    return manifest.validate(pa.Table.from_pylist([row for tar in tars for row in search(tar)]))


def _dealt(table: pa.Table, size: int, seed: int, mix: bool) -> list[np.ndarray]:
    """The rows of each shard, in order."""
    sizes = np.array([_bytes(row) for row in table.select(["path", "offset", "duration"]).to_pylist()])
    count = int(min(max(1, round(sizes.sum() / size)), len(table)))
    if not mix:
        shard = np.minimum((np.cumsum(sizes) - sizes / 2) * count // sizes.sum(), count - 1)
        return [rows for number in range(count) if len(rows := np.flatnonzero(shard == number))]
    keys = epoch_keys(table["utterance"].to_pylist(), seed, 0)
    speakers = dict(zip(names := table["speaker"].unique().to_pylist(), epoch_keys(names, seed, 0), strict=True))
    owners = np.array([speakers[name] for name in table["speaker"].to_pylist()], np.uint64)
    by_speaker = np.lexsort((keys, owners))  # dealt out in turn, each speaker's utterances go to different shards
    return [rows[np.argsort(keys[rows])] for rows in (by_speaker[number::count] for number in range(count))]


def _bytes(row: dict) -> int:
    """About how large the utterance will be."""
    if row["offset"] > 0:
        return int(row["duration"] * RATE)  # 16-bit samples, which FLAC halves
    try:
        return max(os.path.getsize(row["path"]), 1)
    except OSError:
        return 1


def _digest(table: pa.Table, order: list[np.ndarray]) -> str:
    names = table["utterance"].to_pylist()
    text = "\n".join(names[row] for rows in order for row in rows)
    return hashlib.sha256(text.encode()).hexdigest()


def _claim(folder: Path, plan: dict) -> None:
    """The folder is for these shards and no others: half of one plan and half of another would lose utterances."""
    path = folder / _PLAN
    if path.exists():
        if json.loads(path.read_text()) != plan:
            raise manifest.ManifestError(
                f"{folder}: has shards of another manifest, seed or size; choose another folder"
            )
    elif any(folder.glob("*.tar")):
        raise manifest.ManifestError(f"{folder}: has shards that we did not write; choose another folder")
    else:
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(plan))


def _note(tar: Path) -> Path:
    """What is known of a finished shard until the index is written."""
    return tar.with_name(f".{tar.stem}.json")


def _write_all(work: list[_Job], jobs: int) -> Iterator[None]:
    if jobs == 0 or len(work) < 2:
        yield from map(_write, work)
        return
    with processes(min(jobs, len(work))) as pool:
        try:
            yield from pool.map(_write, work)
        finally:
            pool.shutdown(cancel_futures=True)


def _write(job: _Job) -> None:
    from webdataset.writer import TarWriter

    rows: dict[str, dict] = {}
    failed = []
    with replacing(job.tar) as temporary:
        with temporary.open("wb") as file, TarWriter(file, encoder=False, user="", group="", mtime=0) as writer:
            for number, row in enumerate(job.rows, job.first):
                try:
                    content, suffix, rate = _sound(row, job.convert)
                except (AudioError, OSError) as error:
                    problem = error.problem if isinstance(error, AudioError) else error.strerror
                    failed.append((row["utterance"], row["path"], problem))
                    continue
                key = f"{number:08d}"
                about = {**row, "path": f"{key}.{suffix}", "offset": 0.0, "rate": rate}
                told = json.dumps(about, ensure_ascii=False).encode()
                writer.write({"__key__": key, suffix: content, "json": told})
                rows[about["path"]] = {**about, "shard": job.tar.name, "crc32": zlib.crc32(content)}
        with tarfile.open(temporary) as archive:
            for member in archive:
                if member.name in rows:
                    rows[member.name].update(start=member.offset_data, size=member.size)
    with replacing(_note(job.tar)) as temporary:
        temporary.write_text(json.dumps({"rows": list(rows.values()), "failed": failed}))


def _sound(row: dict, convert: bool) -> tuple[bytes, str, int]:
    """The bytes of an utterance, their file's suffix without its dot, and their rate."""
    path = Path(row["path"])
    if not convert and row["offset"] == 0 and not _goes_on(path, row["duration"]):
        return path.read_bytes(), path.suffix.lstrip(".").lower() or "audio", row["rate"]
    first = round(row["offset"] * RATE)
    samples = _decoded(str(path))[first : first + round(row["duration"] * RATE)]
    file = io.BytesIO()
    soundfile.write(file, samples, RATE, "PCM_16", format="FLAC")
    return file.getvalue(), "flac", RATE


@functools.lru_cache(maxsize=1)  # pieces of one file often follow each other
def _decoded(path: str) -> np.ndarray:
    return read(path, max_hours=24)


def _goes_on(path: Path, seconds: float) -> bool:
    """Whether the file is longer than the utterance, as far as its header tells."""
    try:
        info = soundfile.info(path)
    except (soundfile.LibsndfileError, TypeError):
        return False
    return info.frames / info.samplerate > seconds + SLACK


def _open_address(address: str):
    if address.startswith(("https://", "http://")):
        return urllib.request.urlopen(address, timeout=60)
    from fsspec.core import url_to_fs

    system, path = url_to_fs(address)
    return system.open(path, "rb")


def _copy(source, target: Path) -> None:
    with target.open("wb") as file:
        while block := source.read(1 << 20):
            file.write(block)

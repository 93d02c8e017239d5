"""Which utterances, in which order, from which sample: pure functions of (seed, epoch, utterance).

Nothing here keeps a random state, so a run that stops and resumes, or that has other workers, sees the same crops. An
epoch's order depends neither on the order of the manifest's rows nor on how many processes share it.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from itertools import islice

import numpy as np
import pyarrow as pa

_MASK = (1 << 64) - 1

Draw = tuple[int, int]  # the row in the manifest, and the key that decides everything random about it


def key(seed: int, epoch: int, utterance: str) -> int:
    """64 bits that are the same on every machine and in every release.

    >>> key(0, 0, "id10001/1zcIwhmdeo4/00001.wav")
    15495814373591433651
    """
    return int.from_bytes(hashlib.blake2b(f"{seed}/{epoch}/{utterance}".encode(), digest_size=8).digest(), "little")


def below(key: int, n: int, stream: int = 0) -> int:
    """A whole number in [0, n), even over keys; another `stream` gives another, independent one (splitmix64)."""
    x = (key + (stream + 1) * 0x9E3779B97F4A7C15) & _MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return ((x ^ (x >> 31)) * n) >> 64


def crop_start(samples: int, length: int, key: int) -> int:
    """Where a crop of `length` starts in a recording of `samples`: even over all places; 0 if the crop is longer."""
    return below(key, samples - length + 1) if samples > length else 0


def wrapped(samples: np.ndarray, length: int) -> np.ndarray:
    """The first `length` samples; a shorter recording starts again until they are full. Raises ValueError for none."""
    if len(samples) == 0:
        raise ValueError("a recording without samples can't be repeated")
    return samples[:length] if len(samples) >= length else np.resize(samples, length)


def crop(samples: np.ndarray, length: int, key: int) -> np.ndarray:
    """A random crop (length,) of a recording (samples,), which starts again when it is shorter."""
    start = crop_start(len(samples), length, key)
    return wrapped(samples[start : start + length], length)


def epoch_keys(utterances: list[str], seed: int, epoch: int) -> np.ndarray:
    """The key of every utterance: uint64 (rows,)."""
    return np.fromiter((key(seed, epoch, name) for name in utterances), np.uint64, len(utterances))


def capped(order: np.ndarray, speakers: np.ndarray, per_speaker: int | None) -> np.ndarray:
    """The rows of `order` that are among the first `per_speaker` of their speaker in it.

    speakers: (all rows,) the number of each row's speaker.
    """
    if per_speaker is None:
        return order
    return order[_places(speakers[order]) < per_speaker]


class Batches(ABC):
    """Batches of one process's share of each epoch, for a DataLoader's `batch_sampler`.

    Iterating gives lists of (row, key) from batch number `start` of epoch `epoch` on; both are plain attributes, so
    the position to save is how many batches were used, and to resume is to set them. Iterating changes neither.

    table: a manifest. batch_size: of one process. rank, world: this process, and how many share the epoch. Except
    for shards, a global batch holds the same rows whatever `world` is, as long as batch_size x world stays.
    """

    def __init__(self, table: pa.Table, batch_size: int, seed: int = 0, rank: int = 0, world: int = 1):
        if batch_size < 1 or not 0 <= rank < world:
            raise ValueError(f"batch_size {batch_size}, rank {rank} of {world}: no such share of a batch")
        self.utterances: list[str] = table["utterance"].to_pylist()
        self.speakers = _numbered(table["speaker"])
        self.batch_size, self.seed, self.rank, self.world = batch_size, seed, rank, world
        self.epoch = 0
        self.start = 0
        self._planned: tuple[int, list[np.ndarray], np.ndarray] | None = None

    @abstractmethod
    def plan(self, epoch: int, keys: np.ndarray) -> list[np.ndarray]:
        """This process's batches of one epoch as arrays of rows. keys: uint64 (rows,), see `epoch_keys`."""

    def __len__(self) -> int:
        """How many batches are left of this epoch."""
        return max(len(self._plan()[0]) - self.start, 0)

    def __iter__(self) -> Iterator[list[Draw]]:
        batches, keys = self._plan()
        for batch in batches[self.start :]:
            yield [(int(row), int(keys[row])) for row in batch]

    def resume(self, epoch: int, start: int = 0) -> None:
        """Go on with batch number `start` of this epoch."""
        self.epoch, self.start = epoch, start

    def _plan(self) -> tuple[list[np.ndarray], np.ndarray]:
        if self._planned is None or self._planned[0] != self.epoch:
            keys = epoch_keys(self.utterances, self.seed, self.epoch)
            self._planned = (self.epoch, self.plan(self.epoch, keys), keys)
        return self._planned[1:]


class ShuffledBatches(Batches):
    """All utterances once an epoch, in a new order each time.

    per_speaker: at most so many of a speaker's utterances an epoch, other ones each time. drop_last: leave out what
    doesn't fill a global batch (other utterances each time); if not, the epoch is dealt out in batches of nearly
    equal size, so that no process is ever without one. Raises ValueError if there are fewer rows than processes.
    """

    def __init__(
        self,
        table: pa.Table,
        batch_size: int,
        seed: int = 0,
        per_speaker: int | None = None,
        drop_last: bool = True,
        rank: int = 0,
        world: int = 1,
    ):
        super().__init__(table, batch_size, seed, rank, world)
        self.per_speaker, self.drop_last = per_speaker, drop_last

    def plan(self, epoch: int, keys: np.ndarray) -> list[np.ndarray]:
        order = capped(_by_key(keys), self.speakers, self.per_speaker)
        if len(order) < self.world:
            raise ValueError(f"{len(order)} utterances can't be shared by {self.world} processes")
        full = self.batch_size * self.world
        if self.drop_last:
            count = len(order) // full
            parts = np.split(order[: count * full], count) if count else []
        else:
            parts = np.array_split(order, -(-len(order) // full))
        return [part[self.rank :: self.world] for part in parts]


class SpeakerBatches(Batches):
    """P speakers x K utterances in every batch, for losses that compare utterances.

    `speakers` differ within a global batch, and so do the `each` utterances of one, which follow each other. Speakers
    with fewer than `each` utterances are left out (`left_out` of them); a rest of a speaker's utterances that does
    not fill `each` is left out of the epoch, other ones each time. per_speaker: as in ShuffledBatches.
    Raises ValueError when no batch can be filled.
    """

    def __init__(
        self,
        table: pa.Table,
        speakers: int,
        each: int,
        seed: int = 0,
        per_speaker: int | None = None,
        rank: int = 0,
        world: int = 1,
    ):
        super().__init__(table, speakers * each, seed, rank, world)
        self.per_batch, self.each, self.per_speaker = speakers, each, per_speaker
        if per_speaker is not None and per_speaker < each:
            raise ValueError(f"at most {per_speaker} utterances of a speaker can't make groups of {each}")
        counts = np.bincount(self.speakers)
        self.left_out = int((counts < each).sum())
        if len(counts) - self.left_out < speakers * world:
            raise ValueError(
                f"{len(counts) - self.left_out} speakers have {each} utterances or more; "
                f"batches of {speakers} speakers on {world} processes need {speakers * world}"
            )

    def plan(self, epoch: int, keys: np.ndarray) -> list[np.ndarray]:
        order = capped(_by_key(keys), self.speakers, self.per_speaker)
        full = self.per_batch * self.world
        # Groups of one speaker follow each other, so dealing them out to `count` batches in turn never puts two in one,
        # as long as no speaker has more than `count`.
        rows = [part[: len(part) // self.each * self.each] for part in _grouped(order, self.speakers)]
        groups = np.concatenate(rows).reshape(-1, self.each)
        owners = self.speakers[groups[:, 0]]
        place = _places(owners)
        have = np.bincount(owners)
        count = _most_batches(have[have > 0], full)
        groups, place = groups[place < count], place[place < count]
        chosen = np.sort(np.argsort(place, kind="stable")[: count * full])  # first groups of all speakers come first
        dealt = groups[chosen].reshape(full, count, self.each).transpose(1, 0, 2)  # (count, speakers, each)
        batches = dealt[np.argsort(keys[dealt[:, 0, 0]], kind="stable")]
        mine = batches[:, self.rank * self.per_batch : (self.rank + 1) * self.per_batch]
        return list(mine.reshape(count, -1))


class ShardBatches(Batches):
    """Utterances in shards: a process reads only its own shards in an epoch, a few at a time.

    table: an index of shards (`shards.Shards.table`), whose column `shard` names each row's. The epoch deals the
    shards, shuffled, to the processes; each shuffles its utterances within `window` shards at a time. All processes
    have equally many batches: with drop_last as many full ones as the process with the fewest utterances can fill,
    otherwise each deals out all it has in batches of nearly equal size. Raises ValueError if there are fewer shards
    than processes.
    """

    def __init__(
        self,
        table: pa.Table,
        batch_size: int,
        seed: int = 0,
        per_speaker: int | None = None,
        drop_last: bool = True,
        window: int = 8,
        rank: int = 0,
        world: int = 1,
    ):
        super().__init__(table, batch_size, seed, rank, world)
        self.per_speaker, self.drop_last, self.window = per_speaker, drop_last, window
        self.shards = _numbered(table["shard"])
        self.names: list[str] = sorted(set(table["shard"].to_pylist()))
        if len(self.names) < world:
            raise ValueError(f"{len(self.names)} shards can't be shared by {world} processes; pack smaller ones")

    def plan(self, epoch: int, keys: np.ndarray) -> list[np.ndarray]:
        rows = capped(_by_key(keys), self.speakers, self.per_speaker)
        turn = _by_key(epoch_keys(self.names, self.seed, epoch))  # shards in the order of this epoch
        place = np.empty(len(turn), np.int64)
        place[turn] = np.arange(len(turn))
        place = place[self.shards[rows]]  # of each row's shard
        sizes = np.bincount(place % self.world, minlength=self.world)
        mine, place = rows[place % self.world == self.rank], place[place % self.world == self.rank]
        mine = mine[np.argsort(place // self.world // self.window, kind="stable")]
        if self.drop_last:
            count = int(sizes.min()) // self.batch_size
            return np.split(mine[: count * self.batch_size], count) if count else []
        if sizes.min() < (count := -(-int(sizes.max()) // self.batch_size)):
            raise ValueError(f"a process has {sizes.min()} utterances for {count} batches; pack smaller shards")
        return np.array_split(mine, count)


def pairs(
    table: pa.Table, targets: int, nontargets: int, seed: int = 0, same_gender: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs for calibration: rows (pairs,), rows (pairs,), and whether they are one speaker: bool (pairs,).

    The two sides are always of two sessions, because one room and one channel make voices alike; an utterance whose
    session is unknown counts as a session of its own. Speakers take turns, and a speaker's sessions do, so that those
    who speak much don't decide. No pair comes twice; there are fewer than asked for only when there are no more.
    same_gender: nontarget pairs within one gender, as VoxCeleb1-H has them; speakers of unknown gender are left out.
    """
    utterances, session = table["utterance"].to_pylist(), table["session"].to_pylist()
    sessions = _numbered(pa.array([s or f"\0{u}" for s, u in zip(session, utterances, strict=True)]))
    speakers, genders = _numbered(table["speaker"]), _numbered(table["gender"])
    order = _by_key(epoch_keys(utterances, seed, 0))
    same = _in_turn([_across(_grouped(rows, sessions)) for rows in _grouped(order, speakers)])
    if same_gender:
        known = order[np.array(table["gender"].to_pylist(), object)[order] != ""]
        different = _in_turn([_across(_grouped(rows, speakers)) for rows in _grouped(known, genders)])
    else:
        different = _across(_grouped(order, speakers))
    chosen = list(islice(same, targets))
    chosen_targets = len(chosen)
    chosen += islice(((a, b) for a, b in different if sessions[a] != sessions[b]), nontargets)
    left, right = np.array(chosen, np.int64).reshape(-1, 2).T
    return left, right, np.arange(len(left)) < chosen_targets


def _across(lists: list[np.ndarray]) -> Iterator[tuple[int, int]]:
    """Every pair of elements of two different lists once; each list's turn comes again before its next element does."""
    n = len(lists)
    for turn in range(max(map(len, lists), default=0) ** 2):
        for step in range(1, n // 2 + 1):
            for i in range(n if 2 * step < n else n // 2):
                a, b = lists[i], lists[(i + step) % n]
                if turn < len(a) * len(b):
                    yield int(a[(turn + step) % len(a)]), int(b[(turn // len(a) + step + i) % len(b)])


def _in_turn(sources: list[Iterator[tuple[int, int]]]) -> Iterator[tuple[int, int]]:
    while sources:
        left = []
        for source in sources:
            if (pair := next(source, None)) is not None:
                yield pair
                left.append(source)
        sources = left


def _numbered(column: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """int64 (rows,): each name's place among the sorted names, so that it doesn't depend on the order of the rows."""
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    coded = whole.dictionary_encode()
    names = np.array(coded.dictionary.to_pylist(), object)
    place = np.empty(len(names), np.int64)
    place[np.argsort(names)] = np.arange(len(names))
    return place[coded.indices.to_numpy()]


def _by_key(keys: np.ndarray) -> np.ndarray:
    return np.argsort(keys, kind="stable")


def _places(values: np.ndarray) -> np.ndarray:
    """For each element, how many equal ones come before it: [5, 7, 5, 5] -> [0, 0, 1, 2]."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    first = np.searchsorted(ordered, ordered, side="left")
    places = np.empty(len(values), np.int64)
    places[order] = np.arange(len(values)) - first
    return places


def _grouped(order: np.ndarray, owners: np.ndarray) -> list[np.ndarray]:
    """The rows of each owner, in the order given; owners in the order of their first row. owners: (all rows,)"""
    grouped = order[np.argsort(owners[order], kind="stable")]
    first = _first_places(owners[order])
    parts = np.split(grouped, np.flatnonzero(np.diff(owners[grouped])) + 1) if len(order) else []
    return sorted(parts, key=lambda rows: first[int(owners[rows[0]])])


def _first_places(values: np.ndarray) -> dict[int, int]:
    names, places = np.unique(values, return_index=True)
    return dict(zip(names.tolist(), places.tolist(), strict=True))


def _most_batches(groups: np.ndarray, full: int) -> int:
    """The largest number of batches of `full` groups in which no speaker needs to be twice."""
    low, high = 0, int(groups.sum()) // full  # what fits is a range from 0 on: sum(min(groups, n)) - n full is concave
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if np.minimum(groups, middle).sum() >= middle * full else (low, middle - 1)
    return low

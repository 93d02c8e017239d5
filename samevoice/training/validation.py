"""The equal error rate on trials while a network trains, and the speakers set aside for them."""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from samevoice.audio import RATE, AudioError
from samevoice.audio.decode import open_audio, resampled
from samevoice.audio.fbank import WINDOW, FbankSettings
from samevoice.audio.fbank_torch import Fbank
from samevoice.data.crops import read_crop
from samevoice.data.sampling import key
from samevoice.evaluation import metrics
from samevoice.evaluation import trials as lists
from samevoice.evaluation.scoring.cosine import dots, unit
from samevoice.evaluation.trials import Trials

log = logging.getLogger(__name__)
KEPT_BYTES = 2 << 30  # of features or samples that each process keeps from one validation to the next
BATCH_SECONDS = 100.0  # of recordings that go through the network together
READERS = 4  # threads; reading and resampling let others work meanwhile

Gather = Callable[[list], list]


class Validation:
    """Error rates of a network on trials over recordings, always heard in the same way.

    table: recordings with the columns utterance, speaker and path (`evaluation.protocols.recordings`), or a manifest,
    whose offsets and durations count. trials: over those. features: filter banks; None for networks on waveforms.
    seconds: only the first so many of each recording; None: all of it, up to `longest`.
    Raises ValueError for trials that contradict themselves or need recordings that the table does not have.

    What a process reads it keeps, as float32, up to KEPT_BYTES; the rest is read again each time. (VoxCeleb1-O: 1.2 GB
    of 80 filter banks, 2.5 GB of samples, over all processes.)
    """

    def __init__(
        self,
        table: pa.Table,
        trials: Trials,
        features: FbankSettings | None,
        seconds: float | None = None,
        longest: float = 20.0,
    ):
        names = table["utterance"].to_pylist()
        problems = lists.check(trials, set(names))
        if problems.fatal:
            raise ValueError("validation trials: " + "; ".join(problems.lines()))
        self.trials = trials
        self.length = round((longest if seconds is None else seconds) * RATE)
        columns = table.column_names
        parts = [table[name].to_pylist() for name in ("path", "offset", "duration") if name in columns]
        self._places = dict(zip(names, zip(*parts, strict=True), strict=True))
        self._fbank = Fbank(features) if features else None
        self._lengths: dict[str, int] = {}  # frames or samples of what this process has read
        self._kept: dict[str, Tensor] = {}
        self._bytes = 0
        self._failed: set[str] = set()

    @torch.no_grad()
    def run(
        self,
        network: nn.Module,
        device: torch.device | str,
        rank: int = 0,
        world: int = 1,
        gather: Gather | None = None,
    ) -> dict[str, Any]:
        """{"eer", "min_dcf_0.01", "trials", "skipped"}, the same on every process; shares of trials, not percent.

        network: a SpeakerNetwork, or one in FSDP (of DDP its `.module`); it hears in evaluation mode
        and has the mode of each of its parts back afterwards, and torch's random numbers go on as if nothing happened.
        rank, world: this process and how many share the recordings. gather: the lists of all processes, one after the
        other (accelerate.utils.gather_object); needed where there are several.
        skipped: recordings that can't be used, each named in a warning; their trials are left out.
        Raises ValueError if the network's embeddings are useless, or too few recordings are left for an error rate.
        """
        names = self.trials.utterances[rank::world]
        self._read_new(names)
        with _evaluating(network), torch.random.fork_rng(_cuda(device)):
            mine = self._embeddings(network, device, names, gather)
        shares = [mine] if gather is None else gather([mine])
        embeddings = {name: row for share, rows, _ in shares for name, row in zip(share, rows, strict=True)}
        failed = {name for _, _, lost in shares for name in lost}
        wrong = [name for name, row in embeddings.items() if not (np.isfinite(row).all() and row.any())]
        if wrong:
            raise ValueError(
                f"the network's embeddings of {len(wrong)} of {len(embeddings)} recordings are no numbers or "
                f"all zeros, such as of {wrong[0]}: training has diverged; lower the learning rate"
            )
        return {**self._figures(embeddings, failed), "skipped": len(failed)}

    def _figures(self, embeddings: dict[str, np.ndarray], failed: set[str]) -> dict[str, Any]:
        used = lists.without(self.trials, failed) if failed else self.trials
        rows = dict(zip(embeddings, unit(np.stack(list(embeddings.values()))), strict=True))
        sides = unit(np.stack([np.mean([rows[name] for name in some], axis=0) for some in used.members]))
        scores = dots(sides, np.stack([rows[name] for name in used.tests]), used.enrol, used.test)
        return {
            "eer": metrics.eer(scores, used.labels),
            "min_dcf_0.01": metrics.min_dcf(scores, used.labels, 0.01),
            "trials": len(used),
        }

    def _embeddings(
        self, network: nn.Module, device: torch.device | str, names: Sequence[str], gather: Gather | None
    ) -> tuple[list[str], np.ndarray, list[str]]:
        """What one process adds: names, their embeddings (names, dim), names that can't be used."""
        done: list[str] = []
        found: list[np.ndarray] = []
        batches = self._batches([name for name in names if name not in self._failed], bool(network.takes_lengths))
        # All processes go through the network equally often: a sharded one (FSDP) waits for the others each time.
        turns = len(batches) if gather is None else max(gather([len(batches)]))
        for turn in range(turns):
            batch = batches[turn] if turn < len(batches) else []
            items = {name: item for name in batch if (item := self._item(name)) is not None}
            inputs = list(items.values()) or [self._input(np.zeros(RATE, np.float32))]
            embedded = _embedded(network, inputs, device)
            if items:
                done += items
                found.append(embedded)
        rows = np.concatenate(found) if found else np.zeros((0, 0), np.float32)
        return done, rows, [name for name in names if name in self._failed]

    def _batches(self, names: Sequence[str], padded: bool) -> list[list[str]]:
        """Names that fit together: of equal length, or of nearly equal ones for a network that takes padding."""
        most = BATCH_SECONDS * (RATE if self._fbank is None else 100)
        batches: list[list[str]] = []
        for name in sorted(names, key=lambda name: (self._lengths[name], name)):
            length = self._lengths[name]
            batch = batches[-1] if batches else []
            fits = padded or (bool(batch) and length == self._lengths[batch[0]])
            if batch and fits and (len(batch) + 1) * length <= most:
                batch.append(name)
            else:
                batches.append([name])
        return batches

    def _read_new(self, names: Sequence[str]) -> None:
        """Learn the lengths of what this process has not read before, and keep what fits."""
        new = [name for name in names if name not in self._lengths and name not in self._failed]
        with ThreadPoolExecutor(READERS) as pool:
            for name, item in zip(new, pool.map(self._read, new), strict=True):
                if item is None:
                    continue
                self._lengths[name] = len(item)
                if self._bytes + item.nbytes <= KEPT_BYTES:
                    self._kept[name] = item
                    self._bytes += item.nbytes

    def _item(self, name: str) -> Tensor | None:
        return self._kept[name] if name in self._kept else self._read(name)

    def _read(self, name: str) -> Tensor | None:
        """The network's input for a recording: (frames, mels) or (samples,); None, and a warning, if it can't be."""
        try:
            return self._input(_heard(self.length, *self._places[name]))
        except AudioError as error:
            log.warning("validation leaves %s out: %s", name, error)
            self._failed.add(name)
            return None

    def _input(self, samples: np.ndarray) -> Tensor:
        waveform = torch.from_numpy(samples)
        return waveform if self._fbank is None else self._fbank(waveform[None])[0]


def held_out(table: pa.Table, speakers: float, seed: int = 0) -> tuple[pa.Table, pa.Table]:
    """Split recordings by speaker into (to train on, held out).

    speakers: how many are held out, or which share of all if under 1; at least two. Only those with two recordings or
    more are, since no others make trials. Which ones depends on their names and the seed alone, not on the machine,
    the order of rows, or other speakers coming or going, save at the edge. Raises ValueError for too few.
    """
    owners = table["speaker"].to_pylist()
    counts: dict[str, int] = {}
    for speaker in owners:
        counts[speaker] = counts.get(speaker, 0) + 1
    wanted = max(round(speakers * len(counts)), 2) if 0 < speakers < 1 else round(speakers)
    fitting = sorted((s for s, count in counts.items() if count > 1), key=lambda s: key(seed, 0, s))
    if wanted < 2 or len(fitting) < wanted or len(counts) - wanted < 2:
        raise ValueError(
            f"{wanted} of {len(counts)} speakers can't be held out: that takes 2 or more who have two recordings or "
            f"more ({len(fitting)} have), and 2 or more others to train on; add recordings, or change held_out"
        )
    chosen = set(fitting[:wanted])
    mask = np.array([speaker in chosen for speaker in owners])
    return table.filter(pa.array(~mask)), table.filter(pa.array(mask))


def trials(held: pa.Table, seed: int = 0, count: int = 10_000) -> Trials:
    """Trials over held-out recordings: every pair where there are at most 2 x count, else `count` targets and as many
    nontargets, speakers in turn. The same for the same seed. Raises ValueError where no error rate can be measured.
    """
    names, speakers = held["utterance"].to_pylist(), held["speaker"].to_pylist()
    again = len(speakers) - len(set(speakers))
    if len(set(speakers)) < 2 or not again:
        raise ValueError(
            f"{len(names)} recordings of {len(set(speakers))} speakers: an error rate needs two speakers or more, and "
            "two recordings or more of one of them; add recordings"
        )
    if len(names) * (len(names) - 1) // 2 <= 2 * count:
        return lists.all_pairs(names, speakers)
    return lists.make(held, "balanced", count, seed=seed)


def _heard(length: int, path: str, offset: float = 0.0, duration: float | None = None) -> np.ndarray:
    """The first `length` samples of a recording, float32 at 16 kHz. Raises AudioError for what no network can use."""
    if duration is not None:
        length = min(length, round(duration * RATE))
        samples = read_crop(path, offset, length / RATE, length, 0)
    else:
        samples = _start(path, length)
    if len(samples) < WINDOW:
        raise AudioError(path, f"has {len(samples)} samples at 16 kHz, less than one frame ({WINDOW})")
    if not samples.any():
        raise AudioError(path, "is digital silence (every sample is zero) in the part that is heard")
    return samples


def _start(path: str, length: int) -> np.ndarray:
    pieces: list[np.ndarray] = []
    for block in resampled(open_audio(path)):
        pieces.append(block)
        if sum(map(len, pieces)) >= length:
            break
    return np.concatenate(pieces)[:length] if pieces else np.zeros(0, np.float32)


def _embedded(network: nn.Module, items: list[Tensor], device: torch.device | str) -> np.ndarray:
    """Embeddings float32 (items, dim) of inputs (frames, mels) or (samples,); shorter ones are filled up with zeros."""
    lengths = [len(item) for item in items]
    batch = nn.utils.rnn.pad_sequence(items, batch_first=True).to(device)
    if min(lengths) == max(lengths):
        return network(batch).float().cpu().numpy()
    return network(batch, torch.tensor(lengths, device=device)).float().cpu().numpy()


@contextmanager
def _evaluating(network: nn.Module):
    """Evaluation mode; then each module's own again: a frozen part may be in evaluation mode while others train."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _cuda(device: torch.device | str) -> list[torch.device]:
    chosen = torch.device(device)
    return [chosen] if chosen.type == "cuda" else []

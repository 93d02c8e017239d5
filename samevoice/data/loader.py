"""From a manifest or shards and a sampler to batches on the training device.

Workers read crops and slices of banks, nothing else; the arithmetic happens in batches on the device. What a batch
holds depends on the seed, the epoch and the batch's number alone, not on how many workers there are.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from samevoice.audio import RATE, AudioError
from samevoice.audio.fbank import FbankSettings
from samevoice.audio.fbank_torch import Fbank
from samevoice.data.augment.examples import Examples, assemble, augmented, masked
from samevoice.data.augment.plan import Plan, Planner
from samevoice.data.augment.settings import Augmentation
from samevoice.data.banks import Banks
from samevoice.data.crops import read_crop
from samevoice.data.sampling import Batches, Draw, wrapped

log = logging.getLogger(__name__)
_FBANKS_AT_ONCE = 2  # there: twice as fast as 64, whose frames leave the caches
_AT_ONCE = 16  # rows of waveforms on the processor: its FFTs want several, its caches not too many


class Recordings(Protocol):
    """Where utterances come from, by their row in a manifest."""

    def crop(self, row: int, length: int, key: int) -> np.ndarray:
        """Float32 (length,) at 16 kHz, decided by the key. Raises AudioError."""
        ...


class Files:
    """The recordings that a manifest names, each a file or a stretch of one."""

    def __init__(self, table: pa.Table):
        self._paths = table["path"].combine_chunks()  # arrow's, since a million Python strings are copied by each fork
        self._offsets = table["offset"].to_numpy()
        self._durations = table["duration"].to_numpy()

    def crop(self, row: int, length: int, key: int) -> np.ndarray:
        return read_crop(self._paths[row].as_py(), self._offsets[row], self._durations[row], length, key)


@dataclass
class Batch:
    """inputs: waveforms (batch, samples), or filter banks (batch, frames, mels). labels: int64 (batch,), of speakers
    and speeds. rows: of the manifest. plans: what was done to each."""

    inputs: Tensor
    labels: Tensor
    rows: list[int]
    plans: list[Plan]


class Loader:
    """Iterating gives the batches of `batches.epoch` from number `batches.start` on (see sampling.Batches).

    seconds: of each example. features: None for waveforms, as a self-supervised front end takes them.
    device: where the arithmetic is done and the batches end up. A recording that can't be read gives a warning with
    its name, and the batch has its next good example twice. Raises BankError if the augmentation needs a bank that is
    not there.
    """

    def __init__(
        self,
        recordings: Recordings,
        batches: Batches,
        seconds: float,
        augmentation: Augmentation | None = None,
        banks: Banks | None = None,
        features: FbankSettings | None = None,
        device: torch.device | str = "cpu",
        workers: int = 0,
    ):
        self.batches = batches
        self.augmentation = augmentation or Augmentation()
        self.device = torch.device(device)
        self.speakers = int(batches.speakers.max()) + 1 if len(batches.speakers) else 0
        self.classes = self.augmentation.speakers(self.speakers)
        self._fbank = Fbank(features).to(self.device) if features else None
        on_processor = self.device.type == "cpu"
        examples = _Examples(
            recordings, Planner(self.augmentation, banks), round(seconds * RATE), _AT_ONCE if on_processor else None
        )
        # `batches` stays in this process, so that its epoch can be changed while workers live on.
        self._loader = DataLoader(
            examples,
            batch_sampler=batches,
            num_workers=workers,
            collate_fn=_same,
            persistent_workers=workers > 0,
            pin_memory=self.device.type == "cuda",
            worker_init_fn=_one_thread,
            generator=torch.Generator(),  # its own: else each epoch would draw from what dropout draws from
        )

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        for examples, rows in self._loader:
            yield self._finish([part.to(self.device) for part in examples], rows)

    @torch.no_grad()
    def _finish(self, examples: list[Examples], rows: list[int]) -> Batch:
        parts = [self._features(augmented(part)) for part in examples]
        inputs = parts[0] if len(parts) == 1 else torch.cat(parts)
        plans = [plan for part in examples for plan in part.plans]
        if self._fbank is not None:
            inputs = masked(inputs, plans, self.augmentation)
        label, numbers = self.augmentation.label, self.batches.speakers
        labels = [label(int(numbers[row]), plan.speed, self.speakers) for row, plan in zip(rows, plans, strict=True)]
        return Batch(inputs, torch.tensor(labels, device=self.device), rows, plans)

    def _features(self, samples: Tensor) -> Tensor:
        if self._fbank is None:
            return samples
        size = _FBANKS_AT_ONCE if self.device.type == "cpu" else len(samples)
        return torch.cat([self._fbank(part) for part in samples.split(size)])


class _Examples(Dataset):
    """Whole batches for a DataLoader: a list of draws -> (Examples of `at_once` rows each, rows)."""

    def __init__(self, recordings: Recordings, planner: Planner, length: int, at_once: int | None):
        self.recordings, self.planner, self.length, self.at_once = recordings, planner, length, at_once

    def __getitems__(self, draws: list[Draw]) -> tuple[list[Examples], list[int]]:
        plans = [self.planner.plan(key, self.length) for _, key in draws]
        rows = [row for row, _ in draws]
        lengths = [plan.source_length(self.length) for plan in plans]
        read = [self._crop(row, length, key) for (row, key), length in zip(draws, lengths, strict=True)]
        good = {place: crop for place, crop in enumerate(read) if not isinstance(crop, AudioError)}
        crops = dict(good)
        for place, error in enumerate(read):
            if isinstance(error, AudioError):
                if not good:
                    raise error
                log.warning("left out: %s", error)
                instead = next((other for other in good if other > place), min(good))
                rows[place], crops[place] = rows[instead], wrapped(good[instead], lengths[place])
        size = self.at_once or len(draws)
        parts = [range(len(draws))[start : start + size] for start in range(0, len(draws), size)]
        banks = self.planner.banks
        return [assemble([crops[i] for i in p], [plans[i] for i in p], banks, self.length) for p in parts], rows

    def _crop(self, row: int, length: int, key: int) -> np.ndarray | AudioError:
        try:
            return self.recordings.crop(row, length, key)
        except AudioError as error:
            return error


def _same(batch):
    return batch


def _one_thread(worker: int) -> None:
    torch.set_num_threads(1)

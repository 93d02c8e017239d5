"""A batch on its way: a worker reads (`assemble`), the training device does the arithmetic (`augmented`, `masked`)."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from samevoice.data.augment import spec, waveform
from samevoice.data.augment.codecs import encode_decode
from samevoice.data.augment.plan import Plan, mixture
from samevoice.data.augment.settings import Augmentation
from samevoice.data.augment.telephone import telephone
from samevoice.data.banks import Banks

Rows = list[int]


@dataclass
class Examples:
    """Crops and what is to be done to them; every step names the rows that it is for.

    length: samples of each finished example. samples: (batch, longest crop), zeros after the shorter ones.
    speeds: of each row. noise: (noisy, length) at `snr` (noisy,) decibels below. responses: (reverberated, taps).
    plans: what was drawn for each row.
    """

    length: int
    samples: Tensor
    speeds: list[float]
    reverberated: Rows
    responses: Tensor
    direct: Tensor
    noisy: Rows
    noise: Tensor
    snr: Tensor
    amplified: Rows
    gain: Tensor
    clipped: Rows
    level: Tensor
    called: dict[str, Rows]
    plans: list[Plan]

    def to(self, device: torch.device | str) -> "Examples":
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> "Examples":
        return self._each(Tensor.pin_memory)

    def _each(self, change) -> "Examples":
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return Examples(**{name: change(v) if isinstance(v, Tensor) else v for name, v in values.items()})


def assemble(crops: Sequence[np.ndarray], plans: Sequence[Plan], banks: Banks | None, length: int) -> Examples:
    """Read what the plans need from the banks. crops: float32, each `plan.source_length(length)` long.

    Rows with a codec are finished here, by the worker: no codec runs on a GPU, and it must come last.
    """
    crops, steps = list(crops), list(plans)
    for row, plan in enumerate(plans):
        if plan.codec:
            alone = assemble([crops[row]], [replace(plan, codec=None)], banks, length)
            with one_thread():
                finished = waveform.into_range(augmented(alone))[0].numpy()
            crops[row] = encode_decode(finished, *plan.codec)
            steps[row] = Plan()
    samples = np.zeros((len(crops), max(map(len, crops))), np.float32)
    for row, crop in zip(samples, crops, strict=True):
        row[: len(crop)] = crop
    mixtures = {row: mixture(plan.sources, banks, length) for row, plan in enumerate(steps) if plan.sources and banks}
    noises = {row: noise for row, noise in mixtures.items() if noise}
    reverberated = [row for row, plan in enumerate(steps) if plan.rir is not None]
    responses = [banks["rir"].impulse_response(plan.rir) for plan in steps if banks and plan.rir is not None]
    padded = np.zeros((len(responses), max((len(response) for response, _ in responses), default=1)), np.float32)
    for row, (response, _) in zip(padded, responses, strict=True):
        row[: len(response)] = response
    amplified = [row for row, plan in enumerate(steps) if plan.gain is not None]
    clipped = [row for row, plan in enumerate(steps) if plan.clipping is not None]
    return Examples(
        length=length,
        samples=torch.from_numpy(samples),
        speeds=[plan.speed for plan in steps],
        reverberated=reverberated,
        responses=torch.from_numpy(padded),
        direct=torch.tensor([direct for _, direct in responses], dtype=torch.int64),
        noisy=list(noises),
        noise=torch.from_numpy(np.stack([noise.samples for noise in noises.values()]))
        if noises
        else torch.zeros(0, length),
        snr=torch.tensor([noise.snr for noise in noises.values()], dtype=torch.float32),
        amplified=amplified,
        gain=torch.tensor([steps[row].gain for row in amplified], dtype=torch.float32),
        clipped=clipped,
        level=torch.tensor([steps[row].clipping for row in clipped], dtype=torch.float32),
        called={law: [row for row, plan in enumerate(steps) if plan.law == law] for law in ("a", "mu")},
        plans=list(plans),
    )


@contextmanager
def one_thread() -> Iterator[None]:
    """As workers compute: with other threads torch rounds otherwise, and a codec makes that another sound."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def augmented(examples: Examples) -> Tensor:
    """The waveforms, (batch, length), on the device where the examples are: speed, room, noise, level, call."""
    samples = _at_speed(examples)
    if rows := examples.reverberated:
        samples[rows] = waveform.reverberate(samples[rows], examples.responses, examples.direct)
    if rows := examples.noisy:
        samples[rows] = waveform.mix(samples[rows], examples.noise, examples.snr)
    if rows := examples.amplified:
        samples[rows] = waveform.amplify(samples[rows], examples.gain)
    if rows := examples.clipped:
        samples[rows] = waveform.clip(samples[rows], examples.level)
    for law, rows in examples.called.items():
        if rows:
            samples[rows] = telephone(waveform.into_range(samples[rows]), law)
    return samples


def masked(features: Tensor, plans: Sequence[Plan], settings: Augmentation) -> Tensor:
    """SpecAugment as drawn: (batch, frames, mels) -> the same."""
    widths = ((2, settings.frequency_width), (1, settings.time_width))
    drawn = ([plan.frequency_masks for plan in plans], [plan.time_masks for plan in plans])
    for (axis, width), masks in zip(widths, drawn, strict=True):
        if any(masks):
            features = spec.mask(features, torch.tensor(masks, device=features.device), width, axis)
    return features


def _at_speed(examples: Examples) -> Tensor:
    """(batch, length); a new tensor, which the other steps write into."""
    samples = examples.samples.new_zeros(len(examples.speeds), examples.length)
    for speed in sorted(set(examples.speeds)):
        rows = [row for row, own in enumerate(examples.speeds) if own == speed]
        samples[rows] = waveform.change_speed(examples.samples[rows], speed, examples.length)
    return samples

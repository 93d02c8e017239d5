"""Changes of waveforms in batches, on any device: speed, rooms, noise, level. Rows do not touch each other."""

import math
from fractions import Fraction
from functools import lru_cache

import torch
from torch import Tensor

from samevoice.data.augment.settings import fraction

_ZEROS = 8  # zero crossings of the resampling filter to each side of its middle


def change_speed(samples: Tensor, speed: float, length: int) -> Tensor:
    """(batch, samples) -> (batch, length): played `speed` times as fast, pitch and all, as sox's `speed` does.

    Windowed-sinc interpolation at the ratio of `fraction(speed)`; what the output would need beyond the end is zero.

    >>> change_speed(torch.randn(2, 17600), 1.1, 16000).shape
    torch.Size([2, 16000])
    """
    ratio = fraction(speed)
    if ratio == 1:
        return _fit(samples, length)
    kernel, before = _kernel(ratio)
    kernel = kernel.to(samples)  # (taps, phases): phases outputs for every `numerator` inputs
    groups = -(-length // ratio.denominator)
    needed = (groups - 1) * ratio.numerator + len(kernel)
    padded = torch.nn.functional.pad(_fit(samples, needed - before), (before, 0))
    return (padded.unfold(-1, len(kernel), ratio.numerator) @ kernel).flatten(1)[:, :length]


def reverberate(samples: Tensor, responses: Tensor, direct: Tensor) -> Tensor:
    """Convolve each row with its impulse response: (batch, samples), (batch, taps), (batch,) -> (batch, samples).

    direct: the sample of each response's direct path; it is what comes out in place of the input, so that words stay
    where they were. Each row keeps its energy, so that a signal-to-noise ratio means the same before and after.
    """
    length, taps = samples.shape[-1], responses.shape[-1]
    size = fast_size(length + taps - 1)
    spectrum = torch.fft.rfft(samples, size) * torch.fft.rfft(responses, size)
    wet = torch.fft.irfft(spectrum, size).gather(1, torch.arange(length, device=samples.device) + direct[:, None])
    return wet * (_power(samples) / _power(wet)).sqrt()


def mix(samples: Tensor, noise: Tensor, snr: Tensor) -> Tensor:
    """Add to each row its noise, scaled until it lies `snr` decibels below: (batch, samples) twice, (batch,)."""
    wanted = _power(samples) * 10 ** (-snr[:, None] / 10)
    return samples + noise * (wanted / _power(noise)).sqrt()


def amplify(samples: Tensor, decibels: Tensor) -> Tensor:
    """(batch, samples), (batch,) -> (batch, samples)"""
    return samples * 10 ** (decibels[:, None] / 20)


def clip(samples: Tensor, level: Tensor) -> Tensor:
    """Cut each row at this share of its peak: (batch, samples), (batch,) -> (batch, samples)"""
    limit = samples.abs().amax(-1, keepdim=True) * level[:, None]
    return torch.clamp(samples, -limit, limit)


def into_range(samples: Tensor) -> Tensor:
    """Rows that reach beyond [-1, 1] made quieter until they don't, as a recorder's level control would."""
    return samples / samples.abs().amax(-1, keepdim=True).clamp_min(1)


@lru_cache(maxsize=256)
def fast_size(least: int) -> int:
    """The smallest size from `least` up whose only factors are 2, 3 and 5: FFTs of others are slow."""
    best = 1 << (least - 1).bit_length()
    for fives in range(7):
        for threes in range(7):
            odd = 5**fives * 3**threes
            best = min(best, odd << max(0, (-(-least // odd) - 1).bit_length()))
    return best


@lru_cache(maxsize=256)
def _kernel(ratio: Fraction) -> tuple[Tensor, int]:
    """Filter of each output phase as a column, (taps, phases), and how many inputs lie before the first output."""
    cutoff = 0.945 * min(1.0, 1 / ratio)  # of the input's band; sox's and torchaudio's roll off there too
    reach = math.ceil(_ZEROS / cutoff)
    places = torch.arange(ratio.denominator, dtype=torch.float64) * float(ratio)  # of the outputs among the inputs
    taps = torch.arange(-reach, math.ceil(float(places[-1])) + reach + 1, dtype=torch.float64)
    distance = (taps[:, None] - places) * cutoff
    window = torch.cos(math.pi * distance / (2 * _ZEROS)).square() * (distance.abs() <= _ZEROS)
    return (torch.sinc(distance) * window * cutoff).float(), reach


def _fit(samples: Tensor, length: int) -> Tensor:
    """Cut, or lengthened by zeros."""
    short = length - samples.shape[-1]
    return torch.nn.functional.pad(samples, (0, short)) if short > 0 else samples[..., :length]


def _power(samples: Tensor) -> Tensor:
    """(batch, 1) mean squares, never zero: a silent row stays silent."""
    return samples.square().mean(-1, keepdim=True).clamp_min(1e-20)

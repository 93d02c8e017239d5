"""Telephone calls in batches, on any device: the band of a telephone, and G.711 to the bit."""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

RATE = 16000


def telephone(samples: Tensor, law: str, low: float = 300.0, high: float = 3400.0) -> Tensor:
    """Through a call: (batch, samples) at 16 kHz -> the same shape, at 8 kHz in between, G.711 coded.

    law: "a" (Europe) or "mu" (North America, Japan). Rows must lie in [-1, 1].
    """
    narrow = to_8khz(samples, low, high)
    return from_8khz(g711(narrow, law), samples.shape[-1])


def to_8khz(samples: Tensor, low: float = 300.0, high: float = 3400.0) -> Tensor:
    """(batch, samples) at 16 kHz -> (batch, ceil(samples / 2)) at 8 kHz with the band low..high hertz.

    By FFT; the edges fall over an octave below `low` and over 500 Hz above `high`. The ends meet as in a circle.
    """
    even = _even(samples)
    spectrum = torch.fft.rfft(even)[:, : even.shape[-1] // 4 + 1]
    hertz = torch.arange(spectrum.shape[-1], device=samples.device) * (RATE / even.shape[-1])
    rise = ((hertz - low / 2) / (low / 2)).clamp(0, 1)
    fall = ((high + 500 - hertz) / 500).clamp(0, 1)
    band = (torch.sin(0.5 * torch.pi * rise) * torch.sin(0.5 * torch.pi * fall)).square()
    return torch.fft.irfft(spectrum * band, even.shape[-1] // 2) / 2


def from_8khz(samples: Tensor, length: int) -> Tensor:
    """(batch, samples) at 8 kHz -> (batch, length) at 16 kHz, nothing above 4 kHz."""
    return torch.fft.irfft(torch.fft.rfft(samples), 2 * samples.shape[-1])[:, :length] * 2


def g711(samples: Tensor, law: str) -> Tensor:
    """Encode and decode: any shape in [-1, 1] -> the values that ITU-T G.711's receiver gives, as libsndfile's."""
    table = torch.from_numpy(_table(law)).to(samples.device)
    return table[(samples * 32768).round().clamp(-32768, 32767).long() + 32768]


@lru_cache(maxsize=2)
def _table(law: str) -> np.ndarray:
    """What each of the 65,536 linear values becomes, float32."""
    if law not in ("a", "mu"):
        raise ValueError(f"G.711 has the laws 'a' and 'mu', not {law!r}")
    linear = np.arange(-32768, 32768)
    return ((_a if law == "a" else _mu)(linear) / 32768).astype(np.float32)


def _mu(linear: np.ndarray) -> np.ndarray:
    """14-bit magnitudes with a bias of 33, in eight segments of sixteen steps; the middle of the step comes back."""
    magnitude = np.minimum(np.abs(linear) // 4 + 33, 8191)
    segment = np.floor(np.log2(magnitude)).astype(int) - 5
    step = (magnitude >> (segment + 1)) & 15
    decoded = (((2 * step + 33) << segment) - 33) * 4
    return np.where(linear < 0, -decoded, decoded)


def _a(linear: np.ndarray) -> np.ndarray:
    """11-bit magnitudes, the lowest two of eight segments with the same step; the middle of the step comes back."""
    magnitude = np.where(linear < 0, -linear // 16, linear // 16)
    magnitude = np.minimum(magnitude, 2047)
    segment = np.maximum(np.floor(np.log2(np.maximum(magnitude, 1))).astype(int) - 3, 0)
    width = np.maximum(segment - 1, 0)  # of a step, as a power of two
    decoded = (((magnitude >> width) << width) * 2 + (1 << width)) * 8
    return np.where(linear < 0, -decoded, decoded)


def _even(samples: Tensor) -> Tensor:
    """The length made a multiple of four by repeating the last samples."""
    short = -samples.shape[-1] % 4
    return torch.cat([samples, samples[:, -short:]], -1) if short else samples

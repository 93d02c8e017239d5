"""The same filter banks as fbank.py, for batches on any device: what training and the data pipeline use."""

import math

import torch
from torch import Tensor, nn

from samevoice.audio.decode import RATE
from samevoice.audio.fbank import SHIFT, WINDOW, FbankSettings

_FFT = 512


class Fbank(nn.Module):
    """Log mel energies of a batch of recordings of equal length.

    (batch, samples) at 16 kHz in [-1, 1] -> (batch, frames, mels), frames = 1 + (samples - 400) // 160.
    Equal to `fbank.fbank` (kaldi-native-fbank) within 1e-3 in every filter down to 80 dB under the frame's strongest
    one; below that the float32 FFTs of both are noise. Raises ValueError for fewer than 400 samples.

    >>> Fbank(FbankSettings(mels=80))(torch.randn(2, 16000)).shape
    torch.Size([2, 98, 80])
    """

    window: Tensor
    filters: Tensor

    def __init__(self, settings: FbankSettings):
        super().__init__()
        self.settings = settings
        self.register_buffer("window", _window(settings.window), persistent=False)
        self.register_buffer("filters", mel_filters(settings.mels), persistent=False)

    def forward(self, samples: Tensor) -> Tensor:
        if samples.shape[-1] < WINDOW:
            raise ValueError(f"a recording of {samples.shape[-1]} samples is shorter than one frame ({WINDOW})")
        frames = (samples * self.settings.scale).unfold(-1, WINDOW, SHIFT)  # (batch, frames, 400)
        frames = frames - frames.mean(-1, keepdim=True)
        before = torch.cat([frames[..., :1], frames[..., :-1]], -1)
        frames = (frames - 0.97 * before) * self.window
        spectrum = torch.fft.rfft(frames, _FFT)
        power = spectrum.real.square() + spectrum.imag.square()  # (batch, frames, 257); abs() would take a root first
        energies = power @ self.filters  # (batch, frames, mels)
        features = energies.clamp_min(torch.finfo(torch.float32).eps).log()
        return features - features.mean(1, keepdim=True) if self.settings.subtract_mean else features


def mel_filters(mels: int, low: float = 20.0, high: float = RATE / 2) -> Tensor:
    """Kaldi's triangles, even in mel and not normalised: (257, mels); the bin at 8 kHz belongs to none."""

    lowest, highest = (1127.0 * math.log1p(hertz / 700.0) for hertz in (low, high))
    edges = lowest + (highest - lowest) / (mels + 1) * torch.arange(mels + 2, dtype=torch.float64)
    hertz = torch.arange(_FFT // 2 + 1, dtype=torch.float64) * RATE / _FFT
    bins = 1127.0 * torch.log1p(hertz / 700.0)[:, None]
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    rising = (bins - left) / (centre - left)
    falling = (right - bins) / (right - centre)
    filters = torch.minimum(rising, falling).clamp_min(0)
    filters[-1] = 0
    return filters.float()


def _window(name: str) -> Tensor:
    phase = 2 * math.pi * torch.arange(WINDOW, dtype=torch.float64) / (WINDOW - 1)
    if name == "povey":
        return (0.5 - 0.5 * phase.cos()).pow(0.85).float()
    return (0.54 - 0.46 * phase.cos()).float()

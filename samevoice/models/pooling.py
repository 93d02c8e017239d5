"""Temporal pooling: a sequence of frames in, one vector out, padding never counted."""

import torch
from torch import Tensor, nn


def frame_mask(lengths: Tensor, frames: int) -> Tensor:
    """True at valid frames: (batch,) lengths -> (batch, frames)."""
    return torch.arange(frames, device=lengths.device) < lengths[:, None]


class StatisticsPooling(nn.Module):
    """Mean and standard deviation over time (Snyder et al., X-vectors, ICASSP 2018).

    (batch, channels, frames), optional lengths (batch,) -> (batch, 2 * channels).
    Axes between channels and frames (the mels of a 2-D network) are merged into the channels.

    eps: added to the variance under the root. unbiased: divide by frames - 1.

    >>> StatisticsPooling()(torch.randn(2, 8, 50)).shape
    torch.Size([2, 16])
    """

    def __init__(self, eps: float = 1e-8, unbiased: bool = True):
        super().__init__()
        self.eps = eps
        self.unbiased = unbiased

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        x = x.flatten(1, -2)  # (batch, channels, frames)
        if lengths is None:
            mean = x.mean(-1)
            variance = x.var(-1, unbiased=self.unbiased)
        else:
            mask = frame_mask(lengths, x.shape[-1])[:, None]  # (batch, 1, frames)
            count = lengths[:, None].to(x.dtype)
            mean = (x * mask).sum(-1) / count
            variance = ((x - mean[..., None]).square() * mask).sum(-1) / (count - self.unbiased)
        return torch.cat([mean, (variance + self.eps).sqrt()], 1)

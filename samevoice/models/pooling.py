"""Temporal pooling: a sequence of frames in, one vector out, padding never counted."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def frame_mask(lengths: Tensor, frames: int) -> Tensor:
    """True at valid frames: (batch,) lengths -> (batch, frames)."""
    return torch.arange(frames, device=lengths.device) < lengths[:, None]


def zero_padding(x: Tensor, lengths: Tensor | None) -> Tensor:
    """x, (batch, channels, frames), with 0 in every frame past its row's length; x itself where lengths is None.

    >>> zero_padding(torch.ones(2, 1, 3), torch.tensor([3, 1])).tolist()
    [[[1.0, 1.0, 1.0]], [[1.0, 0.0, 0.0]]]
    """
    return x if lengths is None else x.masked_fill(~frame_mask(lengths, x.shape[-1])[:, None], 0.0)


def frame_mean(x: Tensor, lengths: Tensor | None = None) -> Tensor:
    """Mean over the valid frames: (batch, channels, frames) -> (batch, channels)."""
    return x.mean(-1) if lengths is None else zero_padding(x, lengths).sum(-1) / lengths[:, None]


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
        mean = frame_mean(x, lengths)
        if lengths is None:
            variance = x.var(-1, unbiased=self.unbiased)
        else:
            deviations = zero_padding(x - mean[..., None], lengths)
            variance = deviations.square().sum(-1) / (lengths[:, None] - int(self.unbiased))
        return torch.cat([mean, (variance + self.eps).sqrt()], 1)


class AttentiveStatisticsPooling(nn.Module):
    """Mean and standard deviation over time, each channel weighing the frames by its own attention.

    Okabe et al., Interspeech 2018; channel- and context-dependent in ECAPA-TDNN (Desplanques et al., Interspeech 2020,
    section 3.1). (batch, channels, frames), optional lengths (batch,) -> (batch, 2 * channels).

    bottleneck: width of the hidden layer of the attention.
    context: what the attention sees of the whole recording beside each frame, (batch, channels, frames) ->
        (batch, 2 * channels), usually a `StatisticsPooling`; None: each frame by itself.
    activation: between the two layers of the attention; tanh by default, others put a BatchNorm there.
    floor: the smallest variance under the root. dropout: share of the frames that training leaves out at random.

    >>> pool = AttentiveStatisticsPooling(8, bottleneck=4, context=StatisticsPooling())
    >>> pool(torch.randn(2, 8, 50), torch.tensor([50, 30])).shape
    torch.Size([2, 16])
    """

    def __init__(
        self,
        channels: int,
        bottleneck: int = 128,
        context: nn.Module | None = None,
        activation: nn.Module | None = None,
        floor: float = 1e-7,
        dropout: float = 0.0,
    ):
        super().__init__()
        self.channels = channels
        self.linear1 = nn.Conv1d(3 * channels if context else channels, bottleneck, 1)
        self.linear2 = nn.Conv1d(bottleneck, channels, 1)
        self.context = context
        self.activation = activation or nn.Tanh()
        self.floor = floor
        self.dropout = dropout

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        x = zero_padding(x, lengths)
        weights = self.scores(x, lengths).softmax(-1)  # (batch, channels, frames), each channel sums to 1
        mean = (weights * x).sum(-1)
        variance = (weights * (x - mean[..., None]).square()).sum(-1)
        return torch.cat([mean, variance.clamp(min=self.floor).sqrt()], 1)

    def scores(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """The attention before its softmax, (batch, channels, frames); frames not to count have the least number."""
        hidden = F.conv1d(x, self.linear1.weight[:, : self.channels], self.linear1.bias)  # (batch, bottleneck, frames)
        if self.context is not None:  # the same at every frame, so multiplied once and not frame by frame
            context = self.context(x, lengths)  # (batch, 2 * channels)
            hidden = hidden + F.linear(context, self.linear1.weight[:, self.channels :, 0])[..., None]
        scores = self.linear2(self.activation(hidden))  # (batch, channels, frames)
        least = torch.finfo(scores.dtype).min
        if lengths is not None:
            scores = scores.masked_fill(~frame_mask(lengths, x.shape[-1])[:, None], least)
        if self.training and self.dropout > 0:
            scores = scores.masked_fill(torch.rand_like(scores[:, :1]) < self.dropout, least)
        return scores

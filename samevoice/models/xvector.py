"""X-vector: a time-delay network with statistics pooling (Snyder et al., ICASSP 2018), after WeSpeaker's."""

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from samevoice.models.base import SpeakerNetwork
from samevoice.models.pooling import StatisticsPooling
from samevoice.models.tdnn import TDNNLayer


class XVector(SpeakerNetwork):
    """Five time-delay layers, statistics pooling, two linear layers (Snyder et al., ICASSP 2018, Table 1).

    (batch, frames, mels), optional lengths (batch,) -> (batch, embedding_dim); at least 16 frames.

    The embedding is the output of the second linear layer, as WeSpeaker has it; Kaldi takes the first one's.
    `channels` is the width of the first four layers, `stats_channels` of the fifth. 4.61M parameters.

    >>> import torch
    >>> XVector().eval()(torch.randn(2, 100, 80)).shape
    torch.Size([2, 512])
    """

    takes_lengths = True
    paddings: ClassVar[tuple[int, ...]] = (0, 0, 0, 0, 0)  # every layer sees whole contexts only
    affine: ClassVar[bool] = False  # as Kaldi's BatchNorm

    def __init__(self, mels: int = 80, embedding_dim: int = 512, channels: int = 512, stats_channels: int = 1500):
        super().__init__()
        self.embedding_dim = embedding_dim
        inputs = (mels, channels, channels, channels, channels)
        outputs = (channels, channels, channels, channels, stats_channels)
        kernels = (5, 3, 3, 1, 1)
        dilations = (1, 2, 3, 1, 1)
        layers = [
            TDNNLayer(*shape, affine=self.affine)
            for shape in zip(inputs, outputs, kernels, dilations, self.paddings, strict=True)
        ]
        self.lost_frames = [layer.conv.lost_frames for layer in layers]
        self.frame = nn.ModuleList(layers)
        self.pool = StatisticsPooling(eps=1e-7)
        self.seg_1 = nn.Linear(2 * stats_channels, embedding_dim)
        self.seg_bn_1 = nn.BatchNorm1d(embedding_dim, affine=False)
        self.seg_2 = nn.Linear(embedding_dim, embedding_dim)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        x = x.transpose(1, 2)  # (batch, mels, frames)
        for layer, lost_frames in zip(self.frame, self.lost_frames, strict=True):
            x = layer(x, lengths)  # (batch, channels, frames - lost_frames)
            lengths = None if lengths is None else lengths - lost_frames
        return self.project(self.pool(x, lengths))  # (batch, embedding_dim)

    def project(self, statistics: Tensor) -> Tensor:
        return self.seg_2(self.seg_bn_1(F.relu(self.seg_1(statistics))))


class PaddedXVector(XVector):
    """The x-vector as the LAP paper's code puts it on the hidden states of a self-supervised model (its Table 1).

    The first three layers pad a little, BatchNorm has weights, and none stands between the linear layers. The
    embedding is the output of the first linear layer; the second one is between it and the speaker classifier, so
    training mode returns the output of the second. 6.38M parameters on 768 inputs.
    """

    paddings = (2, 1, 1, 0, 0)
    affine = True

    def __init__(self, mels: int = 768, embedding_dim: int = 512, channels: int = 512, stats_channels: int = 1500):
        super().__init__(mels, embedding_dim, channels, stats_channels)
        self.seg_bn_1 = nn.Identity()

    def project(self, statistics: Tensor) -> Tensor:
        return super().project(statistics) if self.training else self.seg_1(statistics)

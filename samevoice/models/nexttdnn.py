"""NeXt-TDNN (Heo et al., ICASSP 2024): ECAPA-TDNN's frame with ConvNeXt V2 blocks over time."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samevoice.models.base import SpeakerNetwork
from samevoice.models.pooling import AttentiveStatisticsPooling, zero_padding
from samevoice.models.tdnn import TimeConv1d

STAGES = 3  # whose outputs are aggregated


class NeXtTDNN(SpeakerNetwork):
    """(batch, frames, mels), optional lengths (batch,) -> (batch, embedding_dim).

    channels, depth: the paper's C and B, the width and the blocks of each of the three stages.
    kernels: of the depthwise convolutions, each over its share of the channels. C=256, B=3: 7.14M parameters.

    >>> NeXtTDNN(channels=32, depth=1).eval()(torch.randn(2, 100, 80)).shape
    torch.Size([2, 192])
    """

    takes_lengths = True

    def __init__(
        self,
        mels: int = 80,
        embedding_dim: int = 192,
        channels: int = 256,
        depth: int = 3,
        kernels: tuple[int, ...] = (7, 65),
    ):
        super().__init__()
        self.embedding_dim = embedding_dim
        self.stem = TimeConv1d(mels, channels, 4)
        self.stem_norm = nn.LayerNorm(channels, eps=1e-6)
        self.stages = nn.ModuleList(
            nn.ModuleList(self.block(channels, kernels) for _ in range(depth)) for _ in range(STAGES)
        )
        self.apply(_initialise)
        channels = STAGES * channels
        self.mfa = nn.Linear(channels, channels)
        self.mfa_norm = nn.LayerNorm(channels, eps=1e-6)
        bottleneck = channels // 8
        attention = nn.Sequential(nn.BatchNorm1d(bottleneck), nn.Tanh())
        self.pool = AttentiveStatisticsPooling(channels, bottleneck, activation=attention, floor=1e-5)
        self.bn2 = nn.BatchNorm1d(2 * channels)
        self.fc = nn.Linear(2 * channels, embedding_dim)
        self.bn3 = nn.BatchNorm1d(embedding_dim)

    def block(self, channels: int, kernels: tuple[int, ...]) -> nn.Module:
        return TSConvNeXt(channels, kernels)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        x = self.stem(x.transpose(1, 2))  # (batch, channels, frames - 3)
        x = self.stem_norm(x.transpose(1, 2))  # (batch, frames - 3, channels)
        lengths = None if lengths is None else lengths - self.stem.lost_frames
        stage_outputs = []
        for stage in self.stages:
            for block in stage:  # type: ignore[attr-defined]
                x = block(x, lengths)
            stage_outputs.append(x)
        x = self.mfa_norm(self.mfa(torch.cat(stage_outputs, -1)))  # (batch, frames - 3, 3 * channels)
        x = self.pool(x.transpose(1, 2), lengths)  # (batch, 6 * channels)
        return self.bn3(self.fc(self.bn2(x)))  # (batch, embedding_dim)


class NeXtTDNNLight(NeXtTDNN):
    """The paper's NeXt-TDNN-l: one depthwise convolution in each block. C=256, B=3: 6.0M parameters."""

    def __init__(self, mels: int = 80, embedding_dim: int = 192, channels: int = 256, depth: int = 3, kernel: int = 65):
        super().__init__(mels, embedding_dim, channels, depth, (kernel,))

    def block(self, channels: int, kernels: tuple[int, ...]) -> nn.Module:
        return TSConvNeXtLight(channels, *kernels)


class FeedForward(nn.Module):
    """The frame-wise half of a block, with global response normalisation: (batch, frames, channels) -> the same."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.pwconv1 = nn.Linear(channels, 4 * channels)
        self.grn = GlobalResponseNorm(4 * channels)
        self.pwconv2 = nn.Linear(4 * channels, channels)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        hidden = F.gelu(self.pwconv1(self.norm(x)))  # (batch, frames, 4 * channels)
        return x + self.pwconv2(self.grn(hidden, lengths))


class TSConvNeXtLight(FeedForward):
    """One depthwise convolution over time, then the feed-forward half: (batch, frames, channels) -> the same."""

    def __init__(self, channels: int, kernel: int):
        super().__init__(channels)
        self.dwconv = depthwise(channels, kernel)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        x = x + self.dwconv(x.transpose(1, 2), lengths).transpose(1, 2)
        return super().forward(x, lengths)


class TSConvNeXt(FeedForward):
    """Depthwise convolutions of several kernel sizes side by side, then the feed-forward half.

    (batch, frames, channels), optional lengths -> the same shape
    """

    def __init__(self, channels: int, kernels: tuple[int, ...]):
        super().__init__(channels)
        if channels % len(kernels):
            raise ValueError(f"{channels} channels do not divide into {len(kernels)} kernel sizes")
        self.projection_linear = nn.Conv1d(channels, channels, 1)
        self.mscconv = nn.ModuleList(depthwise(channels // len(kernels), kernel) for kernel in kernels)
        self.pwconv_1stage = nn.Linear(channels, channels)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        parts = self.projection_linear(x.transpose(1, 2)).chunk(len(self.mscconv), 1)
        scales = torch.cat([conv(part, lengths) for conv, part in zip(self.mscconv, parts, strict=True)], 1)
        x = x + self.pwconv_1stage(F.gelu(scales).transpose(1, 2))  # (batch, frames, channels)
        return super().forward(x, lengths)


class GlobalResponseNorm(nn.Module):
    """Scales each channel by its energy over time beside the other channels' (ConvNeXt V2, Woo et al., CVPR 2023).

    (batch, frames, channels), optional lengths -> the same shape
    """

    def __init__(self, channels: int):
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1, 1, channels))
        self.beta = nn.Parameter(torch.zeros(1, 1, channels))

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        energy = torch.linalg.vector_norm(zero_padding(x.transpose(1, 2), lengths), dim=-1)  # (batch, channels)
        response = energy / (energy.mean(-1, keepdim=True) + 1e-6)
        return x + self.gamma * (x * response[:, None]) + self.beta


def depthwise(channels: int, kernel: int) -> TimeConv1d:
    """A convolution over time of each channel by itself that keeps the number of frames; the kernel is odd."""
    return TimeConv1d(channels, channels, kernel, padding=kernel // 2, groups=channels)


def _initialise(module: Any) -> None:
    if isinstance(module, nn.Conv1d | nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)  # type: ignore[arg-type]

"""ReDimNet and ReDimNet2 on filter banks: feature maps seen as images and as sequences in turn.

Yakovlev et al., Reshape dimensions network for speaker recognition (Interspeech 2024), github.com/IDRnD/redimnet;
Yakovlev and Okhotnikov, ReDimNet2: scaling speaker verification via time-pooled dimension reshaping (Interspeech 2026,
arXiv 2603.11841), github.com/PalabraAI/redimnet2. The public networks take a waveform; ours take its filter banks: 72
mels between 20 and 7600 Hz (60 for ReDimNet-B0) of 25 ms Hamming windows with pre-emphasis 0.97, every 15 ms in the
released ReDimNet-B2 and B5 and every 10 ms in ReDimNet2, logarithm of the power + 1e-6, minus the mean over time.

A map is (batch, channels, mels, frames) as an image and (batch, mels * channels, frames) as a sequence; channels grow
as mels shrink, so that all sequences are equally wide and every stage can start from a weighted sum of all before.
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samevoice.models.base import SpeakerNetwork
from samevoice.models.pooling import AttentiveStatisticsPooling, StatisticsPooling


class Stage(NamedTuple):
    """One stage: a convolution that shrinks the mels, 2-D blocks, one 1-D block, and back to all frames."""

    stride: int  # of the mels; channels grow by as much
    blocks: int
    expansion: float  # of the channels inside the stage
    reduction: int | None  # the 1-D block is this many times narrower than the sequence; None: no 1-D block
    time_stride: int = 1  # from the input layer to this stage (ReDimNet2)


class Size(NamedTuple):
    """One member of the family. `group` is the channels per group of a 2-D convolution."""

    channels: int
    block: Literal["convnext", "resnet", "resnet_se"]
    group: int
    stages: tuple[Stage, ...]
    head: int | None = None  # channels of the last map (ReDimNet2); None: as they are


_B4_STAGES = (
    Stage(1, 4, 2, 48),
    Stage(2, 4, 2, 48),
    Stage(1, 6, 2, 48),
    Stage(2, 6, 1, 32),
    Stage(1, 8, 1, 24),
    Stage(2, 4, 1, 16),
)

REDIMNET = {
    "b0": Size(
        10,
        "resnet",
        1,
        (Stage(1, 2, 1, 30), Stage(2, 3, 2, 30), Stage(1, 3, 3, 30), Stage(2, 4, 2, 10), Stage(1, 3, 1, 10)),
    ),
    "b1": Size(
        12,
        "convnext",
        8,
        (Stage(1, 2, 1, None), Stage(2, 3, 1, None), Stage(3, 4, 1, 12), Stage(2, 5, 1, 12), Stage(2, 3, 1, 8)),
    ),
    "b2": Size(
        16,
        "convnext",
        4,
        (
            Stage(1, 2, 1, 12),
            Stage(2, 2, 1, 12),
            Stage(1, 3, 1, 12),
            Stage(3, 4, 1, 8),
            Stage(1, 4, 1, 8),
            Stage(2, 4, 1, 4),
        ),
    ),
    "b3": Size(
        16,
        "resnet_se",
        1,
        (
            Stage(1, 6, 4, 32),
            Stage(2, 6, 2, 32),
            Stage(1, 8, 2, 32),
            Stage(2, 10, 2, 16),
            Stage(1, 10, 1, 16),
            Stage(2, 8, 1, 16),
        ),
    ),
    "b4": Size(32, "resnet_se", 1, _B4_STAGES),
    "b5": Size(32, "resnet_se", 16, _B4_STAGES),
    "b6": Size(
        32,
        "resnet",
        32,
        (
            Stage(1, 4, 4, 32),
            Stage(2, 6, 2, 32),
            Stage(1, 6, 2, 24),
            Stage(3, 8, 1, 24),
            Stage(1, 8, 1, 16),
            Stage(2, 8, 1, 16),
        ),
    ),
}


def _stages2(
    expansions: Sequence[float],
    reductions: Sequence[int],
    blocks: Sequence[int] = (2, 3, 4, 5, 4, 3),
    strides: Sequence[int] = (1, 2, 1, 2, 1, 2),
) -> tuple[Stage, ...]:
    """The six stages of a ReDimNet2: mels shrink before every second one, frames halve before the two between."""
    time_strides = (1, 1, 2, 2, 4, 4)
    return tuple(map(Stage, strides, blocks, expansions, reductions, time_strides))


_NARROW, _WIDE = (2, 1, 1, 1, 1, 1), (4, 3, 2, 1, 1, 1)

REDIMNET2 = {
    "b0": Size(12, "resnet", 1, _stages2(_NARROW, (36, 36, 36, 36, 18, 18)), head=64),
    "b1": Size(16, "resnet", 1, _stages2(_NARROW, (32, 32, 32, 32, 16, 16))),
    "b2": Size(20, "resnet", 1, _stages2(_NARROW, (40, 30, 30, 20, 20, 10), strides=(1, 2, 1, 3, 1, 2))),
    "b3": Size(24, "resnet", 1, _stages2(_WIDE, (24,) * 6)),
    "b4": Size(32, "resnet", 1, _stages2(_WIDE, (24,) * 6)),
    "b5": Size(48, "resnet", 1, _stages2(_WIDE, (48, 48, 48, 48, 32, 32)), head=256),
    "b6": Size(
        64, "resnet", 1, _stages2((3, 2, 2, 1, 0.75, 0.5), (64, 64, 48, 48, 32, 24), (3, 4, 5, 5, 4, 3)), head=224
    ),
}


def to_sequence(x: Tensor) -> Tensor:
    """(batch, channels, mels, frames) -> (batch, mels * channels, frames)."""
    return x.transpose(1, 2).flatten(1, 2)


def to_image(x: Tensor, channels: int) -> Tensor:
    """(batch, mels * channels, frames) -> (batch, channels, mels, frames)."""
    return x.unflatten(1, (-1, channels)).transpose(1, 2)


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the second axis."""

    def __init__(self, channels: int):
        super().__init__(channels, eps=1e-6)

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.movedim(1, -1)).movedim(-1, 1)


class WeightedSum(nn.Module):
    """Sequences of equal shape added with weights per channel that sum to one: `count` of (batch, size, frames)."""

    def __init__(self, count: int, size: int):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(count, size, 1))

    def forward(self, sequences: Sequence[Tensor]) -> Tensor:
        weights = self.w.softmax(0)
        total = weights[0] * sequences[0]
        for weight, sequence in zip(weights[1:], sequences[1:], strict=True):
            total = total + weight * sequence
        return total


class ConvNeXtBlock1d(nn.Module):
    """A depthwise convolution, BatchNorm, GELU and a 1x1 convolution around a shortcut: (batch, channels, frames)."""

    def __init__(self, channels: int, kernel: int):
        super().__init__()
        self.dwconv = nn.Conv1d(channels, channels, kernel, padding="same", groups=channels)
        self.norm = nn.BatchNorm1d(channels)
        self.pwconv = nn.Conv1d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.pwconv(F.gelu(self.norm(self.dwconv(x))))


class ConvNeXtBlock2d(ConvNeXtBlock1d):
    """The same over images with a 3x3 convolution in groups: (batch, channels, mels, frames)."""

    def __init__(self, channels: int, mels: int, group: int):
        nn.Module.__init__(self)
        self.dwconv = nn.Conv2d(channels, channels, 3, padding="same", groups=channels // group)
        self.norm = nn.BatchNorm2d(channels)
        self.pwconv = nn.Conv2d(channels, channels, 1)


class ResNetBlock2d(nn.Module):
    """Two 3x3 convolutions in groups, each followed by a 1x1 convolution: (batch, channels, mels, frames), kept.

    The first BatchNorm comes after its ReLU, as in the public code.
    """

    def __init__(self, channels: int, mels: int, group: int):
        super().__init__()
        groups = channels // group
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, groups=groups, bias=False)
        self.conv1pw = nn.Conv2d(channels, channels, 1)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, groups=groups, bias=False)
        self.conv2pw = nn.Conv2d(channels, channels, 1)
        self.bn2 = nn.BatchNorm2d(channels)
        self.se = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn1(F.relu(self.conv1pw(self.conv1(x))))
        y = self.se(self.bn2(self.conv2pw(self.conv2(y))))
        return F.relu(y + x)


class MelExcitation(nn.Module):
    """A weight for every mel from the mean over channels and frames (frequency-wise squeeze and excitation).

    Thienpondt et al., Integrating frequency translational invariance in TDNNs and frequency positional
    information in 2D ResNets (Interspeech 2021).
    """

    def __init__(self, mels: int, hidden: int):
        super().__init__()
        self.squeeze = nn.Linear(mels, hidden)
        self.excitation = nn.Linear(hidden, mels)

    def forward(self, x: Tensor) -> Tensor:
        weights = torch.sigmoid(self.excitation(F.relu(self.squeeze(x.mean((1, 3))))))  # (batch, mels)
        return x * weights[:, None, :, None]


class ExcitedResNetBlock2d(ResNetBlock2d):
    """The residual block with `MelExcitation` before its sum."""

    def __init__(self, channels: int, mels: int, group: int):
        super().__init__(channels, mels, group)
        self.se = MelExcitation(mels, min(64, max(channels, 32)))


BLOCKS_2D = {"convnext": ConvNeXtBlock2d, "resnet": ResNetBlock2d, "resnet_se": ExcitedResNetBlock2d}


class TransformerLayer(nn.Module):
    """Self-attention over time and a feed-forward layer, normalised after each sum: (batch, channels, frames), kept."""

    def __init__(self, channels: int, heads: int = 4):
        super().__init__()
        if channels % heads:
            raise ValueError(f"{channels} channels of a 1-D block cannot be shared by {heads} heads: other mels do")
        self.heads = heads
        self.k_proj = nn.Linear(channels, channels)
        self.v_proj = nn.Linear(channels, channels)
        self.q_proj = nn.Linear(channels, channels)
        self.out_proj = nn.Linear(channels, channels)
        self.layer_norm = nn.LayerNorm(channels, eps=1e-6)
        self.intermediate_dense = nn.Linear(channels, channels)
        self.output_dense = nn.Linear(channels, channels)
        self.final_layer_norm = nn.LayerNorm(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(1, 2)  # (batch, frames, channels)
        x = self.layer_norm(x + self.attend(x))
        x = x + self.output_dense(F.gelu(self.intermediate_dense(x), approximate="tanh"))
        return self.final_layer_norm(x).transpose(1, 2)

    def attend(self, x: Tensor) -> Tensor:
        q, k, v = (
            projection(x).unflatten(2, (self.heads, -1)).transpose(1, 2)  # (batch, heads, frames, channels / heads)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        return self.out_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class TimeContextBlock(nn.Module):
    """The 1-D block: four depthwise convolutions of growing length and a transformer layer, in fewer channels.

    (batch, channels, frames), kept.
    """

    def __init__(self, channels: int, hidden: int):
        super().__init__()
        self.red_dim_conv = nn.Sequential(nn.Conv1d(channels, hidden, 1), ChannelNorm(hidden))
        self.tcm = nn.Sequential(
            *(ConvNeXtBlock1d(hidden, kernel) for kernel in (7, 19, 31, 59)), TransformerLayer(hidden)
        )
        self.exp_dim_conv = nn.Conv1d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.exp_dim_conv(self.tcm(self.red_dim_conv(x)))


class ReDimStage(nn.Module):
    """All sequences so far -> the next one: (batch, size, frames) each, size = mels * channels of the input layer.

    inputs: how many sequences there are so far. channels, mels: of the image before this stage.
    """

    def __init__(self, config: Stage, inputs: int, channels: int, mels: int, block: type[nn.Module], group: int):
        super().__init__()
        self.channels = channels
        size = channels * mels
        narrow, mels = channels * config.stride, mels // config.stride
        wide = int(narrow * config.expansion)
        self.collect = WeightedSum(inputs, size) if inputs > 1 else None
        self.shrink = self.shrinking(channels, wide, config)
        self.blocks = nn.Sequential(*(block(wide, mels, group) for _ in range(config.blocks)))
        self.narrow = self.narrowing(wide, narrow, group) if config.expansion != 1 else nn.Identity()
        self.context = TimeContextBlock(size, size // config.reduction) if config.reduction else nn.Identity()

    def shrinking(self, channels: int, wide: int, config: Stage) -> nn.Conv2d:
        return nn.Conv2d(channels, wide, (config.stride, 1), (config.stride, 1))

    def narrowing(self, wide: int, narrow: int, group: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(wide, narrow, 3, padding=1, groups=narrow // group),
            nn.BatchNorm2d(narrow, eps=1e-6),
            nn.GELU(),
            nn.Conv2d(narrow, narrow, 1),
        )

    def forward(self, sequences: Sequence[Tensor]) -> Tensor:
        x = self.collect(sequences) if self.collect else sequences[0]
        x = self.shrink(to_image(x, self.channels))  # (batch, wide, mels, frames / time stride)
        x = self.narrow(self.blocks(x))  # (batch, narrow, mels, frames / time stride)
        return self.context(to_sequence(x))


class ReDimNet(SpeakerNetwork):
    """ReDimNet-B0 to B6.

    (batch, frames, mels) -> (batch, embedding_dim). Mels must be a multiple of all strides together.

    size: "b0" to "b6", a row of `REDIMNET`.

    Sizes in millions of parameters, the paper's Table 4 after the slash: B0 1.00 / 1.0, B1 2.13 / 2.2, B2 5.07 / 4.7,
    B3 3.23 / 3.0, B4 6.44 / 6.3, B5 7.66 / 9.2, B6 15.02 / 15.0. The configurations are the ones that the authors
    released. Nobody has reproduced Table 4's other counts with them (github.com/IDRnD/redimnet, issue 3), and the
    released B5 checkpoint itself holds 7,709,351 values in 1,052 tensors with its front end, exactly what 7.66M
    parameters give. B2's fourth stage shrinks the mels three times, as the size of its released checkpoint tells
    (WeSpeaker, which halves them, has 4.89M).

    >>> ReDimNet("b0", mels=60).eval()(torch.randn(2, 100, 60)).shape
    torch.Size([2, 192])
    """

    sizes = REDIMNET
    stage_class: type[ReDimStage] = ReDimStage

    def __init__(self, size: str = "b2", mels: int = 72, embedding_dim: int = 192):
        super().__init__()
        if size not in self.sizes:
            raise ValueError(f"unknown size {size!r}; valid: {', '.join(self.sizes)}")
        config = self.sizes[size]
        total_stride = math.prod(stage.stride for stage in config.stages)
        if mels % total_stride:
            raise ValueError(f"{mels} mels cannot be divided by {total_stride}, the strides of {size} together")
        self.embedding_dim = embedding_dim
        self.time_stride = config.stages[-1].time_stride
        channels = config.channels
        width = channels * mels
        self.stem = nn.Sequential(nn.Conv2d(1, channels, 3, padding=1), ChannelNorm(channels))
        self.stages = nn.ModuleList()
        for i, stage in enumerate(config.stages):
            block = BLOCKS_2D[config.block]
            self.stages.append(self.stage_class(stage, i + 1, channels, width // channels, block, config.group))
            channels *= stage.stride
        self.collect = WeightedSum(len(config.stages) + 1, width)
        self.head, pooled = self.build_head(config.head, channels, width // channels)
        self.pool = AttentiveStatisticsPooling(pooled, context=StatisticsPooling(1e-7))
        self.bn = nn.BatchNorm1d(2 * pooled)
        self.linear = nn.Linear(2 * pooled, embedding_dim)

    def build_head(self, head: int | None, channels: int, mels: int) -> tuple[nn.Module, int]:
        """What turns the last sequence into what is pooled, and how many channels that has."""
        return nn.Identity(), channels * mels

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(1, 2)[:, None]  # (batch, 1, mels, frames)
        sequences = [to_sequence(self.stem(x))]  # (batch, mels * channels, frames)
        for stage in self.stages:
            sequences.append(stage(sequences))
        x = self.head(self.collect(sequences))
        return self.linear(self.bn(self.pool(x)))


class PooledStage(ReDimStage):
    """A stage of ReDimNet2: its convolution also shrinks the frames, and repeating each result gives them all back.

    The convolution has as many groups as its inputs and outputs allow.
    """

    def __init__(self, config: Stage, inputs: int, channels: int, mels: int, block: type[nn.Module], group: int):
        super().__init__(config, inputs, channels, mels, block, group)
        self.time_stride = config.time_stride

    def shrinking(self, channels: int, wide: int, config: Stage) -> nn.Conv2d:
        window = (config.stride, config.time_stride)
        return nn.Conv2d(channels, wide, window, window, groups=math.gcd(channels, wide))

    def narrowing(self, wide: int, narrow: int, group: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(wide, narrow, 1), nn.BatchNorm2d(narrow, eps=1e-6))

    def forward(self, sequences: Sequence[Tensor]) -> Tensor:
        return super().forward(sequences).repeat_interleave(self.time_stride, 2)


class ImageHead(nn.Module):
    """A 1x1 convolution over the last map: (batch, mels * channels, frames) -> (batch, outputs * mels, frames)."""

    def __init__(self, channels: int, outputs: int | None):
        super().__init__()
        self.channels = channels
        self.conv = nn.Conv2d(channels, outputs, 1) if outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(to_image(x, self.channels)).flatten(1, 2)


class ReDimNet2(ReDimNet):
    """ReDimNet2-B0 to B6: stages also shrink the frames, so that they can be wider for the same cost.

    (batch, frames, mels) -> (batch, embedding_dim). Frames beyond the last multiple of 4 are left out; at least 8.

    size: "b0" to "b6", a row of `REDIMNET2`, from the authors' VoxCeleb2 recipes.

    Sizes in millions of parameters, the paper's after the slash (it cuts off, not rounds): B0 1.11 / 1.1, B1 2.16 /
    2.1, B2 3.68 / 3.6, B3 4.18 / 4.1, B4 6.66 / 6.6, B5 8.96 / 8.9, B6 12.39 / 12.3. They hold without the group
    normalisation of the maps that later releases add, so it is not here.

    >>> ReDimNet2("b0").eval()(torch.randn(2, 102, 72)).shape
    torch.Size([2, 192])
    """

    sizes = REDIMNET2
    stage_class = PooledStage

    def build_head(self, head: int | None, channels: int, mels: int) -> tuple[nn.Module, int]:
        return ImageHead(channels, head), (head or channels) * mels

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x[:, : x.shape[1] // self.time_stride * self.time_stride])

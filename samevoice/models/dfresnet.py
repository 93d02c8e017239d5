"""DF-ResNet and Gemini DF-ResNet on filter banks: deep, narrow residual networks of inverted bottlenecks.

Liu et al., DF-ResNet: boosting speaker verification performance with depth-first design (Interspeech 2022);
Liu et al., Golden Gemini is all you need: finding the sweet spots for speaker verification (TASLP 2024).
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from samevoice.models.base import SpeakerNetwork
from samevoice.models.pooling import StatisticsPooling
from samevoice.models.resnet import conv1x1, conv3x3


class InvertedBottleneck(nn.Module):
    """Widen four times, convolve every channel by itself, narrow again: (batch, channels, mels, frames) kept."""

    def __init__(self, channels: int):
        super().__init__()
        wide = 4 * channels
        self.conv1 = conv1x1(channels, wide)
        self.bn1 = nn.BatchNorm2d(wide)
        self.conv2 = nn.Conv2d(wide, wide, 3, padding=1, groups=wide, bias=False)
        self.bn2 = nn.BatchNorm2d(wide)
        self.conv3 = conv1x1(wide, channels)
        self.bn3 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return F.relu(y + x)


def halving(inputs: int, outputs: int) -> nn.Conv2d:
    """A 2x2 convolution over disjoint squares: mels and frames become half as many, an odd last one is left out."""
    return nn.Conv2d(inputs, outputs, 2, stride=2, bias=False)


class DFResNet56(SpeakerNetwork):
    """Four stages of inverted bottlenecks (3, 3, 9 and 3), the resolution changed between the stages only.

    (batch, frames, mels) -> (batch, embedding_dim). Needs at least 16 frames.

    channels: of the first stage; each further stage has twice as many. blocks: per stage.
    pooling_eps: added to the variance.

    The paper prints 4.49M parameters. Its text was not at hand: the stages (56 = 3 * 18 + 2 layers), the widths and
    the separate downsampling layers are as the Gemini paper and WeSpeaker describe them. With 3x3 downsampling
    convolutions, as Gemini has, the network would hold 4.70M; with the 2x2 convolutions of ConvNeXt, from which the
    stage ratio and the downsampling layers come, it holds 4,488,160, so these are used.

    >>> import torch
    >>> DFResNet56(channels=8).eval()(torch.randn(2, 200, 80)).shape
    torch.Size([2, 256])
    """

    def __init__(
        self,
        mels: int = 80,
        channels: int = 32,
        embedding_dim: int = 256,
        blocks: Sequence[int] = (3, 3, 9, 3),
        pooling_eps: float = 1e-7,
    ):
        super().__init__()
        self.embedding_dim = embedding_dim
        widths = [channels, channels, 2 * channels, 4 * channels, 8 * channels]
        stem = nn.Sequential(conv3x3(1, channels), nn.BatchNorm2d(channels), nn.ReLU())
        changes = [
            nn.Sequential(conv, nn.BatchNorm2d(width))
            for conv, width in zip(self.downsampling(widths), widths[1:], strict=True)
        ]
        self.downsample_layers = nn.ModuleList([stem, *changes])
        self.stages = nn.ModuleList(
            nn.Sequential(*(InvertedBottleneck(width) for _ in range(count)))
            for width, count in zip(widths[1:], blocks, strict=True)
        )
        self.pool = StatisticsPooling(pooling_eps)
        self.seg_1 = nn.Linear(2 * widths[-1] * self.remaining(mels), embedding_dim)

    def downsampling(self, widths: Sequence[int]) -> list[nn.Conv2d]:
        """The convolution in front of each stage."""
        return [conv3x3(widths[0], widths[1]), *(halving(widths[i], widths[i + 1]) for i in range(1, 4))]

    def remaining(self, mels: int) -> int:
        """Mels after the last stage."""
        return mels // 8

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(1, 2)[:, None]  # (batch, 1, mels, frames)
        x = self.downsample_layers[0](x)  # (batch, channels, mels, frames)
        for i, stage in enumerate(self.stages):
            x = stage(self.downsample_layers[i + 1](x))
        return self.seg_1(self.pool(x))  # pooled: (batch, 8 * channels, mels / 8, frames / 8)


class GeminiDFResNet(DFResNet56):
    """DF-ResNet with the strides of Golden Gemini T14c: mels halve before every stage, frames before the second only.

    (batch, frames, mels) -> (batch, embedding_dim). Needs more than 2 frames.

    The defaults are Gemini DF-ResNet60 as in WeSpeaker, 4,047,840 parameters; DF-ResNet114 has 27 blocks in its third
    stage, 6,531,552 parameters (the downsampling layers count as layers in these names).

    >>> import torch
    >>> GeminiDFResNet(channels=8).eval()(torch.randn(2, 200, 80)).shape
    torch.Size([2, 256])
    """

    def downsampling(self, widths: Sequence[int]) -> list[nn.Conv2d]:
        strides = ((2, 1), (2, 2), (2, 1), (2, 1))  # (mels, frames)
        return [conv3x3(widths[i], widths[i + 1], stride) for i, stride in enumerate(strides)]

    def remaining(self, mels: int) -> int:
        return -(-mels // 16)

"""ResNet on filter banks, the "r-vector" (Zeinali et al., BUT system description to VoxSRC 2019).

He et al., Deep Residual Learning (CVPR 2016), with a 3x3 input layer that keeps the resolution, no max pooling,
half of the channels, and statistics pooling over time instead of a mean over the image.
"""

from collections.abc import Callable, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from samevoice.models.base import SpeakerNetwork
from samevoice.models.pooling import StatisticsPooling


def conv1x1(inputs: int, outputs: int, stride: int | tuple[int, int] = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 1, stride, bias=False)


def conv3x3(inputs: int, outputs: int, stride: int | tuple[int, int] = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)


def shortcut(inputs: int, outputs: int, stride: int | tuple[int, int] = 1) -> nn.Sequential:
    """The identity where a block keeps the shape, else a projection."""
    if stride == 1 and inputs == outputs:
        return nn.Sequential()
    return nn.Sequential(conv1x1(inputs, outputs, stride), nn.BatchNorm2d(outputs))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut: (batch, inputs, mels, frames) -> (batch, outputs, mels', frames')."""

    def __init__(self, inputs: int, outputs: int, stride: int | tuple[int, int] = 1):
        super().__init__()
        self.conv1 = conv3x3(inputs, outputs, stride)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = conv3x3(outputs, outputs)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = shortcut(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return F.relu(y + self.shortcut(x))


class BottleneckBlock(nn.Module):
    """1x1, 3x3 and 1x1 convolutions, the middle one with a quarter of the output channels and the stride."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1):
        super().__init__()
        planes = outputs // 4
        self.conv1 = conv1x1(inputs, planes)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = conv3x3(planes, planes, stride)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = conv1x1(planes, outputs)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.shortcut = shortcut(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return F.relu(y + self.shortcut(x))


def stage(
    block: Callable[..., nn.Module], count: int, inputs: int, outputs: int, stride: int | tuple[int, int]
) -> nn.Sequential:
    """`count` blocks in a row; the first one changes the channels and the resolution."""
    return nn.Sequential(block(inputs, outputs, stride), *(block(outputs, outputs, 1) for _ in range(count - 1)))


class ResNet(SpeakerNetwork):
    """Four stages of residual blocks, statistics pooling, one linear layer.

    (batch, frames, mels) -> (batch, embedding_dim). Filter banks need more than 8 frames: the deviation of the pooling
    is over frames / 8.

    channels: of the input layer and, times `expansion`, of the first stage; each further stage has twice as many.
    blocks: per stage. pooling_eps: added to the variance.
    stage_blocks: the kind of block of each stage, called with (inputs, outputs, stride).

    The defaults are ResNet34 as in WeSpeaker, 6,634,336 parameters.

    >>> import torch
    >>> ResNet(channels=8).eval()(torch.randn(2, 200, 80)).shape
    torch.Size([2, 256])
    """

    def __init__(
        self,
        mels: int = 80,
        channels: int = 32,
        embedding_dim: int = 256,
        blocks: Sequence[int] = (3, 4, 6, 3),
        pooling_eps: float = 1e-7,
        *,
        stage_blocks: Sequence[Callable[..., nn.Module]] = (BasicBlock,) * 4,
        expansion: int = 1,
    ):
        super().__init__()
        self.embedding_dim = embedding_dim
        self.conv1 = conv3x3(1, channels)
        self.bn1 = nn.BatchNorm2d(channels)
        width = channels * expansion
        self.layer1 = stage(stage_blocks[0], blocks[0], channels, width, stride=1)
        self.layer2 = stage(stage_blocks[1], blocks[1], width, 2 * width, stride=2)
        self.layer3 = stage(stage_blocks[2], blocks[2], 2 * width, 4 * width, stride=2)
        self.layer4 = stage(stage_blocks[3], blocks[3], 4 * width, 8 * width, stride=2)
        self.pool = StatisticsPooling(pooling_eps)
        self.seg_1 = nn.Linear(2 * 8 * width * -(-mels // 8), embedding_dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.seg_1(self.pool(self.feature_map(x)))

    def feature_map(self, x: Tensor) -> Tensor:
        """What is pooled: (batch, frames, mels) -> (batch, 8 * channels * expansion, mels / 8, frames / 8)."""
        return self.layer4(self.layer3(self.layer2(self.layer1(self.input_layer(x)))))

    def input_layer(self, x: Tensor) -> Tensor:
        x = x.transpose(1, 2)[:, None]  # (batch, 1, mels, frames)
        return F.relu(self.bn1(self.conv1(x)))


class BottleneckResNet(ResNet):
    """ResNet with bottleneck blocks: ResNet152, 221 and 293 are its depths (blocks) in the registry.

    Depths beyond 152 are WeSpeaker's (Wang et al., WeSpeaker, ICASSP 2023; Chen et al., SJTU-AISPEECH for VoxSRC 2022).
    """

    def __init__(
        self,
        mels: int = 80,
        channels: int = 32,
        embedding_dim: int = 256,
        blocks: Sequence[int] = (3, 8, 36, 3),
        pooling_eps: float = 1e-7,
    ):
        kinds = (BottleneckBlock,) * 4
        super().__init__(mels, channels, embedding_dim, blocks, pooling_eps, stage_blocks=kinds, expansion=4)

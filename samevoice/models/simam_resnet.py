"""SimAM-ResNet on filter banks: every activation weighted by how much it stands out, without further parameters.

Qin et al., Simple attention module based speaker verification with iterative noisy label detection (ICASSP 2022);
Yang et al., SimAM (ICML 2021). Widths, pooling and embedding layer are WeSpeaker's.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samevoice.models.pooling import AttentiveStatisticsPooling
from samevoice.models.resnet import BasicBlock, ResNet


def simam(x: Tensor, regulariser: float = 1e-4) -> Tensor:
    """x * sigmoid(1 / energy), the energy of an activation being low where it is far from its channel's mean.

    (batch, channels, mels, frames), kept. The variance is over mels * frames - 1.

    >>> simam(torch.ones(1, 1, 2, 2))[0, 0, 0, 0]  # nothing stands out: every weight is sigmoid(0.5)
    tensor(0.6225)
    """
    deviation = (x - x.mean((2, 3), keepdim=True)).square()
    variance = deviation.sum((2, 3), keepdim=True) / (x.shape[2] * x.shape[3] - 1)
    return x * torch.sigmoid(deviation / (4 * (variance + regulariser)) + 0.5)


class SimAMBlock(BasicBlock):
    """A basic residual block whose residual passes through `simam`."""

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = simam(self.bn2(self.conv2(y)))
        return F.relu(y + self.shortcut(x))


class MomentPooling(AttentiveStatisticsPooling):
    """Attentive statistics pooling, its variance the mean square minus the squared mean: (batch, size, frames).

    Equal to the variance around the mean but for rounding. Where attention rests on a few frames the two terms nearly
    cancel (SimAM-ResNet100 with random weights: 8e-5 of the embedding), so we round as WeSpeaker does.
    """

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        weights = self.scores(x, lengths).softmax(-1)
        mean = (x * weights).sum(-1)
        variance = (x.square() * weights).sum(-1) - mean.square()
        return torch.cat([mean, variance.clamp(min=self.floor).sqrt()], 1)


class SimAMResNet(ResNet):
    """A ResNet of SimAM blocks with attentive statistics pooling.

    (batch, frames, mels) -> (batch, embedding_dim)

    channels: of the first stage; each further stage has twice as many. blocks: per stage.

    The defaults are SimAM-ResNet34, 25,213,760 parameters; SimAM-ResNet100 has (6, 16, 24, 3) blocks, 50,232,896.

    >>> SimAMResNet(channels=8).eval()(torch.randn(2, 200, 80)).shape
    torch.Size([2, 256])
    """

    def __init__(
        self, mels: int = 80, channels: int = 64, embedding_dim: int = 256, blocks: Sequence[int] = (3, 4, 6, 3)
    ):
        super().__init__(mels, channels, embedding_dim, blocks, stage_blocks=(SimAMBlock,) * 4)
        activation = nn.Sequential(nn.ReLU(), nn.BatchNorm1d(128))
        self.pool = MomentPooling(8 * channels * -(-mels // 8), 128, activation=activation, floor=1e-5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.feature_map(x).flatten(1, 2)  # (batch, 8 * channels * mels / 8, frames / 8)
        return self.seg_1(self.pool(x))

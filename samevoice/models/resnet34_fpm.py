"""ResNet34-FPM on filter banks: a feature pyramid over the four stages, each level pooled.

Jung et al., Improving multi-scale aggregation using feature pyramid module for robust speaker verification of
variable-duration utterances (Interspeech 2020); 5.85M parameters in the ERes2Net paper, Table 4. The pyramid itself is
that of Lin et al., Feature pyramid networks (CVPR 2017).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from samevoice.models.resnet import ResNet


def upsample_to(x: Tensor, like: Tensor) -> Tensor:
    """Every point repeated over a 2x2 square, cut to the mels and frames of `like` where those are odd."""
    return x.repeat_interleave(2, 2).repeat_interleave(2, 3)[:, :, : like.shape[2], : like.shape[3]]


class FeaturePyramid(nn.Module):
    """Maps of falling resolution -> as many of the same resolutions, all of `width` channels.

    From the coarsest down each level adds the upsampled level above to its own lateral 1x1 convolution; a 3x3
    convolution smooths every result.
    """

    def __init__(self, channels: Sequence[int], width: int):
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(inputs, width, 1) for inputs in channels)
        self.smooth = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in channels)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        levels = [lateral(x) for lateral, x in zip(self.lateral, maps, strict=True)]
        for i in reversed(range(len(levels) - 1)):
            levels[i] = levels[i] + upsample_to(levels[i + 1], levels[i])
        return [smooth(level) for smooth, level in zip(self.smooth, levels, strict=True)]


class ResNet34FPM(ResNet):
    """ResNet34, the pyramid over its four stages, mean and deviation of each level over mels and frames, one layer.

    (batch, frames, mels) -> (batch, embedding_dim)

    pyramid: channels of every level.

    5,849,632 parameters. The paper's text was not at hand; the top-down pathway and the lateral connections are its
    abstract's. With the usual ResNet34 (channels 32 to 256), all four stages, biases in the pyramid and statistics
    pooling of each level, 96 channels and 192 dimensions make 5.85M; 64 and 128 channels miss it.

    >>> ResNet34FPM(channels=8).eval()(torch.randn(2, 200, 80)).shape
    torch.Size([2, 192])
    """

    def __init__(
        self,
        mels: int = 80,
        channels: int = 32,
        embedding_dim: int = 192,
        blocks: Sequence[int] = (3, 4, 6, 3),
        pyramid: int = 96,
        pooling_eps: float = 1e-7,
    ):
        super().__init__(mels, channels, embedding_dim, blocks, pooling_eps)
        widths = (channels, 2 * channels, 4 * channels, 8 * channels)
        self.fpm = FeaturePyramid(widths, pyramid)
        self.seg_1 = nn.Linear(2 * pyramid * len(widths), embedding_dim)

    def forward(self, x: Tensor) -> Tensor:
        x1 = self.layer1(self.input_layer(x))  # (batch, channels, mels, frames)
        x2 = self.layer2(x1)  # (batch, 2 * channels, mels / 2, frames / 2)
        x3 = self.layer3(x2)
        x4 = self.layer4(x3)
        levels = self.fpm([x1, x2, x3, x4])  # (batch, pyramid, mels, frames) and so on
        return self.seg_1(torch.cat([self.pool(level.flatten(2)) for level in levels], 1))

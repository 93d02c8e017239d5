"""Res2Net on filter banks: several receptive fields inside one block.

Gao et al., Res2Net (TPAMI 2021); Zhou et al., ResNeXt and Res2Net structures for speaker verification (SLT 2021); the
configuration is the baseline of Chen et al., ERes2Net (Interspeech 2023), Section 2 and Table 1.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samevoice.models.resnet import ResNet, conv1x1, conv3x3, shortcut


def clamped_relu(x: Tensor) -> Tensor:
    """max(0, min(x, 20)), in place: the activation inside every block of this family."""
    return F.hardtanh_(x, 0.0, 20.0)


class Res2NetBlock(nn.Module):
    """One residual block whose 3x3 convolution is split into `scale` groups of channels (ERes2Net paper, eq. 1).

    Each group is convolved together with the result of the group before; the last group passes unchanged.
    (batch, inputs, mels, frames) -> (batch, outputs, mels / stride, frames / stride)

    base_width: channels of a group for every 64 channels of outputs / expansion.
    """

    convolved = -1  # groups with a convolution, counted from `scale`

    def __init__(
        self, inputs: int, outputs: int, stride: int = 1, base_width: int = 32, scale: int = 2, expansion: int = 2
    ):
        super().__init__()
        width = outputs * base_width // (64 * expansion)
        self.scale = scale
        self.conv1 = conv1x1(inputs, width * scale, stride)
        self.bn1 = nn.BatchNorm2d(width * scale)
        self.convs = nn.ModuleList(conv3x3(width, width) for _ in range(scale + self.convolved))
        self.bns = nn.ModuleList(nn.BatchNorm2d(width) for _ in range(scale + self.convolved))
        self.conv3 = conv1x1(width * scale, outputs)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.shortcut = shortcut(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = clamped_relu(self.bn1(self.conv1(x)))
        y = torch.cat(self.convolve(y.chunk(self.scale, 1)), 1)
        y = self.bn3(self.conv3(y))
        return clamped_relu(y + self.shortcut(x))

    def convolve(self, groups: Sequence[Tensor]) -> list[Tensor]:
        """`scale` groups, each (batch, width, mels, frames) -> as many, of the same shape."""
        results: list[Tensor] = []
        for i, (conv, bn) in enumerate(zip(self.convs, self.bns, strict=True)):
            group = self.join(i, results[-1], groups[i]) if results else groups[i]
            results.append(clamped_relu(bn(conv(group))))
        return results + list(groups[len(results) :])

    def join(self, i: int, before: Tensor, group: Tensor) -> Tensor:
        """The input of group i's convolution, from the result of group i - 1."""
        return before + group


class Res2Net(ResNet):
    """A ResNet of Res2Net blocks.

    (batch, frames, mels) -> (batch, embedding_dim)

    The defaults are 3D-Speaker's, 4,033,600 parameters. base_width, scale, expansion: see `Res2NetBlock`.

    >>> Res2Net(channels=8).eval()(torch.randn(2, 200, 80)).shape
    torch.Size([2, 192])
    """

    def __init__(
        self,
        mels: int = 80,
        channels: int = 32,
        embedding_dim: int = 192,
        blocks: Sequence[int] = (3, 4, 6, 3),
        base_width: int = 32,
        scale: int = 2,
        expansion: int = 2,
        pooling_eps: float = 1e-8,
        *,
        stage_blocks: Sequence[Callable[..., nn.Module]] = (Res2NetBlock,) * 4,
    ):
        words = {"base_width": base_width, "scale": scale, "expansion": expansion}
        kinds = [partial(block, **words) for block in stage_blocks]
        super().__init__(mels, channels, embedding_dim, blocks, pooling_eps, stage_blocks=kinds, expansion=expansion)

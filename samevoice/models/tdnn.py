"""Convolutions over time, the layers of every time-delay network: padding a batch changes nothing in a row."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samevoice.models.pooling import zero_padding


class TimeConv1d(nn.Conv1d):
    """A convolution over time (stride 1) for which a row ends with its own last frame, whatever it is batched with.

    (batch, in_channels, frames), optional lengths (batch,) -> (batch, out_channels, frames - lost_frames).

    >>> conv = TimeConv1d(4, 6, 3, padding=1)
    >>> x = torch.randn(1, 4, 9)
    >>> torch.allclose(conv(x, torch.tensor([5]))[..., :5], conv(x[..., :5]))
    True
    """

    @property
    def lost_frames(self) -> int:
        """How many frames shorter the output is; a row's length shrinks by as many."""
        return self.dilation[0] * (self.kernel_size[0] - 1) - 2 * int(self.padding[0])

    def forward(self, input: Tensor, lengths: Tensor | None = None) -> Tensor:
        padding = int(self.padding[0])
        if lengths is None or padding == 0:
            return super().forward(input)
        if self.padding_mode == "reflect":
            input = reflect(input, lengths, padding)
            return F.conv1d(input, self.weight, self.bias, dilation=self.dilation, groups=self.groups)
        return super().forward(zero_padding(input, lengths))


def reflect(x: Tensor, lengths: Tensor, padding: int) -> Tensor:
    """`padding` more frames on both sides of every row, mirrored about the row's own first and last frame.

    (batch, channels, frames) -> (batch, channels, frames + 2 * padding)

    >>> reflect(torch.tensor([[[1., 2., 3., 4., 0.]]]), torch.tensor([4]), 2).tolist()
    [[[3.0, 2.0, 1.0, 2.0, 3.0, 4.0, 3.0, 2.0, 1.0]]]
    """
    last = lengths[:, None, None] - 1
    frames = torch.arange(-padding, x.shape[-1] + padding, device=x.device).abs()  # mirrored about frame 0
    frames = (last - (last - frames).abs()).clamp(min=0)  # (batch, 1, frames + 2 * padding), mirrored about the last
    return x.gather(-1, frames.expand(-1, x.shape[1], -1))


class TDNNLayer(nn.Module):
    """Convolution over time, ReLU, BatchNorm.

    (batch, in_channels, frames), optional lengths (batch,) -> (batch, out_channels, frames - conv.lost_frames)
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 1,
        dilation: int = 1,
        padding: int = 0,
        padding_mode: Literal["zeros", "reflect"] = "zeros",
        affine: bool = True,
    ):
        super().__init__()
        self.conv = TimeConv1d(
            in_channels, out_channels, kernel, dilation=dilation, padding=padding, padding_mode=padding_mode
        )
        self.bn = nn.BatchNorm1d(out_channels, affine=affine)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        return self.bn(F.relu(self.conv(x, lengths)))

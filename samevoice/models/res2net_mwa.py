"""Res2Net-MWA on filter banks: a Res2Net whose pooling weighs frames with the help of a learned memory.

Gu, Guo and Zhang, Memory storable network based feature aggregation for speaker representation learning (TASLP 2023);
5.50M parameters in the ERes2Net paper, Table 4.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from samevoice.models.pooling import AttentiveStatisticsPooling
from samevoice.models.res2net import Res2Net


class Memory(nn.Module):
    """What each frame recalls from learned slots, added to the frame: (batch, width, frames), kept, within (-1, 1).

    A frame addresses the slots by the softmax of its scaled products with their keys, and reads the mean of their
    values under these weights.
    """

    def __init__(self, width: int, slots: int):
        super().__init__()
        self.keys = nn.Parameter(torch.randn(slots, width))
        self.values = nn.Parameter(torch.randn(slots, width) / width**0.5)
        self.gate = nn.Conv1d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        address = (self.keys @ x / self.keys.shape[1] ** 0.5).softmax(1)  # (batch, slots, frames)
        recalled = self.values.T @ address  # (batch, width, frames)
        return torch.tanh(x + self.gate(recalled))


class Res2NetMWA(Res2Net):
    """The Res2Net baseline with attentive statistics pooling over frames that consult a memory.

    (batch, frames, mels) -> (batch, embedding_dim)

    slots: of the memory.

    5,497,152 parameters. Of the paper only the title, the name and the count were at hand, so this is a reading of
    them, not a reproduction: the backbone is the ERes2Net paper's Res2Net with its 192 dimensions (4,033,600), the
    attention the usual one of 128 hidden channels (1,315,968), and a memory of 512 keys and values of these 128
    channels with one layer behind it (147,584) makes up the 5.50M.

    >>> Res2NetMWA(channels=8).eval()(torch.randn(2, 200, 80)).shape
    torch.Size([2, 192])
    """

    def __init__(
        self,
        mels: int = 80,
        channels: int = 32,
        embedding_dim: int = 192,
        blocks: Sequence[int] = (3, 4, 6, 3),
        slots: int = 512,
    ):
        super().__init__(mels, channels, embedding_dim, blocks)
        self.pool = AttentiveStatisticsPooling(self.seg_1.in_features // 2, 128, activation=Memory(128, slots))

    def feature_map(self, x: Tensor) -> Tensor:
        return super().feature_map(x).flatten(1, 2)  # (batch, 16 * channels * mels / 8, frames / 8)

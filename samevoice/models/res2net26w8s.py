"""Res2Net-26w8s on filter banks: 26 channels per group for every 64, eight groups.

Zhou, Zhao and Wu, ResNeXt and Res2Net structures for speaker verification (SLT 2021); 9.30M parameters in the ERes2Net
paper, Table 4.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from samevoice.models.res2net import Res2Net


class Res2Net26w8s(Res2Net):
    """The Res2Net baseline in the wider setting, and two linear layers after the pooling.

    (batch, frames, mels) -> (batch, embedding_dim)

    9,295,127 parameters. The paper's text was not at hand; the ERes2Net paper takes its Res2Net from it, so the depth,
    the widths of the stages and the statistics pooling are that baseline's. Its one linear layer (10,240 -> 192) makes
    9.25M; of the usual heads over 40, 64 or 80 mels only a second layer, 192 -> 256 with a ReLU and BatchNorm between
    as WeSpeaker writes such heads, or 256 -> 192 over 40 mels and attentive pooling, makes 9.30M. The first is used.

    >>> import torch
    >>> Res2Net26w8s(channels=8).eval()(torch.randn(2, 200, 80)).shape
    torch.Size([2, 256])
    """

    def __init__(
        self,
        mels: int = 80,
        channels: int = 32,
        embedding_dim: int = 256,
        blocks: Sequence[int] = (3, 4, 6, 3),
        head: int = 192,
        pooling_eps: float = 1e-8,
    ):
        super().__init__(mels, channels, head, blocks, base_width=26, scale=8, pooling_eps=pooling_eps)
        self.embedding_dim = embedding_dim
        self.seg_bn_1 = nn.BatchNorm1d(head, affine=False)
        self.seg_2 = nn.Linear(head, embedding_dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.seg_2(self.seg_bn_1(F.relu(super().forward(x))))

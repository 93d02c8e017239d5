"""D-TDNN: a densely connected time-delay network (Yu and Li, Interspeech 2020), the backbone of CAM and CAM++."""

import torch
from torch import Tensor, nn

from samevoice.models.base import SpeakerNetwork
from samevoice.models.campplus import EmbeddingLayer, TransitLayer, norm_relu
from samevoice.models.pooling import StatisticsPooling
from samevoice.models.tdnn import TimeConv1d


class DTDNN(SpeakerNetwork):
    """A time-delay layer, two dense blocks (contexts 3 frames wide, then 9), statistics pooling, one linear layer.

    (batch, frames, mels), optional lengths (batch,) -> (batch, embedding_dim)

    channels: after the first layer. growth: channels that each dense layer adds.
    layers: dense layers in each of the two blocks.

    The ERes2Net paper's Table 4 has a D-TDNN of 4.00M parameters and does not say which: the first paper's, 6 and 12
    layers and 512-d, has 2.82M on its 30 cepstra and 2,854,400 on 80 filter banks. The defaults keep all that paper
    fixes (two blocks, kernel 3, dilations 1 and 3, growth 64 after a bottleneck of 128, 128 first channels), take
    the 128-d of its margin-softmax systems, and deepen both blocks until the count is met: 3,999,360.

    >>> DTDNN().eval()(torch.randn(2, 100, 80)).shape
    torch.Size([2, 128])
    """

    takes_lengths = True

    def __init__(
        self,
        mels: int = 80,
        embedding_dim: int = 128,
        channels: int = 128,
        growth: int = 64,
        layers: tuple[int, int] = (7, 17),
    ):
        super().__init__()
        self.embedding_dim = embedding_dim
        self.tdnn = TimeConv1d(mels, channels, 5, padding=2)
        self.nonlinear = norm_relu(channels)
        self.block1 = DenseTimeDelayBlock(layers[0], channels, growth, dilation=1)
        channels += layers[0] * growth
        self.transit1 = TransitLayer(channels, channels // 2)
        channels //= 2
        self.block2 = DenseTimeDelayBlock(layers[1], channels, growth, dilation=3)
        channels += layers[1] * growth
        self.transit2 = TransitLayer(channels, channels // 2)
        self.stats = StatisticsPooling(eps=1e-12)
        self.dense = EmbeddingLayer(2 * (channels // 2), embedding_dim)
        for module in self.modules():
            if isinstance(module, nn.Conv1d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        x = self.nonlinear(self.tdnn(x.transpose(1, 2), lengths))  # (batch, channels, frames)
        x = self.transit1(self.block1(x, lengths))
        x = self.transit2(self.block2(x, lengths))
        return self.dense(self.stats(x, lengths))  # (batch, embedding_dim)


class DenseTimeDelayBlock(nn.Module):
    """`count` layers, each fed everything before it.

    (batch, inputs, frames), optional lengths -> (batch, inputs + count * growth, frames)
    """

    def __init__(self, count: int, inputs: int, growth: int, dilation: int):
        super().__init__()
        self.layers = nn.ModuleList(DenseTimeDelayLayer(inputs + i * growth, growth, dilation) for i in range(count))

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        for layer in self.layers:
            x = torch.cat([x, layer(x, lengths)], 1)
        return x


class DenseTimeDelayLayer(nn.Module):
    """A bottleneck of 2 * growth channels before a time-delay layer, each after BatchNorm and ReLU.

    (batch, inputs, frames), optional lengths -> (batch, growth, frames)
    """

    def __init__(self, inputs: int, growth: int, dilation: int):
        super().__init__()
        self.nonlinear1 = norm_relu(inputs)
        self.linear1 = nn.Conv1d(inputs, 2 * growth, 1, bias=False)
        self.nonlinear2 = norm_relu(2 * growth)
        self.linear2 = TimeConv1d(2 * growth, growth, 3, padding=dilation, dilation=dilation, bias=False)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        x = self.nonlinear2(self.linear1(self.nonlinear1(x)))  # (batch, 2 * growth, frames)
        return self.linear2(x, lengths)

"""CAM++: a densely connected time-delay network with context-aware masks (Wang et al., Interspeech 2023)."""

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samevoice.models.base import SpeakerNetwork
from samevoice.models.pooling import StatisticsPooling
from samevoice.models.resnet import BasicBlock, conv3x3, stage

SEGMENT = 100  # frames, at half the frame rate of the filter banks


class CAMPlusPlus(SpeakerNetwork):
    """2-D convolutions over the filter banks, then three dense blocks of masked time-delay layers.

    (batch, frames, mels) -> (batch, embedding_dim)

    channels: after the first time-delay layer. growth: channels that each dense layer adds.
    pooling_eps: added to the variance. 3D-Speaker adds nothing; so little keeps its embeddings (channels that are
    constant after the last ReLU are common) and a finite gradient.

    The defaults are 7,176,224 parameters, the 7.18M of the paper.

    >>> CAMPlusPlus().eval()(torch.randn(2, 200, 80)).shape
    torch.Size([2, 512])
    """

    def __init__(
        self,
        mels: int = 80,
        channels: int = 128,
        embedding_dim: int = 512,
        growth: int = 32,
        pooling_eps: float = 1e-12,
    ):
        super().__init__()
        self.embedding_dim = embedding_dim
        self.head = FrontConvolution(mels)
        layers = OrderedDict[str, nn.Module](tdnn=TimeDelayLayer(self.head.outputs, channels))
        for i, (count, dilation) in enumerate([(12, 1), (24, 2), (16, 2)], 1):
            layers[f"block{i}"] = DenseBlock(count, channels, growth, dilation)
            channels += count * growth
            layers[f"transit{i}"] = TransitLayer(channels, channels // 2)
            channels //= 2
        layers["out_nonlinear"] = norm_relu(channels)
        layers["stats"] = StatisticsPooling(pooling_eps)  # (batch, 2 * channels)
        layers["dense"] = EmbeddingLayer(2 * channels, embedding_dim)
        self.xvector = nn.Sequential(layers)
        for module in self.modules():
            if isinstance(module, nn.Conv1d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.xvector(self.head(x))


class FrontConvolution(nn.Module):
    """The paper's FCM: residual blocks that stride over mels only. (batch, frames, mels) -> (batch, outputs, frames)"""

    def __init__(self, mels: int, channels: int = 32):
        super().__init__()
        self.outputs = channels * -(-mels // 8)
        self.conv1 = conv3x3(1, channels)
        self.bn1 = nn.BatchNorm2d(channels)
        self.layer1 = stage(BasicBlock, 2, channels, channels, stride=(2, 1))
        self.layer2 = stage(BasicBlock, 2, channels, channels, stride=(2, 1))
        self.conv2 = conv3x3(channels, channels, stride=(2, 1))
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(1, 2)[:, None]  # (batch, 1, mels, frames)
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer2(self.layer1(x))  # (batch, channels, mels / 4, frames)
        x = F.relu(self.bn2(self.conv2(x)))  # (batch, channels, mels / 8, frames)
        return x.flatten(1, 2)


def norm_relu(channels: int) -> nn.Sequential:
    return nn.Sequential(OrderedDict(batchnorm=nn.BatchNorm1d(channels), relu=nn.ReLU(inplace=True)))


class TimeDelayLayer(nn.Module):
    """Five frames of context, every second frame kept: (batch, inputs, frames) -> (batch, outputs, frames / 2)."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.linear = nn.Conv1d(inputs, outputs, 5, stride=2, padding=2, bias=False)
        self.nonlinear = norm_relu(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.nonlinear(self.linear(x))


class DenseBlock(nn.Module):
    """`count` layers, each fed everything before it.

    (batch, inputs, frames) -> (batch, inputs + count * growth, frames)
    """

    def __init__(self, count: int, inputs: int, growth: int, dilation: int):
        super().__init__()
        for i in range(count):
            self.add_module(f"tdnnd{i + 1}", DenseLayer(inputs + i * growth, growth, dilation))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.children():
            x = torch.cat([x, layer(x)], 1)
        return x


class DenseLayer(nn.Module):
    """A bottleneck of 4 * growth channels before a masked time-delay layer, each after BatchNorm and ReLU."""

    def __init__(self, inputs: int, growth: int, dilation: int):
        super().__init__()
        self.nonlinear1 = norm_relu(inputs)
        self.linear1 = nn.Conv1d(inputs, 4 * growth, 1, bias=False)
        self.nonlinear2 = norm_relu(4 * growth)
        self.cam_layer = ContextAwareMask(4 * growth, growth, dilation)

    def forward(self, x: Tensor) -> Tensor:
        x = self.linear1(self.nonlinear1(x))  # (batch, 4 * growth, frames)
        return self.cam_layer(self.nonlinear2(x))  # (batch, growth, frames)


class ContextAwareMask(nn.Module):
    """A time-delay layer whose output is masked by what the utterance and the segment around it hold.

    (batch, inputs, frames) -> (batch, outputs, frames)
    """

    def __init__(self, inputs: int, outputs: int, dilation: int):
        super().__init__()
        self.linear_local = nn.Conv1d(inputs, outputs, 3, padding=dilation, dilation=dilation, bias=False)
        self.linear1 = nn.Conv1d(inputs, inputs // 2, 1)
        self.linear2 = nn.Conv1d(inputs // 2, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        context = x.mean(-1, keepdim=True) + segment_means(x, SEGMENT)  # (batch, inputs, segments)
        mask = torch.sigmoid(self.linear2(F.relu(self.linear1(context))))  # (batch, outputs, segments)
        return self.linear_local(x) * mask.repeat_interleave(SEGMENT, -1)[..., : x.shape[-1]]


def segment_means(x: Tensor, segment: int) -> Tensor:
    """The mean of each run of `segment` frames; the last run may be shorter.

    (batch, channels, frames) -> (batch, channels, ceil(frames / segment))

    Written with a padded pooling and a division because ONNX runtimes disagree about pooling in ceil mode.

    >>> segment_means(torch.tensor([[[1.0, 3.0, 5.0, 7.0, 9.0]]]), 2)
    tensor([[[2., 6., 9.]]])
    """
    padding = (0, segment - 1)
    valid = F.avg_pool1d(F.pad(torch.ones_like(x[:1, :1]), padding), segment)  # share of each run that is inside
    return F.avg_pool1d(F.pad(x, padding), segment) / valid


class TransitLayer(nn.Module):
    """Between dense blocks: (batch, inputs, frames) -> (batch, outputs, frames)."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.nonlinear = norm_relu(inputs)
        self.linear = nn.Conv1d(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.nonlinear(x))


class EmbeddingLayer(nn.Module):
    """The last layer, with a BatchNorm that learns no scale: (batch, inputs) -> (batch, outputs)."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.linear = nn.Linear(inputs, outputs, bias=False)
        self.nonlinear = nn.Sequential(OrderedDict(batchnorm=nn.BatchNorm1d(outputs, affine=False)))

    def forward(self, x: Tensor) -> Tensor:
        return self.nonlinear(self.linear(x))

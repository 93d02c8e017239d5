"""ECAPA-TDNN (Desplanques et al., Interspeech 2020): Res2Net time-delay blocks, aggregated, attentively pooled."""

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samevoice.models.base import SpeakerNetwork
from samevoice.models.pooling import AttentiveStatisticsPooling, StatisticsPooling, frame_mean
from samevoice.models.tdnn import TDNNLayer, TimeConv1d

SCALE = 8  # parts a Res2 convolution splits its channels into
BOTTLENECK = 128  # of the squeeze-excitation and of the attention


class ECAPATDNN(SpeakerNetwork):
    """(batch, frames, mels), optional lengths (batch,) -> (batch, embedding_dim); the paper's Figure 2.

    channels: width of the blocks, 512 (6.19M parameters) or 1024 (14.66M) in the paper.
    mfa_channels: width of the layer that aggregates the blocks, 1536 in the paper.
    global_context: the pooling's attention sees the whole recording's mean and deviation beside each frame.
    details: how a public toolkit writes what the paper leaves open:
      - "wespeaker": convolutions see zeros beyond the recording, no BatchNorm after the aggregation layer, the first
        seven parts of a Res2 convolution are convolved and the last one passes through;
      - "speechbrain" (3D-Speaker's too): mirrored frames beyond the recording, BatchNorm after the aggregation
        layer and inside the attention, the first part passes through.

    >>> ECAPATDNN().eval()(torch.randn(2, 100, 80)).shape
    torch.Size([2, 192])
    """

    takes_lengths = True

    def __init__(
        self,
        mels: int = 80,
        embedding_dim: int = 192,
        channels: int = 512,
        mfa_channels: int = 1536,
        global_context: bool = True,
        details: Literal["wespeaker", "speechbrain"] = "wespeaker",
    ):
        super().__init__()
        if details not in ("wespeaker", "speechbrain"):
            raise ValueError(f'details is {details!r}, neither "wespeaker" nor "speechbrain"')
        self.embedding_dim = embedding_dim
        speechbrain = details == "speechbrain"
        padding_mode = "reflect" if speechbrain else "zeros"
        block = SpeechBrainSERes2Block if speechbrain else SERes2Block
        self.layer1 = TDNNLayer(mels, channels, 5, padding=2, padding_mode=padding_mode)
        self.layer2 = block(channels, dilation=2)
        self.layer3 = block(channels, dilation=3)
        self.layer4 = block(channels, dilation=4)
        self.conv = nn.Conv1d(3 * channels, mfa_channels, 1)
        self.conv_bn = nn.BatchNorm1d(mfa_channels) if speechbrain else nn.Identity()
        if speechbrain:
            context = StatisticsPooling(eps=1e-12, unbiased=False)
            activation = nn.Sequential(nn.ReLU(), nn.BatchNorm1d(BOTTLENECK), nn.Tanh())
        else:
            context = StatisticsPooling(eps=1e-7)
            activation = nn.Tanh()
        self.pool = AttentiveStatisticsPooling(
            mfa_channels,
            BOTTLENECK,
            context=context if global_context else None,
            activation=activation,
            floor=1e-12 if speechbrain else 1e-7,
        )
        self.bn = nn.BatchNorm1d(2 * mfa_channels)
        self.linear = nn.Linear(2 * mfa_channels, embedding_dim)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        x = self.layer1(x.transpose(1, 2), lengths)  # (batch, channels, frames)
        x2 = self.layer2(x, lengths)
        x3 = self.layer3(x2, lengths)
        x4 = self.layer4(x3, lengths)
        x = self.conv_bn(F.relu(self.conv(torch.cat([x2, x3, x4], 1))))  # (batch, mfa_channels, frames)
        return self.linear(self.bn(self.pool(x, lengths)))  # (batch, embedding_dim)


class Res2Convolutions(nn.Module):
    """Res2Net's hierarchy over time: each part of the channels is convolved together with the result before it.

    (batch, channels, frames), optional lengths -> the same shape. The last part passes through.
    """

    padding_mode: ClassVar[Literal["zeros", "reflect"]] = "zeros"

    def __init__(self, channels: int, dilation: int):
        super().__init__()
        if channels % SCALE:
            raise ValueError(f"channels is {channels}, which {SCALE} does not divide")
        width = channels // SCALE
        self.convs = nn.ModuleList(
            TimeConv1d(width, width, 3, dilation=dilation, padding=dilation, padding_mode=self.padding_mode)
            for _ in range(SCALE - 1)
        )
        self.bns = nn.ModuleList(nn.BatchNorm1d(width) for _ in range(SCALE - 1))

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        *parts, untouched = x.chunk(SCALE, 1)  # (batch, channels / 8, frames) each
        return torch.cat([*self.convolved(parts, lengths), untouched], 1)

    def convolved(self, parts: list[Tensor], lengths: Tensor | None) -> list[Tensor]:
        outputs = []
        for part, conv, bn in zip(parts, self.convs, self.bns, strict=True):
            inputs = part + outputs[-1] if outputs else part
            outputs.append(bn(F.relu(conv(inputs, lengths))))
        return outputs


class SpeechBrainRes2Convolutions(Res2Convolutions):
    """The same with mirrored frames beyond the recording; the first part passes through."""

    padding_mode = "reflect"

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        untouched, *parts = x.chunk(SCALE, 1)
        return torch.cat([untouched, *self.convolved(parts, lengths)], 1)


class SqueezeExcitation(nn.Module):
    """Scales each channel by what the recording's mean says (section 3.2): (batch, channels, frames) -> the same."""

    def __init__(self, channels: int):
        super().__init__()
        self.linear1 = nn.Linear(channels, BOTTLENECK)
        self.linear2 = nn.Linear(BOTTLENECK, channels)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        scale = self.linear2(F.relu(self.linear1(frame_mean(x, lengths)))).sigmoid()  # (batch, channels)
        return x * scale[..., None]


class SERes2Block(nn.Module):
    """Pointwise, Res2 and pointwise convolution, squeeze-excitation, skip: (batch, channels, frames) -> the same."""

    res2_class = Res2Convolutions

    def __init__(self, channels: int, dilation: int):
        super().__init__()
        self.conv1 = TDNNLayer(channels, channels)
        self.res2 = self.res2_class(channels, dilation)
        self.conv2 = TDNNLayer(channels, channels)
        self.se = SqueezeExcitation(channels)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        return x + self.se(self.conv2(self.res2(self.conv1(x), lengths)), lengths)


class SpeechBrainSERes2Block(SERes2Block):
    """The same around SpeechBrain's Res2 convolution."""

    res2_class = SpeechBrainRes2Convolutions

"""ResNet34-SKDFE on filter banks: a ResNet34 that learns from a teacher growing out of its own feature maps.

Liu et al., Self-knowledge distillation via feature enhancement for speaker verification (ICASSP 2022); 5.98M parameters
in the ERes2Net paper, Table 4. Its abstract has an auxiliary self-teacher network and distillation at two levels, of
labels and of features; that is Ji et al., Refine myself by teaching myself (CVPR 2021), from which what the abstract
leaves open is taken here.

Training: `distillation = SelfDistillation(network)`; each step classifies both embeddings of `distillation(x)` and adds
`label_loss` of the two classifications and the `feature_loss` to the losses of the two classifiers. Afterwards the
teacher is thrown away: `network` alone makes embeddings.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samevoice.models.pooling import StatisticsPooling
from samevoice.models.resnet import ResNet, conv1x1
from samevoice.models.resnet34_fpm import upsample_to


class ResNet34SKDFE(ResNet):
    """The student, which is all that is left for inference: ResNet34 over 40 mels.

    (batch, frames, mels) -> (batch, embedding_dim)

    5,978,976 parameters: the usual ResNet34 with 256 dimensions makes 5.98M over 40 mels (6.63M over 80), so 40 are
    used; the paper's authors often do.

    >>> ResNet34SKDFE(channels=8).eval()(torch.randn(2, 200, 40)).shape
    torch.Size([2, 256])
    """

    def __init__(
        self,
        mels: int = 40,
        channels: int = 32,
        embedding_dim: int = 256,
        blocks: Sequence[int] = (3, 4, 6, 3),
        pooling_eps: float = 1e-7,
    ):
        super().__init__(mels, channels, embedding_dim, blocks, pooling_eps)

    def stage_maps(self, x: Tensor) -> list[Tensor]:
        """What each stage makes: (batch, channels, mels, frames) to (batch, 8 * channels, mels / 8, frames / 8)."""
        maps = [self.layer1(self.input_layer(x))]
        for layer in (self.layer2, self.layer3, self.layer4):
            maps.append(layer(maps[-1]))
        return maps


class Fusion(nn.Module):
    """Maps of one shape, weighted, added and convolved: (batch, channels, mels, frames) each -> the same.

    The weights are positive and sum to one; the convolution is depthwise 3x3, then 1x1 (Tan et al., EfficientDet, CVPR
    2020).
    """

    def __init__(self, channels: int, count: int):
        super().__init__()
        self.weights = nn.Parameter(torch.ones(count))
        self.conv = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False),
            conv1x1(channels, channels),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
        )

    def forward(self, *maps: Tensor) -> Tensor:
        weights = F.relu(self.weights)
        shares = weights / (weights.sum() + 1e-4)
        total = shares[0] * maps[0]
        for share, x in zip(shares[1:], maps[1:], strict=True):
            total = total + share * x
        return self.conv(total)


class SelfTeacher(nn.Module):
    """Enhances the student's maps top-down, then bottom-up, and makes an embedding of the last.

    Four maps of the student -> four of the same shapes, and (batch, embedding_dim).
    """

    def __init__(self, channels: Sequence[int], mels: int, embedding_dim: int, pooling_eps: float = 1e-7):
        super().__init__()
        steps = list(pairwise(channels))  # from each stage to the next
        self.lateral = nn.ModuleList(nn.Sequential(conv1x1(c, c), nn.BatchNorm2d(c)) for c in channels)
        self.down = nn.ModuleList(conv1x1(coarse, fine) for fine, coarse in steps)
        self.top_down = nn.ModuleList(Fusion(fine, 2) for fine, _ in steps)
        self.up = nn.ModuleList(
            nn.Sequential(nn.MaxPool2d(2, ceil_mode=True), conv1x1(fine, coarse)) for fine, coarse in steps
        )
        self.bottom_up = nn.ModuleList(Fusion(coarse, 3) for _, coarse in steps[:-1])
        self.last = Fusion(channels[-1], 2)
        self.pool = StatisticsPooling(pooling_eps)
        self.seg_1 = nn.Linear(2 * channels[-1] * -(-mels // 8), embedding_dim)

    def forward(self, maps: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
        lateral = [layer(x) for layer, x in zip(self.lateral, maps, strict=True)]
        enhanced = list(lateral)
        for i in reversed(range(len(maps) - 1)):  # the coarsest level stays as it is
            above = upsample_to(self.down[i](enhanced[i + 1]), lateral[i])
            enhanced[i] = self.top_down[i](lateral[i], above)
        for i in range(1, len(maps) - 1):  # the finest level stays as it is
            enhanced[i] = self.bottom_up[i - 1](lateral[i], enhanced[i], self.up[i - 1](enhanced[i - 1]))
        enhanced[-1] = self.last(lateral[-1], self.up[-1](enhanced[-2]))
        return enhanced, self.seg_1(self.pool(enhanced[-1]))


class Distilled(NamedTuple):
    """Embeddings of student and teacher, each (batch, embedding_dim), and the loss between their maps."""

    embedding: Tensor
    teacher_embedding: Tensor
    feature_loss: Tensor


class SelfDistillation(nn.Module):
    """The network together with its teacher, for training only: (batch, frames, mels) -> `Distilled`.

    >>> distillation = SelfDistillation(ResNet34SKDFE(channels=8, mels=16))
    >>> distillation(torch.randn(2, 60, 16)).teacher_embedding.shape
    torch.Size([2, 256])
    """

    def __init__(self, network: ResNet34SKDFE):
        super().__init__()
        channels = [network.bn1.num_features * 2**i for i in range(4)]
        mels = 8 * network.seg_1.in_features // (2 * channels[-1])
        self.network = network
        self.teacher = SelfTeacher(channels, mels, network.embedding_dim)

    def forward(self, x: Tensor) -> Distilled:
        maps = self.network.stage_maps(x)
        enhanced, teacher_embedding = self.teacher(maps)
        embedding = self.network.seg_1(self.network.pool(maps[-1]))
        return Distilled(embedding, teacher_embedding, feature_loss(maps, enhanced))


def feature_loss(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """How far the student's attention over mels and frames is from the teacher's, which it does not move.

    Two lists of maps (batch, channels, mels, frames) -> a scalar: the mean over the stages of the mean squared
    distance between the attentions.
    """
    distances = [
        (attention(x) - attention(y.detach())).square().sum(1).mean() for x, y in zip(student, teacher, strict=True)
    ]
    return torch.stack(distances).mean()


def attention(x: Tensor) -> Tensor:
    """Mean square over the channels, to unit length: (batch, channels, mels, frames) -> (batch, mels * frames).

    Zagoruyko and Komodakis, Paying more attention to attention (ICLR 2017).

    >>> attention(torch.ones(1, 3, 2, 2))
    tensor([[0.5000, 0.5000, 0.5000, 0.5000]])
    """
    return F.normalize(x.square().mean(1).flatten(1), dim=1)


def label_loss(student: Tensor, teacher: Tensor, temperature: float = 4.0) -> Tensor:
    """Divergence of the student's speaker probabilities from the teacher's, which it does not move.

    Two (batch, speakers) of logits without margin -> a scalar (Hinton et al., 2015).

    >>> label_loss(torch.tensor([[1.0, 2.0]]), torch.tensor([[11.0, 12.0]]))
    tensor(0.)
    """
    divergence = F.kl_div(
        (student / temperature).log_softmax(1),
        (teacher.detach() / temperature).log_softmax(1),
        reduction="batchmean",
        log_target=True,
    )
    return divergence * temperature**2

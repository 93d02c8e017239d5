"""Losses that classify speakers while an embedding network is trained.

Each is a module over (embeddings (batch, embedding_dim), labels int64 (batch,)) that holds a centre for each class and
returns a `LossOutput`. `margin` and `penalty` are plain numbers, both 0 at first, for the training loop to set before
each step (see `margins.MarginSchedule`). Nothing of a loss is needed once the network is trained.
"""

import inspect
import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samevoice.nearest import nearest


class LossOutput(NamedTuple):
    """What a loss says about a batch."""

    loss: Tensor
    """A scalar: the mean over the batch."""
    correct: Tensor
    """An int64 scalar: how many of the batch's labels have the highest score of all classes, without any margin."""


class ClassificationLoss(nn.Module):
    """The centres of the classes, and what every loss does with them.

    `weight` is (classes * sub_centres, embedding_dim): the sub-centres of class c are the rows from c * sub_centres up
    to (c + 1) * sub_centres, so dropping the last classes drops the last rows.
    Scores, margins and the loss are computed in float32 (float64 if the input is), whatever autocast says: bfloat16
    has no number between 0.996 and 1, so it can't tell angles under 5 degrees apart.
    """

    def __init__(self, embedding_dim: int, classes: int, sub_centres: int = 1):
        super().__init__()
        self.classes, self.sub_centres = classes, sub_centres
        self.margin = 0.0
        self.penalty = 0.0
        self.weight = nn.Parameter(torch.empty(classes * sub_centres, embedding_dim))
        nn.init.xavier_uniform_(self.weight)

    def forward(self, embeddings: Tensor, labels: Tensor) -> LossOutput:
        """embeddings: (batch, embedding_dim) of any length; labels: int64 (batch,) in [0, classes), else ValueError."""
        self._check(labels)
        full = torch.promote_types(torch.promote_types(embeddings.dtype, self.weight.dtype), torch.float32)
        with torch.autocast(embeddings.device.type, enabled=False):
            scores = self.scores(embeddings.to(full), self.weight.to(full))
            loss = self.loss(scores, labels)
        return LossOutput(loss, (scores.argmax(1) == labels).sum())

    def scores(self, embeddings: Tensor, centres: Tensor) -> Tensor:
        """(batch, classes): the cosine between an embedding and the nearest centre of each class."""
        cosines = F.linear(F.normalize(embeddings), F.normalize(centres))
        if self.sub_centres == 1:
            return cosines
        return cosines.unflatten(1, (self.classes, self.sub_centres)).max(2).values

    def loss(self, scores: Tensor, labels: Tensor) -> Tensor:
        """The mean loss, a scalar, of scores (batch, classes)."""
        raise NotImplementedError

    def keep_classes(self, classes: int) -> None:
        """Forget all but the first classes: those of sped-up voices come after the speakers' own.

        (Labels are speaker + speakers * index of the speed.) The parameters are new ones: call this before an
        optimiser or a distributed wrapper is made of them. Raises ValueError unless 1 <= classes <= those there are.
        """
        if not 1 <= classes <= self.classes:
            raise ValueError(f"can't keep {classes} classes of {self.classes}")
        self.classes = classes
        self.weight = _first_rows(self.weight, classes * self.sub_centres)

    def _check(self, labels: Tensor) -> None:
        # Not on an accelerator: the comparison would have to wait for it, and there indexing fails by itself.
        if labels.device.type == "cpu" and labels.numel():
            low, high = int(labels.min()), int(labels.max())
            if low < 0 or high >= self.classes:
                raise ValueError(f"labels from {low} to {high}, but there are {self.classes} classes from 0 on")


class Softmax(ClassificationLoss):
    """Cross-entropy of a linear layer with biases: no normalisation, and neither margin nor penalty.

    >>> loss, correct = Softmax(embedding_dim=8, classes=3)(torch.randn(4, 8), torch.tensor([0, 1, 2, 0]))
    >>> loss.shape
    torch.Size([])
    """

    def __init__(self, embedding_dim: int, classes: int):
        super().__init__(embedding_dim, classes)
        self.bias = nn.Parameter(torch.zeros(classes))

    def scores(self, embeddings: Tensor, centres: Tensor) -> Tensor:
        return F.linear(embeddings, centres, self.bias.to(centres.dtype))

    def loss(self, scores: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(scores, labels)

    def keep_classes(self, classes: int) -> None:
        super().keep_classes(classes)
        self.bias = _first_rows(self.bias, classes)


class AMSoftmax(ClassificationLoss):
    """Additive margin softmax (Wang et al., IEEE SPL 2018, eq. 6): cross-entropy of scale * (cos(theta) - margin).

    The margin is the target's only. `scale` as in 3D-Speaker and WeSpeaker. No penalty.
    """

    def __init__(self, embedding_dim: int, classes: int, scale: float = 32.0):
        super().__init__(embedding_dim, classes)
        self.scale = scale

    def loss(self, scores: Tensor, labels: Tensor) -> Tensor:
        column = labels[:, None]
        scores = scores.scatter(1, column, scores.gather(1, column) - self.margin)
        return F.cross_entropy(self.scale * scores, labels)


class AAMSoftmax(ClassificationLoss):
    """Additive angular margin softmax (Deng et al., "ArcFace", CVPR 2019, eq. 3): scale * cos(theta + margin).

    `margin`, in radians, is added to the target's angle. `sub_centres` (Deng et al., "Sub-center ArcFace", ECCV 2020):
    the nearest of so many centres stands for a class. `top_k` (Zhao et al., "Inter-TopK penalty", ICASSP 2022): the
    angles of so many nearest wrong classes are lessened by `penalty`, in radians, as cos(theta - penalty).
    ERes2Net is trained with scale 32 and one centre; LAP with scale 30, three centres and top_k 5 (their section 3).

    An angle over pi - margin can't be turned further without the cosine growing again; from there the target's score
    is cos(theta) - margin * sin(margin). That is ArcFace's own, and the LAP code's, whose values we are held to.
    3D-Speaker and WeSpeaker subtract 1 - cos(margin) there, which has no step at pi - margin (ours has one of 0.04 at
    margin 0.3); the slope is the same, and so few angles are that wide that results do not depend on it.
    """

    def __init__(self, embedding_dim: int, classes: int, scale: float = 32.0, sub_centres: int = 1, top_k: int = 0):
        super().__init__(embedding_dim, classes, sub_centres)
        self.scale, self.top_k = scale, top_k

    def loss(self, scores: Tensor, labels: Tensor) -> Tensor:
        column = labels[:, None]
        changed = scores.scatter(1, column, self._target(scores.gather(1, column)))
        if self.top_k and self.penalty:
            wrong = scores.detach().scatter(1, column, -math.inf)
            hardest = wrong.topk(min(self.top_k, self.classes - 1), dim=1).indices
            changed = changed.scatter(1, hardest, _turned(scores.gather(1, hardest), -self.penalty))
        return F.cross_entropy(self.scale * changed, labels)

    def _target(self, cosines: Tensor) -> Tensor:
        beyond = cosines - self.margin * math.sin(self.margin)
        return torch.where(cosines > math.cos(math.pi - self.margin), _turned(cosines, self.margin), beyond)


class SphereFace2(ClassificationLoss):
    """A yes or no for each class, instead of one choice among all (Wen et al., "SphereFace2", ICLR 2022, type C).

    With g(z) = 2 ((z + 1) / 2)^t - 1, the loss of an embedding is
        lambda * log(1 + exp(-scale * (g(cos(target)) - margin) - bias))
        + (1 - lambda) * sum over the other classes of log(1 + exp(scale * (g(cos(other)) + margin) + bias)).
    The values, the bias of 0 at first, and no division by the scale (which the paper's eq. 5 has) are those of speaker
    verification (Han et al., ICASSP 2023; WeSpeaker), which takes margin 0.2, and 0.3 to fine-tune. No penalty.
    """

    def __init__(self, embedding_dim: int, classes: int, scale: float = 32.0, lambda_: float = 0.7, t: float = 3.0):
        super().__init__(embedding_dim, classes)
        self.scale, self.lambda_, self.t = scale, lambda_, t
        self.bias = nn.Parameter(torch.zeros(()))

    def loss(self, scores: Tensor, labels: Tensor) -> Tensor:
        # A cosine may be under -1 by a rounding, and a negative number has no power of 2.5.
        similarities = 2 * ((scores + 1) / 2).clamp(min=0) ** self.t - 1
        column = labels[:, None]
        targets = self.scale * (similarities.gather(1, column) - self.margin) + self.bias
        others = (self.scale * (similarities + self.margin) + self.bias).scatter(1, column, -math.inf)
        losses = self.lambda_ * F.softplus(-targets).sum(1) + (1 - self.lambda_) * F.softplus(others).sum(1)
        return losses.mean()


LOSSES: dict[str, type[ClassificationLoss]] = {
    "softmax": Softmax,
    "am-softmax": AMSoftmax,
    "aam-softmax": AAMSoftmax,
    "sphereface2": SphereFace2,
}


def create(name: str, embedding_dim: int, classes: int, **words: Any) -> ClassificationLoss:
    """The loss of this name, a key of `LOSSES`, with random centres.

    words: the class's own, such as scale=30. Raises ValueError for an unknown name or word, with the nearest valid one.

    >>> create("aam-softmax", 192, 5994, scale=30, sub_centres=3, top_k=5).weight.shape
    torch.Size([17982, 192])
    """
    if name not in LOSSES:
        raise ValueError(f"unknown loss {name!r}{nearest(name, list(LOSSES))}")
    valid = list(inspect.signature(LOSSES[name]).parameters)[2:]
    for word in words:
        if word not in valid:
            raise ValueError(f"{name} has no setting {word!r}{nearest(word, valid)}")
    return LOSSES[name](embedding_dim, classes, **words)


def _turned(cosines: Tensor, angle: float) -> Tensor:
    """cos(theta + angle) from cos(theta).

    Within a thousandth of a radian of 0 or pi the sine is taken as constant: there its slope over the cosine, which
    has no bound, would be made of rounding errors.
    """
    sines = (1 - cosines * cosines).clamp(min=1e-6).sqrt()
    return cosines * math.cos(angle) - sines * math.sin(angle)


def _first_rows(parameter: nn.Parameter, rows: int) -> nn.Parameter:
    return nn.Parameter(parameter.detach()[:rows].clone(), requires_grad=parameter.requires_grad)

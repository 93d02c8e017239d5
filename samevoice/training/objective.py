"""The network and all that is trained with it, as one module, so that a distributed wrapper sees every gradient."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from samevoice.models.base import SpeakerNetwork
from samevoice.training.distillation import DistillationLoss
from samevoice.training.losses import ClassificationLoss


class ObjectiveOutput(NamedTuple):
    """loss: a scalar, what is minimised. correct: an int64 scalar, how many speakers of the batch are told right."""

    loss: Tensor
    correct: Tensor


class Objective(nn.Module):
    """(inputs, labels (batch,), the teacher's embeddings (batch, dim) or None) -> ObjectiveOutput

    The classification's loss, `margin_weight` times, and the distillation's, if there is one.
    """

    def __init__(
        self,
        network: SpeakerNetwork,
        loss: ClassificationLoss,
        distillation: DistillationLoss | None = None,
        margin_weight: float = 1.0,
    ):
        super().__init__()
        self.network, self.loss, self.distillation = network, loss, distillation
        self.margin_weight = margin_weight
        self.embed: Callable[[Tensor], Tensor] = network.__call__
        loss.requires_grad_(margin_weight > 0)

    def compile_network(self) -> None:
        """For steps alone: what else calls the network, with inputs of any length, has it as it is.

        Each length of crops is compiled for itself: how a phase is computed does not depend on the phase before, which
        a run that goes on has not compiled.
        """
        self.embed = torch.compile(self.network.__call__, dynamic=False)

    def forward(self, inputs: Tensor, labels: Tensor, teacher: Tensor | None = None) -> ObjectiveOutput:
        embeddings = self.embed(inputs)
        classified = self.loss(embeddings, labels)
        if self.distillation is None:
            return ObjectiveOutput(classified.loss * self.margin_weight, classified.correct)
        distilled = self.distillation(embeddings, teacher)
        if not self.margin_weight:
            return ObjectiveOutput(distilled, classified.correct)
        return ObjectiveOutput(classified.loss * self.margin_weight + distilled, classified.correct)

from typing import Any

import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from samevoice.training import losses  # noqa: E402
from samevoice.training.distillation import DistillationLoss  # noqa: E402
from samevoice.training.objective import Objective  # noqa: E402

DIM, CLASSES = 4, 5


def parts():
    torch.manual_seed(0)
    network: Any = nn.Linear(3, DIM)
    loss = losses.create("aam-softmax", DIM, CLASSES)
    return network, loss, DistillationLoss(DIM, 6), torch.randn(8, 3), torch.arange(8) % CLASSES, torch.randn(8, 6)


@pytest.mark.parametrize("weight", [1.0, 0.25])
def test_the_losses_add_up(weight):
    network, loss, distillation, x, labels, teacher = parts()
    classified = loss(network(x), labels)
    distilled = distillation(network(x), teacher)
    alone = Objective(network, loss, None, weight)(x, labels)
    assert alone.loss.item() == pytest.approx(weight * classified.loss.item())
    assert alone.correct == classified.correct
    both = Objective(network, loss, distillation, weight)(x, labels, teacher)
    assert both.loss.item() == pytest.approx(weight * classified.loss.item() + distilled.item())


def test_distillation_alone_trains_no_centres():
    network, loss, distillation, x, labels, teacher = parts()
    objective = Objective(network, loss, distillation, 0.0)
    output = objective(x, labels, teacher)
    assert output.loss.item() == pytest.approx(distillation(network(x), teacher).item())
    assert output.correct == loss(network(x), labels).correct
    output.loss.backward()
    assert all(p.grad is None for p in loss.parameters())
    assert network.weight.grad is not None
    Objective(network, loss, None, 1.0)
    assert all(p.requires_grad for p in loss.parameters())  # a later phase trains them again

import pytest
import torch
from torch import Tensor, nn

from samevoice.training.muon import Muon, orthogonalised
from samevoice.training.optimisers import create

GENERATOR = torch.Generator().manual_seed(0)


@pytest.mark.parametrize("shape", [(8, 8), (5, 40), (40, 5)])
def test_singular_vectors_stay_and_values_become_alike(shape):
    matrix = torch.randn(shape, generator=GENERATOR, dtype=torch.float64)
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    seen = left.T @ orthogonalised(matrix) @ right.T
    values = seen.diagonal()
    torch.testing.assert_close(seen, values.diag(), atol=1e-9, rtol=0)
    assert values.min() > 0.5
    assert values.max() < 1.25


def test_nothing_comes_of_nothing():
    assert torch.equal(orthogonalised(torch.zeros(3, 4)), torch.zeros(3, 4))


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_a_kernel_steps_as_its_matrix_does(memory):
    start = torch.randn(6, 4, 3, 3, generator=GENERATOR, dtype=torch.float64)
    gradients = torch.randn(3, 6, 4, 3, 3, generator=GENERATOR, dtype=torch.float64)
    kernel = nn.Parameter(start.to(memory_format=memory))
    optimiser = Muon([kernel], lr=0.02, weight_decay=0.1)
    expected, momentum = start.flatten(1).clone(), torch.zeros(6, 36, dtype=torch.float64)
    for gradient in gradients:
        kernel.grad = gradient.to(memory_format=memory)
        optimiser.step()
        momentum = 0.95 * momentum + 0.05 * gradient.flatten(1)
        nesterov = 0.05 * gradient.flatten(1) + 0.95 * momentum
        expected = expected * (1 - 0.02 * 0.1) - 0.02 * 0.2 * 6 * orthogonalised(nesterov)  # 6 = sqrt(36)
    torch.testing.assert_close(kernel.detach().flatten(1), expected, atol=1e-12, rtol=0)


def test_the_size_of_a_step_is_adamws():
    weight = nn.Parameter(torch.zeros(48, 96))
    weight.grad = torch.randn(48, 96, generator=GENERATOR)
    Muon([weight], lr=1e-2).step()
    assert weight.square().mean().sqrt().item() == pytest.approx(0.2 * 1e-2, rel=0.15)


def test_biases_and_the_losses_centres_step_as_with_adamw():
    def stepped(name: str) -> list[Tensor]:
        bias, centres = nn.Parameter(torch.ones(4)), nn.Parameter(torch.ones(3, 4))
        groups = [{"name": "network", "params": [bias]}, {"name": "loss", "params": [centres]}]
        optimiser = create(name, [{**group, "lr": 0.1, "weight_decay": 0.01} for group in groups])
        for _ in range(3):
            optimiser.zero_grad()
            ((bias * torch.arange(4.0)).sum() + (centres**3 * torch.arange(4.0)).sum()).backward()
            optimiser.step()
        return [bias.detach(), centres.detach()]

    torch.testing.assert_close(stepped("muon"), stepped("adamw"))

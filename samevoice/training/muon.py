"""Muon: steps along the gradient's momentum with all its singular values made alike."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

MOMENTUM = 0.95
COEFFICIENTS = 3.4445, -4.7750, 2.0315  # Jordan's: steep at 0, so that five rounds do, and singular values near 1
ROUNDS = 5


class Muon(torch.optim.AdamW):
    """Matrices and kernels of convolutions by Muon; biases, norms and a group named "loss" (its centres) by AdamW.

    A kernel is the matrix (outputs, inputs * height * width). With Nesterov's momentum M, a step is
    W <- (1 - lr * weight_decay) W - lr * 0.2 sqrt(max(rows, columns)) orthogonalised(M): the root gives it the size of
    one of AdamW's, so that one learning rate serves both.
    Where torch.optim.Muon takes matrices alone and computes in bfloat16, which most processors only emulate, this one
    takes any network and computes in the parameters' type.

    Jordan et al., Muon: An optimizer for hidden layers in neural networks (2024); its size: Liu et al., Muon is
    Scalable for LLM Training (2025), eq. 4.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        result = None
        if closure is not None:
            with torch.enable_grad():
                result = closure()
        for group in self.param_groups:
            for weight in group["params"] if group.get("name") != "loss" else ():
                if weight.ndim > 1 and weight.grad is not None:
                    self._step_of(weight, group["lr"], group["weight_decay"])
                    weight.grad = None  # it is not for AdamW, which takes what is left
        super().step()
        return result

    def _step_of(self, weight: Tensor, rate: float, decay: float) -> None:
        state, gradient = self.state[weight], weight.grad
        assert gradient is not None
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(weight)
            state["step"] = torch.zeros(())  # AdamW looks for it in whatever state it loads
        state["momentum"].lerp_(gradient, 1 - MOMENTUM)
        direction = orthogonalised(gradient.lerp(state["momentum"], MOMENTUM).flatten(1))
        weight.mul_(1 - rate * decay)
        weight.add_(direction.view(weight.shape), alpha=-rate * 0.2 * max(direction.shape) ** 0.5)


def orthogonalised(matrix: Tensor) -> Tensor:
    """(rows, columns) -> the same; singular values that were not next to nothing become about 0.7 to 1.2."""
    a, b, c = COEFFICIENTS
    wide = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    wide = wide / (wide.norm() + 1e-7)
    for _ in range(ROUNDS):
        square = wide @ wide.T
        wide = a * wide + (b * square + c * square @ square) @ wide
    return wide.T if matrix.shape[0] > matrix.shape[1] else wide

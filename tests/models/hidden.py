"""What the tests of heads over hidden states share."""

import examples
import numpy as np
import reference
import torch
from torch import Tensor, nn

from samevoice.hub import from_reference

# 12 and 16 heads divide it, and both halves of DBE's layers have weights to learn
FRONT_END = {
    **examples.FRONT_END,
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
}


def check_fixture(architecture: str, fixture: str) -> None:
    """The LAP authors' stored outputs and parameter count are ours too; in (batch, hidden, frames, layers)."""
    network = from_reference("lap", architecture, reference.state_dict(fixture))
    assert parameters(network) == reference.description(fixture)["parameters"]
    for given, expected in reference.cases(fixture):
        with torch.inference_mode():
            ours = network(torch.from_numpy(given).permute(0, 3, 2, 1).contiguous())
        reference.assert_close(ours.numpy(), expected)


def check_pinned(network: nn.Module, expected: list[float], *shapes: tuple[int, ...]) -> None:
    """The first values of an embedding, computed when the network matched the fixtures, have not moved."""
    state = {key: examples._weight(key, tuple(value.shape)) for key, value in network.state_dict().items()}
    network.eval().load_state_dict(state)
    stream = np.random.RandomState(0)
    given = [torch.from_numpy(stream.standard_normal(shape).astype(np.float32)) for shape in shapes]
    with torch.inference_mode():
        ours = network(*given)[0, : len(expected)]
    reference.assert_close(ours.numpy(), np.array(expected, np.float32))


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def states(*shape: int) -> Tensor:
    """Made-up hidden states, (batch, layers, frames, hidden), with another mean and scale in every layer."""
    torch.manual_seed(0)
    return torch.randn(*shape) * (1 + torch.rand(shape[1], 1, 1)) + torch.randn(shape[1], 1, shape[3])

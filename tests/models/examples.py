"""Cheap networks and inputs for tests that run over the whole registry, and checks that network tests share."""

import zlib
from collections.abc import Container

import numpy as np
import reference
import torch
from torch import Tensor, nn

from samevoice.hub import from_reference
from samevoice.models import create
from samevoice.models.base import SpeakerNetwork
from samevoice.models.registry import ARCHITECTURES, words

# Given to every network whose constructor has the word ...
NARROW = {"mels": 16, "channels": 8, "growth": 4, "blocks": (2, 1, 1, 1), "embedding_dim": 16}
NARROW_HIDDEN = {"layers": 3, "hidden": 32, "heads": 4, "channels": 16, "embedding_dim": 16}
FRONT_END = {
    "conv_dim": (16,) * 7,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
# ... except where these say otherwise, by the name of the class.
OVERRIDES: dict[str, dict] = {"ReDimNet": {"mels": 24}, "ReDimNet2": {"mels": 24}}

TIME_AXIS = {"fbank": 1, "hidden": 2, "waveform": 1}
LENGTH = {"fbank": 40, "hidden": 40, "waveform": 8000}


def narrow(name: str) -> tuple[SpeakerNetwork, dict]:
    """A small network of this architecture in training mode, and its configuration."""
    torch.manual_seed(0)
    defaults = words(name)
    if "front_end_config" in defaults:
        # A word of the system that its head lacks is refused.
        accepted = words(defaults["head"]) if "head" in defaults else defaults
        chosen = {"front_end_config": FRONT_END, **_common(NARROW_HIDDEN, accepted.keys() & defaults.keys())}
    else:
        chosen = _common(NARROW_HIDDEN if "hidden" in defaults else NARROW, defaults)
    chosen |= OVERRIDES.get(ARCHITECTURES[name][1], {})
    return create(name, **chosen), defaults | chosen


def _common(values: dict, accepted: Container[str]) -> dict:
    return {word: value for word, value in values.items() if word in accepted}


def settled(network: SpeakerNetwork, x: Tensor) -> SpeakerNetwork:
    """The network in evaluation mode, as if trained on inputs like x.

    Batch normalisations then have means, scales and biases away from 0, 1 and 0: a padding of zeros does not stay so.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.momentum = 1.0
        if norm.affine:
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias, 0, 0.3)
    with torch.no_grad():
        network.train()(x)
    return network.eval()


def features(network: SpeakerNetwork, configuration: dict, rows: int) -> Tensor:
    """Random input of the kind this network takes, every row with a colour of its own."""
    length = LENGTH[network.input_kind]
    if network.input_kind == "waveform":
        return 0.1 * torch.rand(rows, 1) * torch.randn(rows, length)
    if network.input_kind == "fbank":
        rows_and_layers, width = (rows,), configuration["mels"]
    else:
        rows_and_layers, width = (rows, configuration["layers"]), configuration["hidden"]
    return torch.randn(*rows_and_layers, 1, width) + torch.randn(*rows_and_layers, length, width)


def parameters(name: str, **overrides) -> int:
    """How many parameters a network has, without spending memory on them."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in create(name, **overrides).parameters())


def check_fixture(source: str, architecture: str, fixture: str) -> None:
    """A public implementation's stored outputs and parameter count are ours too."""
    network = from_reference(source, architecture, reference.state_dict(fixture))
    assert sum(parameter.numel() for parameter in network.parameters()) == reference.description(fixture)["parameters"]
    cases = reference.cases(fixture)
    assert cases
    for given, expected in cases:
        with torch.inference_mode():
            ours = network(torch.from_numpy(given)).numpy()
        reference.assert_close(ours, expected)


def check_pinned(name: str, expected: list[float], **overrides) -> None:
    """The first values of one embedding, computed when the network matched the fixtures, have not moved."""
    network = create(name, **overrides).eval()
    network.load_state_dict({key: _weight(key, tuple(value.shape)) for key, value in network.state_dict().items()})
    given = torch.from_numpy(np.random.RandomState(0).standard_normal((1, 40, 80)).astype(np.float32))
    with torch.inference_mode():
        ours = network(given)[0, : len(expected)].numpy()
    reference.assert_close(ours, np.array(expected, np.float32))


def _weight(name: str, shape: tuple[int, ...]) -> Tensor:
    """The recipe of the fixtures: every tensor a function of its name and shape."""
    stream = np.random.RandomState(zlib.crc32(name.encode()))
    if name.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    if name.endswith("running_var"):
        values = stream.uniform(0.5, 1.5, shape)
    elif name.endswith("running_mean"):
        values = 0.1 * stream.standard_normal(shape)
    elif len(shape) <= 1:
        values = (1.0 if name.endswith("weight") else 0.0) + 0.1 * stream.standard_normal(shape)
    else:
        values = stream.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
    return torch.from_numpy(np.asarray(values, np.float32))

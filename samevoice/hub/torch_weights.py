"""A model of the runtime as a torch network again, to be trained on. Needs torch and onnx."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samevoice.hub import cards, pull, state
from samevoice.hub.convert import load_network
from samevoice.hub.errors import HubError
from samevoice.hub.find import find_model
from samevoice.hub.save import WEIGHTS_FILE

if TYPE_CHECKING:
    from samevoice.models.base import SpeakerNetwork


def torch_network(
    model: str | os.PathLike, offline: bool = False, say: Callable[[str], None] = pull.log
) -> tuple[cards.Card, "SpeakerNetwork"]:
    """Card and network, in evaluation mode, of a model that `find_model` finds. Its embeddings are the ONNX file's.

    A folder's weights are in its model.safetensors. A card's are in its ONNX file, unless BatchNorms have been folded
    into convolutions there: then the published file is fetched once more.
    Raises HubError if the weights can't be had, or are no network's of ours.
    """
    card, path = find_model(model, offline, say)
    if (path.parent / WEIGHTS_FILE).is_file():
        return card, load_network(path.parent)
    found = _initialisers(path)
    network = _network(card)
    if not set(_wanted(network)) <= set(found):
        if card.graph is None:
            raise HubError(
                f"{card.name} can't be trained: its weights are published as an ONNX file, in which they are mixed "
                "with one another or have other names; `samevoice models convert` makes a model of a PyTorch checkpoint"
            )
        found = pull.from_sources(card, lambda file: pull.weights_of(file, card), offline, say)
    return card, _filled(network, found, card)


def _network(card: cards.Card) -> "SpeakerNetwork":
    from samevoice.models import create

    try:
        return create(card.architecture, **card.config)
    except ValueError as error:
        raise HubError(f"{card.name} can't be trained: {error}") from None


def _wanted(network: "SpeakerNetwork") -> dict[str, Any]:
    """Its state but for BatchNorm's counters, which no embedding depends on and not every file has."""
    return {name: value for name, value in network.state_dict().items() if not name.endswith("num_batches_tracked")}


def _filled(network: "SpeakerNetwork", found: Mapping[str, Any], card: cards.Card) -> "SpeakerNetwork":
    import torch

    wanted = _wanted(network)
    weights = {name: torch.tensor(found[name]) for name in wanted if name in found}
    try:
        state.check(card.name, state.shapes(wanted), state.shapes(weights))
    except ValueError as error:
        raise HubError(f"{card.name} can't be trained: {error}") from None
    network.load_state_dict(weights, strict=False)
    return network.eval()


def _initialisers(path: Path) -> dict[str, Any]:
    """What an ONNX file holds, by name."""
    import onnx
    from onnx import numpy_helper

    return {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}

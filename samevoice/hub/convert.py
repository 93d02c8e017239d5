"""Another toolkit's checkpoint to a model's folder of ours: card.yaml, model.safetensors, model.onnx. Needs torch."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samevoice.audio.fbank import FbankSettings
from samevoice.hub import cards, state
from samevoice.hub.checkpoint import read_checkpoint
from samevoice.hub.errors import HubError
from samevoice.hub.find import CARD_FILE
from samevoice.hub.reference import from_reference
from samevoice.hub.save import WEIGHTS_FILE, save

if TYPE_CHECKING:
    from samevoice.models.base import SpeakerNetwork

# What each toolkit feeds its networks
FEATURES = {
    "3d-speaker": FbankSettings(window="povey", scale=1.0),
    "wespeaker": FbankSettings(window="hamming", scale=32768.0),
}


def convert(checkpoint: Path, source: str, architecture: str, folder: Path, **config: Any) -> cards.Card:
    """Write the model's folder and return its card. The folder appears whole or not at all.

    checkpoint: a 3D-Speaker or WeSpeaker `.pt`, `.ckpt` or `.bin`. config: the architecture's configuration words that
    the shapes of the weights don't tell.
    Raises HubError for a checkpoint that can't be read, weights of another network, or a folder that exists.
    """
    import safetensors.torch  # noqa: F401 (what `save` needs: told before anything is read)

    if source not in FEATURES:
        raise HubError(f"can't convert from {source!r}; valid: {', '.join(FEATURES)}")
    if not checkpoint.is_file():
        raise HubError(f"{checkpoint}: no such file")
    if folder.exists():
        raise HubError(f"{folder} exists; name a new folder")
    try:
        network = from_reference(source, architecture, _network_only(read_checkpoint(checkpoint)), **config)
    except (ValueError, TypeError) as error:  # TypeError: a configuration value of the wrong type
        raise HubError(f"{checkpoint}: {error}") from None
    card = cards.Card(
        name=folder.name,
        architecture=architecture,
        config=network.config,
        features=dataclasses.replace(FEATURES[source], mels=network.config["mels"]),
        licence="that of the checkpoint",
        trained_on="see the checkpoint's own page",
        notes=f"converted from {checkpoint.name} of {source}",
    )
    save(card, network, folder)
    return card


def load_network(folder: Path) -> "SpeakerNetwork":
    """The torch network of a model's folder, in evaluation mode. Raises HubError for a folder that isn't one."""
    import safetensors
    import safetensors.torch

    from samevoice.models import create

    for name in (CARD_FILE, WEIGHTS_FILE):
        if not (folder / name).is_file():
            raise HubError(f"{folder / name}: no such file; `samevoice models convert` and training write such folders")
    card = cards.read_card(folder / CARD_FILE)
    try:
        network = create(card.architecture, **card.config)
        weights = safetensors.torch.load_file(folder / WEIGHTS_FILE)
        state.check(str(folder), state.shapes(network.state_dict()), state.shapes(weights))
    except (ValueError, safetensors.SafetensorError) as error:
        raise HubError(f"{folder}: {error}") from None
    network.load_state_dict(weights)
    return network.eval()


def _network_only(weights: dict[str, Any]) -> dict[str, Any]:
    """WeSpeaker saves its loss's class centres ("projection") with the network; no embedding needs them."""
    return {name: value for name, value in weights.items() if not name.startswith("projection.")}

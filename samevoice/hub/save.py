"""A torch network to a model's folder: card.yaml, model.safetensors, model.onnx. Needs torch."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from samevoice.hub import cards
from samevoice.hub.find import CARD_FILE, MODEL_FILE

if TYPE_CHECKING:
    from samevoice.models.base import SpeakerNetwork

WEIGHTS_FILE = "model.safetensors"


def save(card: cards.Card, network: "SpeakerNetwork", folder: Path) -> None:
    """Write the folder, whole or not at all. Raises HubError if the ONNX file's embeddings are not the network's."""
    import safetensors.torch

    from samevoice.hub.export import export

    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as temporary:
        made = Path(temporary) / folder.name
        made.mkdir()
        safetensors.torch.save_file(network.state_dict(), made / WEIGHTS_FILE)
        export(network, made / MODEL_FILE)
        cards.write_card(card, made / CARD_FILE)
        made.rename(folder)

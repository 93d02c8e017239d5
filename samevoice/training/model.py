"""What a run ends with: a model's folder that samevoice.load takes."""

from pathlib import Path

import torch

from samevoice.audio.fbank import FbankSettings
from samevoice.hub.cards import Card
from samevoice.hub.save import save
from samevoice.models.base import SpeakerNetwork
from samevoice.training.recipe import Recipe


def write_model(network: SpeakerNetwork, settings: FbankSettings | None, recipe: Recipe, folder: Path) -> None:
    """Write the trained network; the folder appears whole or not at all."""
    train = recipe.data.train
    card = Card(
        name=recipe.name,
        architecture=network.architecture,
        config=network.config,
        features=settings,
        licence="whoever trained it decides; the licences of the recordings count too",
        trained_on=train if isinstance(train, str) else ", ".join(train),
        notes=recipe.source,
    )
    network.to("cpu").to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]
    save(card, network, folder)

"""The network that a recipe trains: its start, and what of it is frozen."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from samevoice.audio.fbank import FbankSettings
from samevoice.models import create
from samevoice.models.base import SpeakerNetwork
from samevoice.training.errors import TrainingError
from samevoice.training.recipe import Network, Recipe

log = logging.getLogger(__name__)


def build(network: Network, made_up: bool = False) -> SpeakerNetwork:
    """The network with its weights at the start. made_up: random ones, where a recipe is only tried.

    Raises TrainingError if the weights can't be had or are another network's.
    """
    made = create(network.name, **network.config)
    if made_up:
        return made
    if network.front_end:
        _load_front_end(made, network.front_end)
    if network.start:
        _load_start(made, Path(network.start))
    return made


def features(recipe: Recipe, network: SpeakerNetwork) -> FbankSettings | None:
    """The filter banks that the network takes; None for waveforms."""
    if network.input_kind == "waveform":
        return None
    if network.input_kind == "hidden":
        raise TrainingError(f"{recipe.network.name} is a head; train a whole system, such as wavlm_base_lap_astp")
    return FbankSettings(mels=network.config["mels"], **recipe.features.model_dump())


def freeze(network: SpeakerNetwork, frozen: Sequence[str], checkpointing: bool = False) -> None:
    """Put the network into training mode, but these parts into evaluation mode, and their weights stay as they are.

    Raises TrainingError for a part that is not there.
    """
    network.requires_grad_(True).train()
    front_end = getattr(network, "front_end", None)
    if front_end is not None:
        front_end.unfreeze()
        front_end.gradient_checkpointing(checkpointing)
    for part in frozen:
        if front_end is not None and part == "front_end":
            front_end.freeze()
        elif front_end is not None and part == "front_end.convolutions":
            front_end.freeze_convolutions()
        else:
            try:
                network.get_submodule(part).requires_grad_(False).eval()  # BatchNorm's statistics stay, too
            except AttributeError:
                names = ", ".join(name for name, _ in network.named_children())
                raise TrainingError(f"frozen: the network has no part {part!r}; it has {names}") from None


def lay_out(module: nn.Module) -> None:
    """Weights of images with their channels last, which is faster.

    Not where a 1x1 convolution with a stride has fewer than 16 channels to read: in that layout torch 2.13, on a
    processor, writes past its memory in the gradient of one, and the process dies.
    """
    images = [part for part in module.modules() if isinstance(part, nn.Conv2d)]
    if images and all(c.in_channels >= 16 or c.kernel_size != (1, 1) or c.stride == (1, 1) for c in images):
        module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


def synchronised(module: nn.Module) -> nn.Module:
    """The module with BatchNorms that take their statistics over all processes."""
    if torch.cuda.is_available():
        return nn.SyncBatchNorm.convert_sync_batchnorm(module)
    from samevoice.training.sync_batch_norm import convert

    return convert(module)


def _load_front_end(network: SpeakerNetwork, source: str) -> None:
    from transformers import AutoModel

    from samevoice.models.ssl import extractor_normalizes

    front_end: Any = network.front_end
    try:
        published = AutoModel.from_pretrained(source)
    except OSError as error:
        raise TrainingError(
            f"{source}: these weights can't be loaded ({str(error).splitlines()[0]}); give the folder of a copy with "
            "network.front_end=FOLDER"
        ) from None
    weights = {name: value for name, value in published.state_dict().items() if name != "masked_spec_embed"}
    wanted = {name for name in front_end.model.state_dict() if name != "masked_spec_embed"}
    if odd := sorted(wanted ^ set(weights)):
        raise TrainingError(f"{source}: not the weights of {network.config['front_end']}: they differ in {odd[0]}")
    try:
        front_end.model.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        raise TrainingError(f"{source}: not the weights of {network.config['front_end']}: {error}") from None
    if extractor_normalizes(source, published.config) != front_end.normalize:
        log.warning("%s was trained on audio normalised otherwise than %s here", source, network.config["front_end"])


def _load_start(network: SpeakerNetwork, folder: Path) -> None:
    from samevoice.hub.convert import load_network

    start = load_network(folder)
    try:
        network.load_state_dict(start.state_dict())
    except RuntimeError as error:
        raise TrainingError(f"{folder}: not the weights of {network.architecture} as configured: {error}") from None

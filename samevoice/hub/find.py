"""From what a user calls a model to its card and its ONNX file."""

import os
from collections.abc import Callable
from pathlib import Path

from samevoice.hub import cards
from samevoice.hub.errors import HubError
from samevoice.hub.pull import log, pull

CARD_FILE = "card.yaml"
MODEL_FILE = "model.onnx"


def find_model(
    model: str | os.PathLike, offline: bool = False, say: Callable[[str], None] = log
) -> tuple[cards.Card, Path]:
    """Card and ONNX file of a card's name, "default", the hub id of a card's weights, or a folder holding both.

    offline: touch no network. say: told what is fetched from where.
    Raises HubError if there is no such model, or it must be fetched and can't be.
    """
    folder = Path(model).expanduser()
    if folder.is_dir():
        for name in (CARD_FILE, MODEL_FILE):
            if not (folder / name).is_file():
                raise HubError(f"{folder}: a model's folder holds {CARD_FILE} and {MODEL_FILE}; {name} is missing")
        return cards.read_card(folder / CARD_FILE), folder / MODEL_FILE
    if os.sep in os.fspath(model) and os.fspath(model).startswith((".", "/", "~")):
        raise HubError(f"{model}: no such folder; a model's folder holds {CARD_FILE} and {MODEL_FILE}")
    card = cards.find(os.fspath(model))
    return card, pull(card, offline, say)

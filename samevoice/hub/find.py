"""From what a user calls a model to its card and its ONNX file."""

import os
from collections.abc import Callable
from pathlib import Path

from samevoice.hub import cache, cards
from samevoice.hub.errors import HubError
from samevoice.hub.pull import log, pull

CARD_FILE = "card.yaml"
MODEL_FILE = "model.onnx"


def find_model(
    model: str | os.PathLike, offline: bool = False, say: Callable[[str], None] = log
) -> tuple[cards.Card, Path]:
    """Card and ONNX file of a card's name, "default", the hub id of a card's weights, or a folder holding both.

    "default" is the best card, `cards.DEFAULT`, once it has been pulled, and until then the one that comes with the
    package, which is told: nobody waits for a network. A folder that is named like a card is meant by ./NAME.
    offline: touch no network. say: told what is fetched from where.
    Raises HubError if there is no such model, or it must be fetched and can't be.
    """
    name = os.fspath(model)
    folder = Path(model).expanduser()
    if folder.is_dir() and name not in ("default", *cards.names()):
        for file in (CARD_FILE, MODEL_FILE):
            if not (folder / file).is_file():
                raise HubError(f"{folder}: a model's folder holds {CARD_FILE} and {MODEL_FILE}; {file} is missing")
        return cards.read_card(folder / CARD_FILE), folder / MODEL_FILE
    if os.sep in name and name.startswith((".", "/", "~")):
        raise HubError(f"{model}: no such folder; a model's folder holds {CARD_FILE} and {MODEL_FILE}")
    card = cards.find(name)
    if name == "default" and not cache.model_path(card).exists():
        say(f"using {cards.SHIPPED}, which is at hand; {card.name} errs far less: samevoice models pull")
        card = cards.find(cards.SHIPPED)
    return card, pull(card, offline, say)

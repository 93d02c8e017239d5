"""Get a card's weights: fetch from its sources in order, verify, convert to ONNX, keep in the cache."""

import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np

from samevoice.files import replacing
from samevoice.hub import cache, graphs
from samevoice.hub.cards import Card, Source
from samevoice.hub.checkpoint import read_checkpoint
from samevoice.hub.conventions import convention
from samevoice.hub.errors import HubError
from samevoice.hub.fetch import NETWORK, fetch

log = logging.getLogger(__name__).info
Made = TypeVar("Made")


def pull(card: Card, offline: bool = False, say: Callable[[str], None] = log) -> Path:
    """The card's ONNX file in the cache; fetched first if it isn't there.

    offline: touch no network (also by the environment variable SAMEVOICE_OFFLINE=1). say: told of each step.
    Any number of processes may pull the same card at once: the file appears whole, by rename.
    Raises HubError that lists what was tried and why it failed.
    """
    target = cache.model_path(card)
    if not target.exists():
        from_sources(card, lambda file: _make(file, card, target), offline, say)
    return target


def from_sources(
    card: Card, use: Callable[[Path], Made], offline: bool = False, say: Callable[[str], None] = log
) -> Made:
    """What `use` makes of the card's published file, from the first source whose file it can be made of.

    use: a function of the file, which is deleted afterwards. Raises HubError, like `pull`.
    """
    offline = offline or os.environ.get("SAMEVOICE_OFFLINE", "") not in ("", "0")
    failures = []
    for source in card.sources:
        if offline and source.kind in NETWORK:
            failures.append(f"{source}: skipped, offline")
            continue
        say(f"fetching {card.name} from {source}")
        try:
            with tempfile.TemporaryDirectory(prefix="samevoice-") as folder:
                file = fetch(source, Path(folder))
                digest = _verified(file, source, card)
                made = use(file)
        except (HubError, ValueError) as error:  # ValueError: parameter names that are not the convention's
            failures.append(f"{source}: {error}")
            say(f"failed: {failures[-1]}")
            continue
        if source.sha256 is None:  # only now: later files are held to it, so it must be one that makes a model
            cache.record_hash(card, source, digest)
        return made
    tried = "\n  ".join(failures) or "its card names no source"
    way_out = "pull it once with a network: " if offline else "try again with a network: "
    way_out += f"samevoice models pull {card.name}"
    raise HubError(f"{card.name} is not in the cache and could not be fetched:\n  {tried}\n{way_out}")


def weights_of(file: Path, card: Card) -> dict[str, np.ndarray]:
    """The weights in a card's published checkpoint, by our parameter names."""
    assert card.convention is not None
    return convention(card.convention, card.architecture).rename(read_checkpoint(file))


def _make(file: Path, card: Card, target: Path) -> None:
    from samevoice.runtime.session import Session  # here, since the runtime finds its models through us

    with replacing(target) as temporary:
        if card.graph is None:
            Session(file)  # HubError if it is no model
            shutil.copyfile(file, temporary)
        else:
            graphs.fill(card.graph, weights_of(file, card), temporary)


def _verified(file: Path, source: Source, card: Card) -> str:
    expected = source.sha256 or cache.recorded_hash(card, source)
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    found = digest.hexdigest()
    if expected not in (None, found):
        raise HubError(f"the file's sha256 is {found}, expected {expected}: damaged, or not the file it was")
    return found

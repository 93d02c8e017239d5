"""Get a card's weights: fetch from its sources in order, verify, convert to ONNX, keep in the cache."""

import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from samevoice.files import replacing
from samevoice.hub import cache, graphs
from samevoice.hub.cards import Card, Source
from samevoice.hub.checkpoint import read_checkpoint
from samevoice.hub.conventions import convention
from samevoice.hub.errors import HubError
from samevoice.hub.fetch import NETWORK, fetch

log = logging.getLogger(__name__).info


def pull(card: Card, offline: bool = False, say: Callable[[str], None] = log) -> Path:
    """The card's ONNX file in the cache; fetched first if it isn't there.

    offline: touch no network (also by the environment variable SAMEVOICE_OFFLINE=1). say: told of each step.
    Any number of processes may pull the same card at once: the file appears whole, by rename.
    Raises HubError that lists what was tried and why it failed.
    """
    target = cache.model_path(card)
    if target.exists():
        return target
    offline = offline or os.environ.get("SAMEVOICE_OFFLINE", "") not in ("", "0")
    failures = []
    for source in card.sources:
        if offline and source.kind in NETWORK:
            failures.append(f"{source}: skipped, offline")
            continue
        say(f"fetching {card.name} from {source}")
        try:
            return _pull_from(source, card, target)
        except (HubError, ValueError) as error:  # ValueError: parameter names that are not the convention's
            failures.append(f"{source}: {error}")
            say(f"failed: {failures[-1]}")
    tried = "\n  ".join(failures) or "its card names no source"
    way_out = "pull it once with a network: " if offline else "try again with a network: "
    way_out += f"samevoice models pull {card.name}"
    raise HubError(f"{card.name} is not in the cache and could not be fetched:\n  {tried}\n{way_out}")


def _pull_from(source: Source, card: Card, target: Path) -> Path:
    from samevoice.runtime.session import Session  # here, since the runtime finds its models through us

    with tempfile.TemporaryDirectory(prefix="samevoice-") as folder:
        file = fetch(source, Path(folder))
        digest = _verified(file, source, card)
        with replacing(target) as temporary:
            if card.graph is None:
                Session(file)  # HubError if it is no model
                shutil.copyfile(file, temporary)
            else:
                assert card.convention is not None
                weights = convention(card.convention, card.architecture).rename(read_checkpoint(file))
                graphs.fill(card.graph, weights, temporary)
        if source.sha256 is None:  # only now: later files are held to it, so it must be one that makes a model
            cache.record_hash(card, source, digest)
    return target


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

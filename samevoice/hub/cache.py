"""Where pulled models are kept, and what is known of the files they came from."""

import json
import os
from pathlib import Path

from samevoice.files import replacing
from samevoice.hub.cards import Card, Source

WEIGHTS = Path(__file__).parent / "weights"  # of the cards whose models come with the package


def folder() -> Path:
    """`SAMEVOICE_CACHE`, or `samevoice` in the user's cache folder."""
    if os.environ.get("SAMEVOICE_CACHE"):
        return Path(os.environ["SAMEVOICE_CACHE"]).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA") or "~/.cache"
    return Path(base).expanduser() / "samevoice"


def model_path(card: Card) -> Path:
    """Where this card's ONNX file is, or will be. A card whose hash changes gets another file."""
    shipped = next((source.file for source in card.sources if source.kind == "package"), None)
    if shipped:
        return WEIGHTS / shipped
    known = next((source.sha256 for source in card.sources if source.sha256), None)
    return folder() / "models" / f"{card.name}{'-' + known[:12] if known else ''}.onnx"


def recorded_hash(card: Card, source: Source) -> str | None:
    """The sha256 of this source's file when it was first downloaded here, for sources whose card has none."""
    return _records().get(_key(card, source))


def record_hash(card: Card, source: Source, sha256: str) -> None:
    with replacing(folder() / "hashes.json") as temporary:
        temporary.write_text(json.dumps({**_records(), _key(card, source): sha256}, indent=1))


def _records() -> dict[str, str]:
    path = folder() / "hashes.json"
    return json.loads(path.read_text()) if path.exists() else {}


def _key(card: Card, source: Source) -> str:
    return f"{card.name} {source} {source.revision} {source.file}"

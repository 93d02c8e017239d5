"""Load weights that another public implementation trained into our network of the same architecture."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from samevoice.hub.conventions import Convention, convention

if TYPE_CHECKING:
    from samevoice.models.base import SpeakerNetwork


def from_reference(source: str, architecture: str, state_dict: Mapping[str, Any], **config: Any) -> "SpeakerNetwork":
    """Our network with the weights of a public implementation, in evaluation mode.

    source: "3d-speaker", "wespeaker", "lap" or "nexttdnn", whose parameter names `state_dict` (name to tensor or numpy
    array) uses. config: configuration words of the architecture (`embedding_dim`, `channels`, ...).
    Raises ValueError that lists every parameter which is missing, unknown or of another shape.
    """
    import torch

    from samevoice.models import create

    rules = convention(source, architecture)
    network = create(architecture, **{**rules.config, **_told_by_shapes(rules, state_dict), **config})
    theirs = {name: torch.as_tensor(value) for name, value in rules.rename(state_dict).items()}
    check_state(f"{source} {architecture}", network.state_dict(), theirs)
    network.load_state_dict(theirs)
    return network.eval()


def _told_by_shapes(rules: Convention, state_dict: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return rules.configure(state_dict) if rules.configure else {}
    except (KeyError, IndexError):  # a parameter is missing or has too few axes: check_state lists it with the others
        return {}


def check_state(what: str, expected: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """ValueError unless both hold the same names with the same shapes; it lists every difference."""
    problems = [f"missing {name} {tuple(value.shape)}" for name, value in expected.items() if name not in given]
    problems += [f"unknown {name} {tuple(value.shape)}" for name, value in given.items() if name not in expected]
    problems += [
        f"{name} is {tuple(given[name].shape)}, expected {tuple(value.shape)}"
        for name, value in expected.items()
        if name in given and tuple(given[name].shape) != tuple(value.shape)
    ]
    if problems:
        raise ValueError(f"these weights are not {what}'s with this configuration:\n  " + "\n  ".join(problems))

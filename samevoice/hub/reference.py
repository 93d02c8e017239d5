"""Load weights that another public implementation trained into our network of the same architecture."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from samevoice.hub import state
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
    state.check(f"{source} {architecture}", state.shapes(network.state_dict()), state.shapes(theirs))
    network.load_state_dict(theirs)
    return network.eval()


def _told_by_shapes(rules: Convention, state_dict: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return rules.configure(state_dict) if rules.configure else {}
    except (KeyError, IndexError):  # a parameter is missing or has too few axes: state.check lists it with the others
        return {}

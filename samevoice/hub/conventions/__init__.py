"""How public projects name the parameters of the networks we also have, one file per project.

Nothing here imports torch: the same tables convert a checkpoint with or without it.
"""

import importlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

SOURCES = {"3d-speaker": "three_d_speaker", "wespeaker": "wespeaker", "lap": "lap", "nexttdnn": "nexttdnn"}


@dataclass(frozen=True)
class Convention:
    """One architecture as one public project writes it.

    renames: (regular expression, replacement) pairs, applied in order to every parameter name.
    config: what this project does differently from our defaults, as configuration words of our network.
    configure: (their state dict) -> further configuration words that only the shapes tell.
    flatten: parameters (our names) whose trailing axes of size 1 are dropped: a 1x1 convolution that we write as a
        linear layer.
    """

    renames: tuple[tuple[str, str], ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    configure: Callable[[Mapping[str, Any]], dict[str, Any]] | None = None
    flatten: tuple[str, ...] = ()

    def rename(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """The state dict (numpy arrays or torch tensors) under our names.

        Raises ValueError when two of their names become one of ours.
        """
        renamed = {}
        for theirs, value in state.items():
            name = theirs
            for pattern, replacement in self.renames:
                name = re.sub(pattern, replacement, name)
            if name in renamed:
                raise ValueError(f"{theirs} and another parameter are both our {name}: weights of another source?")
            renamed[name] = value.reshape(_without_trailing_ones(value.shape)) if name in self.flatten else value
        return renamed


def widths(**parameters: str) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """A `configure` that reads each word from the length of a parameter's first axis (their names).

    A parameter that is absent tells nothing.
    """

    def configure(state: Mapping[str, Any]) -> dict[str, Any]:
        return {word: state[name].shape[0] for word, name in parameters.items() if name in state}

    return configure


def convention(source: str, architecture: str) -> Convention:
    """The convention of `source` for our `architecture`; ValueError lists what exists."""
    if source not in SOURCES:
        raise ValueError(f"unknown source {source!r}; valid: {', '.join(SOURCES)}")
    table = importlib.import_module(f"samevoice.hub.conventions.{SOURCES[source]}").CONVENTIONS
    if architecture not in table:
        raise ValueError(f"{source} has no {architecture!r} that we know; valid: {', '.join(sorted(table))}")
    return table[architecture]


def _without_trailing_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    shape = tuple(shape)
    while len(shape) > 2 and shape[-1] == 1:
        shape = shape[:-1]
    return shape

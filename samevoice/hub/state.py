"""Whether weights fit a network, told from names and shapes alone."""

from collections.abc import Mapping, Sequence
from typing import Any


def shapes(state: Mapping[str, Any]) -> dict[str, list[int]]:
    """The shapes of a state dict of tensors or arrays."""
    return {name: list(value.shape) for name, value in state.items()}


def check(what: str, expected: Mapping[str, Sequence[int]], given: Mapping[str, Sequence[int]]) -> None:
    """ValueError unless both have the same names with the same shapes; it lists every difference."""
    problems = [f"missing {name} {tuple(shape)}" for name, shape in expected.items() if name not in given]
    problems += [f"unknown {name} {tuple(shape)}" for name, shape in given.items() if name not in expected]
    problems += [
        f"{name} is {tuple(given[name])}, expected {tuple(shape)}"
        for name, shape in expected.items()
        if name in given and list(given[name]) != list(shape)
    ]
    if problems:
        raise ValueError(f"these weights are not {what}'s with this configuration:\n  " + "\n  ".join(problems))

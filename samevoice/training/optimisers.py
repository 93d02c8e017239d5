"""Optimisers, and the groups of parameters that have learning rates and weight decays of their own."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from samevoice.nearest import nearest
from samevoice.training.muon import Muon

NAMES = ("sgd", "adam", "adamw", "muon")


def create(name: str, groups: list[dict[str, Any]], sharded: bool = False) -> torch.optim.Optimizer:
    """The optimiser of this name over groups as `parts` makes them.

    name: "sgd" (Nesterov's momentum, 0.9 unless a group says otherwise), "adam" (weight decay as part of the
    gradient, as LAP is trained), "adamw" (Loshchilov and Hutter, ICLR 2019: apart from it) or "muon" (see muon.Muon).
    The first three are torch's fused ones: one pass over the memory, where the default for accelerators makes
    temporary copies of all parameters; each value is computed by itself, so runs repeat exactly. Raises ValueError for
    another name.
    sharded: the parameters are in FSDP, for which torch has no fused SGD.
    """
    if name == "sgd":
        return torch.optim.SGD(groups, momentum=0.9, nesterov=True, fused=not sharded)
    if name == "adam":
        return torch.optim.Adam(groups, fused=True)
    if name == "adamw":
        return torch.optim.AdamW(groups, fused=True)
    if name == "muon":
        return Muon(groups)
    raise ValueError(f"unknown optimiser {name!r}{nearest(name, list(NAMES))}")


def parts(
    network: nn.Module,
    loss: nn.Module,
    default: Mapping[str, float],
    own: Mapping[str, Mapping[str, float]] | None = None,
) -> list[dict[str, Any]]:
    """The trainable parameters of a network and its loss, in groups for `create`: {"name", "params", settings...}.

    default: an optimiser's settings (lr, weight_decay, momentum) for "network" and "loss", the two groups there always
    are. own: the changes to them, by the path of a part: "loss", or for example "network.front_end.layers". A part
    takes what lies under its path and under no longer path that is given.
    A part whose parameters are all frozen gets no group. Raises ValueError, with the nearest path, for a path that
    names nothing.

    >>> network = nn.ModuleDict({"front_end": nn.Linear(4, 8), "head": nn.Linear(8, 2)})
    >>> default, own = {"lr": 1e-3, "weight_decay": 1e-5}, {"network.front_end": {"lr": 5e-5}}
    >>> for group in parts(network, nn.Linear(2, 3), default, own):
    ...     print(group["name"], group["lr"], group["weight_decay"], len(group["params"]))
    network.front_end 5e-05 1e-05 2
    network 0.001 1e-05 2
    loss 0.001 1e-05 2
    """
    own = own or {}
    modules = {"network": network, "loss": loss}
    _check(modules, own)
    groups: dict[str, dict[str, Any]] = {}
    for path, parameter in _parameters(modules):
        if parameter.requires_grad:
            name = max((part for part in {*modules, *own} if _under(path, part)), key=len)
            settings = {**default, **own.get(name, {})}
            groups.setdefault(name, {"name": name, "params": [], **settings})["params"].append(parameter)
    return list(groups.values())


def _check(modules: Mapping[str, nn.Module], own: Mapping[str, Any]) -> None:
    known = [path for path, _ in _parameters(modules)]
    for part in own:
        if not any(_under(path, part) for path in known):
            # The nearest of the paths of the same depth: a list of all would be long.
            depth = part.count(".") + 1
            same_depth = {".".join(path.split(".")[:depth]) for path in known}
            raise ValueError(f"there is no part {part!r} with parameters{nearest(part, sorted(same_depth))}")


def _parameters(modules: Mapping[str, nn.Module]) -> Iterator[tuple[str, nn.Parameter]]:
    for name, module in modules.items():
        yield from module.named_parameters(prefix=name)


def _under(path: str, part: str) -> bool:
    return path == part or path.startswith(f"{part}.")

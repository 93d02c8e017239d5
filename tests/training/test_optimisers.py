"""Optimisers against their updates written out, and groups of parameters."""

import doctest

import pytest
import torch
from torch import nn

from samevoice.training import optimisers
from samevoice.training.optimisers import create, parts

DEFAULT = {"lr": 1e-3, "weight_decay": 1e-4}


def network() -> nn.Module:
    layers = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    return nn.ModuleDict({"front_end": nn.ModuleDict({"layers": layers, "norm": nn.LayerNorm(4)}),
                          "front": nn.Linear(4, 2), "head": nn.Linear(4, 2)})  # fmt: skip


def one_weight(name: str, steps: int, **settings: float) -> list[float]:
    """A weight of 1 whose loss is its square: where it goes."""
    weight = nn.Parameter(torch.ones((), dtype=torch.float64))
    optimiser = create(name, [{"name": "network", "params": [weight], **settings}])
    places = []
    for _ in range(steps):
        optimiser.zero_grad()
        (weight**2).backward()
        optimiser.step()
        places.append(weight.item())
    return places


@pytest.mark.parametrize("momentum", [0.9, 0.5])
def test_sgd_is_nesterovs_with_decay_in_the_gradient(momentum):
    weight, velocity, expected = 1.0, 0.0, []
    for _ in range(4):
        gradient = 2 * weight + 0.1 * weight
        velocity = momentum * velocity + gradient
        weight -= 0.05 * (gradient + momentum * velocity)
        expected.append(weight)
    own = {} if momentum == 0.9 else {"momentum": momentum}
    assert one_weight("sgd", 4, lr=0.05, weight_decay=0.1, **own) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_adam_with_decay_in_the_gradient_and_apart(name):
    weight, mean, square, expected = 1.0, 0.0, 0.0, []
    for step in range(1, 5):
        gradient = 2 * weight + (0.1 * weight if name == "adam" else 0)
        mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
        decayed = weight * (1 - 0.05 * 0.1) if name == "adamw" else weight
        weight = decayed - 0.05 * (mean / (1 - 0.9**step)) / ((square / (1 - 0.999**step)) ** 0.5 + 1e-8)
        expected.append(weight)
    assert one_weight(name, 4, lr=0.05, weight_decay=0.1) == pytest.approx(expected, rel=1e-9)


def trained(name: str, resume: bool) -> tuple[nn.Module, torch.optim.Optimizer]:
    """Six steps; or three, and three more with a state that was saved and loaded."""
    torch.manual_seed(0)
    inputs = torch.randn(6, 8, 40)
    model = nn.Linear(40, 40)
    optimiser = create(name, parts(model, nn.Linear(2, 2), DEFAULT))
    for step, batch in enumerate(inputs):
        if resume and step == 3:
            state = optimiser.state_dict()
            optimiser = create(name, parts(model, nn.Linear(2, 2), DEFAULT))
            optimiser.load_state_dict(state)
        optimiser.zero_grad()
        model(batch).square().mean().backward()
        optimiser.step()
    return model, optimiser


@pytest.mark.parametrize("name", optimisers.NAMES)
def test_runs_repeat_bit_for_bit_and_go_on_so_from_a_saved_state(name):
    first, again, resumed = (trained(name, resume)[0] for resume in (False, False, True))
    assert torch.equal(first.weight, again.weight)
    assert torch.equal(first.weight, resumed.weight)


def test_unknown_optimiser():
    with pytest.raises(ValueError, match="unknown optimiser 'adamW'; did you mean adam or adamw?"):
        create("adamW", parts(network(), nn.Linear(2, 3), DEFAULT))


def named(groups: list[dict]) -> dict[str, dict]:
    assert len({group["name"] for group in groups}) == len(groups)
    return {group["name"]: group for group in groups}


def test_two_groups_when_nothing_is_said():
    model, loss = network(), nn.Linear(2, 3)
    groups = named(parts(model, loss, DEFAULT))
    assert list(groups) == ["network", "loss"]
    assert {id(p) for p in groups["network"]["params"]} == {id(p) for p in model.parameters()}
    assert {id(p) for p in groups["loss"]["params"]} == {id(p) for p in loss.parameters()}
    assert all((group["lr"], group["weight_decay"]) == (1e-3, 1e-4) for group in groups.values())


def test_the_longest_path_has_the_parameter():
    model, loss = network(), nn.Linear(2, 3)
    own = {
        "network.front_end": {"lr": 5e-5},
        "network.front_end.layers.1": {"lr": 1e-6, "weight_decay": 0.0},
        "loss": {"weight_decay": 0.5},
    }
    groups = named(parts(model, loss, DEFAULT, own))
    settings = {name: (group["lr"], group["weight_decay"]) for name, group in groups.items()}
    assert settings == {
        "network": (1e-3, 1e-4),
        "network.front_end": (5e-5, 1e-4),
        "network.front_end.layers.1": (1e-6, 0.0),
        "loss": (1e-3, 0.5),
    }
    members = {name: {id(p) for p in group["params"]} for name, group in groups.items()}
    assert members["network.front_end.layers.1"] == {id(p) for p in model["front_end"]["layers"][1].parameters()}
    rest = {id(p) for key in ("front", "head") for p in model[key].parameters()}
    assert members["network"] == rest, "front is not a part of front_end"
    assert sum(len(group["params"]) for group in groups.values()) == len([*model.parameters(), *loss.parameters()])


def test_frozen_parts_are_left_out():
    model = network()
    model["front_end"].requires_grad_(False)
    groups = named(parts(model, nn.Linear(2, 3), DEFAULT, {"network.front_end": {"lr": 5e-5}}))
    assert list(groups) == ["network", "loss"]
    assert len(groups["network"]["params"]) == 4


@pytest.mark.parametrize(
    ("path", "nearest"),
    [
        ("network.frontend", "network.front"),
        ("network.front_end.layer", "network.front_end.layers"),
        ("los", "loss"),
        ("head", "network"),
    ],
)
def test_a_path_that_names_nothing(path, nearest):
    with pytest.raises(ValueError, match=rf"no part '{path}' with parameters; .*{nearest}"):
        parts(network(), nn.Linear(2, 3), DEFAULT, {path: {"lr": 1.0}})


def test_examples():
    assert doctest.testmod(optimisers).failed == 0

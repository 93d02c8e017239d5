"""A recipe tried without its corpus: everything is built, and each phase takes two steps on made-up audio."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from samevoice.audio import RATE
from samevoice.audio.fbank_torch import Fbank
from samevoice.training import losses, network, optimisers
from samevoice.training.distillation import DistillationLoss
from samevoice.training.objective import Objective
from samevoice.training.plan import plan
from samevoice.training.recipe import Recipe

VOXCELEB2 = 5994, 1_092_009  # speakers and utterances of its dev part, where the recipe's own corpus isn't read
TRIED = 2  # utterances in a step
STEPS = 2


@dataclass(frozen=True)
class Cost:
    """What a phase takes. parameters, trained: of network and loss. state_gib: weights, gradients and what the
    optimiser keeps, in float32. activation_mib: kept for the backward pass of one utterance. batch_gib: both, for the
    whole batch in one process. gflop: of one utterance's forward and backward pass, matrix products and convolutions,
    a multiplication and an addition counted as two. steps: of the phase. step_seconds: of TRIED utterances here, the
    second of two steps.
    """

    phase: str
    parameters: int
    trained: int
    state_gib: float
    activation_mib: float
    batch_gib: float
    gflop: float
    steps: int
    step_seconds: float
    loss: float


def dry_run(recipe: Recipe, speakers: int = VOXCELEB2[0], utterances: int = VOXCELEB2[1]) -> Iterator[Cost]:
    """The cost of each phase, one after the other. Self-supervised front ends have random weights here.

    speakers, utterances: of the corpus, for sizes and schedules. Raises ValueError as training would.
    """
    torch.manual_seed(recipe.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    made = network.build(recipe.network, made_up=True).to(device)
    settings = network.features(recipe, made)
    for name, phase in recipe.phases.items():
        network.freeze(made, phase.frozen, phase.checkpointing)
        loss = losses.create(
            recipe.loss.name, made.embedding_dim, phase.augmentation.speakers(speakers), **recipe.loss.words()
        )
        distillation = None
        if phase.distillation:
            weights = phase.distillation.embedding, phase.distillation.similarity
            distillation = DistillationLoss(made.embedding_dim, made.embedding_dim, *weights)
        objective = Objective(made, loss, distillation, phase.margin_weight).to(device)
        network.lay_out(objective)
        samples = 0.1 * torch.randn(TRIED, round(phase.seconds * RATE), device=device)
        inputs = Fbank(settings).to(device)(samples) if settings else samples
        yield _tried(recipe, name, objective, inputs, utterances)


def _tried(recipe: Recipe, name: str, objective: Objective, inputs: Tensor, utterances: int) -> Cost:
    phase = recipe.phases[name]
    planned = plan(recipe, name, utterances // phase.batch)
    default = {"lr": planned.schedule().at(0), "weight_decay": phase.weight_decay}
    own: dict[str, dict[str, float]] = {part: {} for part in phase.parts}
    optimiser = optimisers.create(phase.optimiser, optimisers.parts(objective.network, objective.loss, default, own))
    labels = torch.arange(TRIED, device=inputs.device)
    teacher = torch.randn(TRIED, objective.network.embedding_dim, device=inputs.device) if phase.distillation else None
    kept, seconds, value = 0, 0.0, 0.0
    counted = FlopCounterMode(display=False)
    for step in range(STEPS):
        objective.loss.margin, objective.loss.penalty = planned.margin(step)
        started = time.perf_counter()
        with nullcontext() if step else counted:  # it slows what it counts: not in the step that is timed
            with _saved_by(objective) as saved, _precision(recipe, inputs):
                output = objective(inputs, labels, teacher)
            output.loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        value = output.loss.item()  # waits for a GPU
        seconds, kept = time.perf_counter() - started, sum(saved.values())
    parameters = list(objective.parameters())
    trained = sum(p.numel() for p in parameters if p.requires_grad)
    state = _state_bytes(optimiser, parameters)
    activation = kept / TRIED
    return Cost(
        name,
        sum(p.numel() for p in parameters),
        trained,
        state / 2**30,
        activation / 2**20,
        (state + activation * phase.batch / phase.accumulate) / 2**30,
        counted.get_total_flops() / TRIED / 1e9,
        planned.steps,
        seconds,
        value,
    )


def _state_bytes(optimiser: torch.optim.Optimizer, parameters: list[Any]) -> int:
    """Four bytes each for the weight, and, if it is trained, its gradient and what the optimiser remembers of it."""
    return sum(4 * p.numel() * (2 + _remembered(optimiser, p) if p.requires_grad else 1) for p in parameters)


def _remembered(optimiser: torch.optim.Optimizer, parameter: Any) -> int:
    """How many values for each of the parameter's, after a step: muon has one for a matrix, and two for a bias."""
    return sum(value.shape == parameter.shape for value in optimiser.state.get(parameter, {}).values())


def _precision(recipe: Recipe, inputs: Tensor):
    dtype = torch.float16 if recipe.precision == "fp16" else torch.bfloat16
    return torch.autocast(inputs.device.type, dtype, enabled=recipe.precision != "fp32")


@contextmanager
def _saved_by(objective: Objective) -> Iterator[dict[int, int]]:
    """What a forward pass keeps for the backward pass, weights aside: the bytes of each storage."""
    weights = {p.untyped_storage().data_ptr() for p in objective.parameters()}
    storages: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield storages

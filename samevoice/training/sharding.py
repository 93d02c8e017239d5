"""Weights, gradients and optimiser sharded over the processes: FSDP2, as accelerate is configured for it."""

import os
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import nn

from samevoice.training.errors import TrainingError
from samevoice.training.recipe import Recipe


def on(accelerator: Accelerator, recipe: Recipe) -> bool:
    """Whether the processes share one network. Raises TrainingError for what can't be had that way."""
    if os.environ.get("ACCELERATE_USE_FSDP", "false").lower() != "true":
        return False
    if accelerator.distributed_type != DistributedType.FSDP:
        raise TrainingError("FSDP is for GPUs, and here is none: launch without accelerate's configuration for it")
    plugin: Any = accelerator.state.fsdp_plugin
    if plugin.fsdp_version != 2:
        raise TrainingError("of FSDP only version 2 is supported: fsdp_version: 2")
    if plugin.cpu_ram_efficient_loading:
        raise TrainingError("FSDP's efficient loading has no BatchNorms: fsdp_cpu_ram_efficient_loading: false")
    for name, phase in recipe.phases.items():
        if phase.averaging != "none":
            raise TrainingError(
                f"phase {name}: FSDP shards what averaging {phase.averaging} is made of; average checkpoints instead "
                "(averaging: none, use: average-last), or launch without FSDP"
            )
        if phase.optimiser == "muon":
            raise TrainingError(f"phase {name}: FSDP shards the matrices that muon needs whole; take optimiser: adamw")
    plugin.mixed_precision_policy = None  # autocast, as without FSDP: the policy would take the loss out of float32
    return True


def make_alike(module: nn.Module) -> None:
    """Give every process the first one's weights, as DDP does; of its own random ones each would keep a shard."""
    for value in module.state_dict().values():
        torch.distributed.broadcast(value, 0)


def gathered(model: nn.Module) -> dict[str, Any]:
    """The state dict of a sharded module, whole, on every process; all of them must ask."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    return get_model_state_dict(model, options=StateDictOptions(full_state_dict=True))

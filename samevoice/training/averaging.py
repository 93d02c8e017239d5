"""Averages of a network's weights: while it is trained (EMA, SWA), and of checkpoints afterwards."""

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from itertools import chain
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn

from samevoice.nearest import nearest

NAMES = ("ema", "swa")


def create(name: str, network: nn.Module, decay: float = 0.999) -> AveragedModel:
    """A running average of `network`: call `update_parameters(network)` on it, use its `module`, save its state dict.

    name:
      - "ema": exponential, with `decay` for each update, buffers too (BatchNorm's statistics): to update in each step;
      - "swa": the plain mean of all updates (Izmailov et al., "Averaging weights leads to wider optima", UAI 2018): to
        update at the ends of epochs, and to `renew_batch_norm` before use: its buffers are copies of the last update's.
    The first update copies. `network` is to be the bare one, not a distributed wrapper; with the state dict of a saved
    average, one made by the same words goes on where it was. Raises ValueError for another name.

    >>> network = nn.Linear(1, 1, bias=False)
    >>> mean = create("swa", network)
    >>> for weight in (1.0, 3.0):
    ...     _ = nn.init.constant_(network.weight, weight)
    ...     mean.update_parameters(network)
    >>> mean.module.weight.item()
    2.0
    """
    if name == "ema":
        return AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
    if name == "swa":
        return AveragedModel(network)
    raise ValueError(f"unknown averaging {name!r}{nearest(name, list(NAMES))}")


def renew_batch_norm(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Measure BatchNorm's means and variances anew, as the mean over batches of the network's input.

    The statistics of averaged weights are not the average of statistics. Batches are moved to the network's device.
    Raises ValueError if there is no batch, and then changes nothing.
    """
    remaining = iter(batches)
    first = next(remaining, None)
    if first is None:  # statistics that nothing was counted in would be a mean of 0 and a variance of 1
        raise ValueError("BatchNorm's statistics can't be renewed without a batch")
    update_bn(chain([first], remaining), network, next(network.parameters()).device)


def average(files: Sequence[Path]) -> dict[str, Tensor]:
    """The mean of the tensors of safetensors files, summed in float64, in the dtype that they have.

    Integers, such as BatchNorm's number of batches, are the last file's. One tensor of each file is in memory at a
    time. Raises ValueError for no files, and for files whose tensors differ in name or shape.
    """
    if not files:
        raise ValueError("there are no checkpoints to average")
    with ExitStack() as stack:
        opened = [stack.enter_context(safe_open(file, framework="pt")) for file in files]
        names = opened[-1].keys()
        for file, checkpoint in zip(files, opened, strict=True):
            if odd := set(names) ^ set(checkpoint.keys()):
                raise ValueError(f"{file}: can't be averaged with {files[-1]}: only one has {min(odd)}")
        return {name: _mean(name, files, opened) for name in names}


def _mean(name: str, files: Sequence[Path], opened: Sequence[safe_open]) -> Tensor:
    last = opened[-1].get_tensor(name)
    if not last.is_floating_point():
        return last
    total = torch.zeros(last.shape, dtype=torch.float64)
    for file, checkpoint in zip(files, opened, strict=True):
        tensor = checkpoint.get_tensor(name)
        if tensor.shape != last.shape:
            raise ValueError(
                f"{file}: {name} is {tuple(tensor.shape)}, but in {files[-1]} it is {tuple(last.shape)}: "
                "checkpoints of different networks have no average"
            )
        total += tensor
    return (total / len(files)).to(last.dtype)

"""Layer attentive pooling: ours against a literal transcription of equations (2)-(8) of the LAP paper.

    python benchmarks/lap.py

One training step (forward and backward) of 16 recordings of 2 s on a BASE model: 13 layers, 99 frames, 768 hidden
values, 12 heads. Both get the same weights and the same states, and what they compute is compared before anything is
timed. Times are taken in turns, in this process, and the ratio is the median over the turns; peak memory is a fresh
process's each.
"""

import argparse
import datetime
import platform
import resource
import statistics
import subprocess
import sys
import time

import torch
from torch import Tensor, nn

from samevoice.models.layer_pooling import LayerAttentivePooling

BATCH, LAYERS, FRAMES, HIDDEN, CHANNELS, HEADS = 16, 13, 99, 768, 512, 12


class LiteralLAP(nn.Module):
    """The equations as they are written, on (batch, hidden, frames, layers), as the authors' code lays the states out.

    (batch, layers, frames, hidden) -> (batch, channels, frames). Parameter names and shapes are those of
    `LayerAttentivePooling`, but for the convolutions' axes of size 1.
    """

    def __init__(self):
        super().__init__()
        squeezed = LAYERS // 2
        self.in_norm = nn.BatchNorm2d(HIDDEN)
        self.in_weight = nn.Conv2d(HIDDEN, HIDDEN, 1)
        self.sq_weight = nn.Parameter(torch.zeros(HEADS, LAYERS, squeezed))
        self.sq_bias = nn.Parameter(torch.zeros(HEADS, 1, squeezed))
        self.ex_weight = nn.Parameter(torch.zeros(HEADS, squeezed, LAYERS))
        self.ex_bias = nn.Parameter(torch.zeros(HEADS, 1, LAYERS))
        self.out_weight = nn.Conv1d(HIDDEN, CHANNELS, 1)
        self.out_norm = nn.BatchNorm1d(CHANNELS)

    def forward(self, states: Tensor) -> Tensor:
        X = states.permute(0, 3, 2, 1)  # (batch, hidden, frames, layers)
        batch, _, frames, layers = X.shape
        x = self.in_weight(self.in_norm(X))  # (2)
        x = x.unflatten(1, (HEADS, -1)).permute(0, 3, 1, 2, 4)  # (batch, frames, heads, d, layers)
        x = x.reshape(batch * frames, HEADS, HIDDEN // HEADS, layers)
        x_max, x_mean = x.max(2, keepdim=True)[0], x.mean(2, keepdim=True)  # (3)
        alpha = (self.squeeze_excite(x_max) + self.squeeze_excite(x_mean)).sigmoid()  # (5)
        y = (alpha * x).max(-1)[0]  # (6), (7)
        y = y.reshape(batch, frames, HIDDEN).transpose(1, 2)  # (batch, hidden, frames)
        return self.out_norm(self.out_weight(y))  # (8)

    def squeeze_excite(self, z: Tensor) -> Tensor:
        return (z @ self.sq_weight + self.sq_bias).relu() @ self.ex_weight + self.ex_bias  # (4)


def ours() -> LayerAttentivePooling:
    torch.manual_seed(0)
    network = LayerAttentivePooling(LAYERS, HIDDEN, CHANNELS, HEADS, dropout=0.0)
    for norm in (network.in_norm, network.out_norm):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, 0.0, 0.3)
    return network


def literal() -> LiteralLAP:
    network = LiteralLAP()
    weights = ours().state_dict()
    network.load_state_dict({name: weights[name].reshape(value.shape) for name, value in network.state_dict().items()})
    return network


NETWORKS = {"literal": literal, "ours": ours}


def states(fine_tuning: bool, batch: int = BATCH) -> Tensor:
    """Hidden states; fine_tuning: a front end below is trained too, and wants their gradient."""
    values = torch.randn(batch, LAYERS, FRAMES, HIDDEN, generator=torch.Generator().manual_seed(1))
    return values.requires_grad_(fine_tuning)


def step(network: nn.Module, x: Tensor) -> float:
    """Seconds of one forward and backward pass."""
    x.grad = None
    network.zero_grad()
    start = time.perf_counter()
    y = network(x)
    y.backward(torch.ones_like(y))
    return time.perf_counter() - start


def largest_difference(batch: int = 2) -> float:
    """Of output, every gradient and every running statistic, relative to the largest of each, in float64."""
    results = []
    for build in NETWORKS.values():
        network, x = build().double(), states(True, batch).detach().double().requires_grad_()
        y = network(x)
        y.backward(torch.randn(y.shape, generator=torch.Generator().manual_seed(2), dtype=y.dtype))
        gradients = [parameter.grad for parameter in network.parameters()]
        statistics_ = [buffer for buffer in network.buffers() if buffer.is_floating_point()]
        results.append([y.detach(), x.grad, *gradients, *statistics_])
    pairs = zip(*results, strict=True)
    # The output bias stands before a normalisation: its gradient is 0 but for rounding, in both
    return max(
        float((theirs - mine.view_as(theirs)).abs().max() / theirs.abs().max())
        for theirs, mine in pairs
        if theirs.abs().max() > 1e-9
    )


def time_in_turns(fine_tuning: bool, turns: int) -> tuple[float, float, float]:
    """Median seconds of the literal one and of ours, and the median over the turns of their ratio."""
    x = states(fine_tuning)
    networks = [build() for build in NETWORKS.values()]
    pairs = [[step(network, x) for network in networks] for _ in range(turns + 1)][1:]  # the first warms up
    theirs, mine = zip(*pairs, strict=True)
    return statistics.median(theirs), statistics.median(mine), statistics.median(t / m for t, m in pairs)


def peak_memory(name: str, fine_tuning: bool) -> float:
    """MB that two steps add, at their peak, to a process that holds the network and the states."""
    command = [sys.executable, __file__, "--peak", name, *(["--fine-tuning"] if fine_tuning else [])]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def print_peak(name: str, fine_tuning: bool) -> None:
    network, x = NETWORKS[name](), states(fine_tuning)
    before = _peak()
    for _ in range(2):
        step(network, x)
    print(_peak() - before)


def _peak() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--peak", choices=NETWORKS, help=argparse.SUPPRESS)
    parser.add_argument("--fine-tuning", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peak:
        print_peak(arguments.peak, arguments.fine_tuning)
        return
    cases = {"frozen": False, "fine-tuned": True}
    # Memory first: a process starts with the peak of the one it was forked from, so this one must still be small
    peaks = {label: [peak_memory(name, fine_tuning) for name in NETWORKS] for label, fine_tuning in cases.items()}
    machine = f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"
    print(f"{datetime.date.today()}, {machine}, torch {torch.__version__}")
    print(f"largest relative difference of outputs, gradients and statistics (float64): {largest_difference():.1e}")
    print(f"{'front end':<12}{'':<10}{'literal':>10}{'ours':>10}{'ratio':>12}")
    for label, fine_tuning in cases.items():
        theirs, mine, ratio = time_in_turns(fine_tuning, arguments.turns)
        print(f"{label:<12}{'step, ms':<10}{1e3 * theirs:>10.0f}{1e3 * mine:>10.0f}{ratio:>11.2f}x faster")
        theirs, mine = peaks[label]
        print(f"{label:<12}{'peak, MB':<10}{theirs:>10.0f}{mine:>10.0f}{100 * mine / theirs:>11.0f}% of it")


if __name__ == "__main__":
    main()

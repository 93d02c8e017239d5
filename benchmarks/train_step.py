"""A training step on a processor, with the memory that is freed kept for the next one, against without.

    python benchmarks/train_step.py [--turns 3]

ERes2Net of width 16 on 40 mels, forward and backward of 64 x 1.5 s, channels last, float32: a step of
recipes/eres2net_mini.yaml. Each turn is a fresh process, as it can't be undone in one; processes take turns, and the
ratio is the median over the turns.
"""

import argparse
import datetime
import statistics
import subprocess
import sys
import time

from samevoice.machine import processor

STEPS = 5


def step_seconds(keep: bool) -> float:
    import torch

    from samevoice.models import create
    from samevoice.training import memory, network

    if keep:
        memory.keep_freed()
    torch.manual_seed(0)
    made = create("eres2net", channels=16, mels=40).train()
    network.lay_out(made)
    inputs = torch.randn(64, 148, 40)
    times = []
    for _ in range(2 + STEPS):  # the first ones find their memory
        start = time.perf_counter()
        made(inputs).square().sum().backward()
        times.append(time.perf_counter() - start)
    return statistics.median(times[2:])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--one", choices=["kept", "given back"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(step_seconds(options.one == "kept"))
        return
    found: dict[str, list[float]] = {"kept": [], "given back": []}
    for _ in range(options.turns):
        for name, times in found.items():
            command = [sys.executable, __file__, "--one", name]
            times.append(float(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    ratios = [back / kept for kept, back in zip(*found.values(), strict=True)]
    print(f"{datetime.date.today()}, {processor()}")
    for name, times in found.items():
        print(f"memory {name}: {statistics.median(times):.2f} s a step ({min(times):.2f} to {max(times):.2f})")
    print(f"kept is {statistics.median(ratios):.2f} times as fast ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()

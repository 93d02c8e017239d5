"""Embedding many recordings: `embed_many` against a loop of `embed`, and both against torch on the same network.

    python benchmarks/embed.py [--model default] [--recordings 96] [--seconds 3]

Crops of the sample recordings. The named alternatives run in the same process and in turn; printed are the medians of
five rounds and the ratio round by round. torch (if installed) runs the default architecture eagerly on the same filter
banks, one recording at a time and in batches of 16; its weights are random, which costs the same.
"""

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from datetime import date

import numpy as np

import samevoice
from samevoice.audio import RATE, read
from samevoice.audio.fbank import fbank
from samevoice.audio.formats import in_folder
from samevoice.cli.demo import samples


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="default")
    parser.add_argument("--recordings", type=int, default=96)
    parser.add_argument("--seconds", type=float, default=3)
    options = parser.parse_args()
    verifier = samevoice.load(options.model)
    crops = take_crops(options.recordings, int(options.seconds * RATE))
    ways: dict[str, Callable[[], object]] = {
        "embed_many": lambda: verifier.embed_many(crops),
        "a loop of embed": lambda: [verifier.embed(crop) for crop in crops],
    }
    ways |= torch_ways(verifier.card, crops)
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(6):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            if turn:  # the first round warms up
                times[name].append(time.perf_counter() - start)
    print(f"{date.today()}, {platform.machine()}, {len(crops)} recordings of {options.seconds:g} s")
    print("| way | recordings/s | time, in embed_many's |\n|---|---|---|")
    for name, seconds in times.items():
        ratio = statistics.median(s / base for s, base in zip(seconds, times["embed_many"], strict=True))
        print(f"| {name} | {len(crops) / statistics.median(seconds):.1f} | {ratio:.2f} |")


def take_crops(count: int, length: int) -> list[tuple[np.ndarray, int]]:
    recordings = [read(path) for path in in_folder(samples())]
    crops = []
    for i in range(count):
        samples_ = recordings[i % len(recordings)]
        start = (i * 1600) % (len(samples_) - length)
        crops.append((samples_[start : start + length], RATE))
    return crops


def torch_ways(card, crops: list) -> dict[str, Callable[[], object]]:
    try:
        import torch
    except ModuleNotFoundError:
        return {}
    network = samevoice.models.create(card.architecture, **card.config).eval()

    def run(batch: int) -> None:
        with torch.inference_mode():
            for start in range(0, len(crops), batch):
                features = [fbank(samples_, card.features) for samples_, _ in crops[start : start + batch]]
                network(torch.from_numpy(np.stack(features)))

    return {
        "torch, one by one, no quality record": lambda: run(1),
        "torch, batches of 16, no quality record": lambda: run(16),
    }


if __name__ == "__main__":
    main()

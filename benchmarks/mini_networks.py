"""Networks that eres2net-mini could have been, at an equal budget of time: widths, and sizes of the embedding.

    python benchmarks/mini_networks.py FOLDER -o docs/mini_networks.md [--minutes 9]

FOLDER: where `make eres2net-mini` trains (runs/eres2net-mini), with its manifests, banks and views. Trains
`eres2net_mini` from random weights with each network for as many steps as fit the minutes, by a measured step, and
measures the speakers that are held out. Stopped, the same command goes on. Takes all cores: run nothing beside it.
"""

import argparse
import os
import statistics
import time
from datetime import date
from pathlib import Path

import torch
from rich.console import Console

from samevoice.cli.output import track
from samevoice.data.features import Features
from samevoice.files import replacing
from samevoice.machine import processor
from samevoice.training import memory, network, recipe, runs
from samevoice.training.loop import train
from samevoice.training.optimisers import create, parts

NETWORKS = {
    "width 16": {"channels": 16, "mels": 40},
    "width 24": {"channels": 24, "mels": 40},
    "width 32": {"channels": 32, "mels": 40},
    "width 16, embedding 256": {"channels": 16, "mels": 40, "embedding_dim": 256},
}
HEADS = ("network", "parameters, million", "s a step", "steps", "EER %", "minDCF(0.01)")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=9)
    options = parser.parse_args()
    output = options.output.absolute()
    os.chdir(options.folder)
    memory.keep_freed()
    rows = [_row(name, config, options.minutes) for name, config in NETWORKS.items()]
    with replacing(output) as temporary:
        temporary.write_text(_page(rows, options.minutes), encoding="utf-8")


def _row(name: str, config: dict, minutes: float) -> list[str]:
    folder = Path("networks") / name.replace(", ", "-").replace(" ", "")
    changes = [f"network.config={config}", "data.views.folder=run/features", "workers=0"]
    chosen = recipe.load("eres2net_mini", changes)
    epochs_file = folder / "epochs"
    if not epochs_file.exists():  # a run that goes on must be planned as it was
        folder.mkdir(parents=True, exist_ok=True)
        epochs_file.write_text(f"{_epochs(chosen, minutes):.3f}")
    chosen = recipe.load("eres2net_mini", [*changes, f"phases.distillation.epochs={epochs_file.read_text()}"])
    train(chosen, folder / "run", Console(stderr=True), track)
    run = runs.load(folder / "run", name)
    found = [record for record in run.records if record["kind"] == "validation"][-1]
    each = run.seconds / run.steps
    cells = [f"{(run.parameters or 0) / 1e6:.2f}", f"{each:.2f}", f"{run.steps:,}"]
    return [name, *cells, f"{100 * found['eer']:.2f}", f"{found['min_dcf_0.01']:.3f}"]


def _epochs(chosen: recipe.Recipe, minutes: float) -> float:
    phase = chosen.phases["distillation"]
    steps = minutes * 60 / _step_seconds(chosen)
    return steps * phase.batch / len(Features(Path("run/features")).table)


def _step_seconds(chosen: recipe.Recipe) -> float:
    phase = chosen.phases["distillation"]
    made = network.build(chosen.network).train()
    network.lay_out(made)
    optimiser = create(phase.optimiser, parts(made, torch.nn.Linear(1, 1), {"lr": 1e-3, "weight_decay": 0.0}))
    inputs = torch.randn(phase.batch, round(100 * phase.seconds), chosen.network.config["mels"])
    times = []
    for _ in range(7):
        start = time.perf_counter()
        made(inputs).square().sum().backward()
        optimiser.step()
        optimiser.zero_grad()
        times.append(time.perf_counter() - start)
    return statistics.median(times[2:])  # the first ones find their memory


def _page(rows: list[list[str]], minutes: float) -> str:
    lines = [
        "# Networks for eres2net-mini at an equal budget",
        "",
        f"The recipe `eres2net_mini`, each network for {minutes:g} minutes from the same seed; error rates on 3 s of",
        "the 92 speakers that it sets aside. Written by",
        f"`python benchmarks/mini_networks.py runs/eres2net-mini --minutes {minutes:g}`,",
        f"{date.today().isoformat()}, {processor()}.",
        "",
        "| " + " | ".join(HEADS) + " |",
        "|---" * len(HEADS) + "|",
        *("| " + " | ".join(row) + " |" for row in rows),
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()

"""What the recipe of eres2net-mini chose, against what it could have chosen, at an equal budget of time.

    python benchmarks/mini_choices.py FOLDER -o docs/mini_choices.md [--minutes 8]

FOLDER: where `make eres2net-mini` trains (runs/eres2net-mini), with its manifests, banks and views. Trains
`eres2net_mini` with each change from random weights, without averaging, for as many steps as fit the minutes by a
measured step, and measures the speakers that are held out. Stopped, the same command goes on. Takes all cores: run
nothing beside it.
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

NETWORK, PHASE = "network.config={{channels: {}, mels: 40, embedding_dim: {}}}", "phases.distillation."
CHOICES = {
    "the recipe": [],
    "width 24": [NETWORK.format(24, 192)],
    "width 32": [NETWORK.format(32, 192)],
    "embedding 256": [NETWORK.format(16, 256)],
    "batches of 64": [PHASE + "batch=64"],
    "AdamW": [PHASE + "optimiser=adamw"],
}
HEADS = ("change", "parameters, million", "s a step", "steps", "EER %", "minDCF(0.01)")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=8)
    options = parser.parse_args()
    output = options.output.absolute()
    os.chdir(options.folder)
    memory.keep_freed()
    rows = [_row(name, changes, options.minutes) for name, changes in CHOICES.items()]
    with replacing(output) as temporary:
        temporary.write_text(_page(rows, options.minutes), encoding="utf-8")


def _row(name: str, changes: list[str], minutes: float) -> list[str]:
    folder = Path("choices") / name.replace(" ", "-")
    # The mean of some 200 steps would still remember the random weights, the more the fewer steps fit
    changes = [*changes, "data.views.folder=run/features", "workers=0", PHASE + "averaging=none"]
    chosen = recipe.load("eres2net_mini", changes)
    epochs_file = folder / "epochs"
    if not epochs_file.exists():  # a run that goes on must be planned as it was
        folder.mkdir(parents=True, exist_ok=True)
        epochs_file.write_text(f"{_epochs(chosen, minutes):.3f}")
    chosen = recipe.load("eres2net_mini", [*changes, f"{PHASE}epochs={epochs_file.read_text()}"])
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
        "# What the choices of eres2net-mini bring at an equal budget",
        "",
        f"The recipe `eres2net_mini` with one change each, {minutes:g} minutes from the same seed;",
        "error rates on 3 s of the 92 speakers that it sets aside, of the last weights without their mean. Written by",
        f"`python benchmarks/mini_choices.py runs/eres2net-mini --minutes {minutes:g}`,",
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

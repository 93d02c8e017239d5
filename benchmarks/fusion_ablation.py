"""The ERes2Net paper's ablation (none, local, global, both kinds of fusion) at a budget that a laptop has.

    python benchmarks/fusion_ablation.py MANIFEST -o docs/ [--runs runs/ablation] [--seeds 3] [key=value ...]

Trains `mini` with each of the four networks and each seed, from random weights, on the same utterances in the same
order, and measures the speakers that are held out (others for each seed). Writes fusion_ablation.md, with each seed's
error rates, and mini_curve.svg, the curves of the first seed's ERes2Net. Stopped, the same command goes on.
"""

import argparse
from datetime import date
from pathlib import Path

import numpy as np
from rich.console import Console

from samevoice.cli.output import track
from samevoice.files import replacing
from samevoice.machine import processor
from samevoice.training import recipe, runs
from samevoice.training.loop import train

SYSTEMS = {
    "Res2Net": "res2net",
    "Res2Net + LFF": "res2net_lff",
    "Res2Net + GFF": "res2net_gff",
    "ERes2Net": "eres2net",
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("manifest")
    parser.add_argument("changes", nargs="*")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--runs", type=Path, default=Path("runs/ablation"))
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_intermixed_args()
    found: dict[str, list[runs.Run]] = {name: [] for name in SYSTEMS}
    for seed in range(options.seeds):
        for name, network in SYSTEMS.items():
            changes = [f"data.train={options.manifest}", f"network.name={network}", f"seed={seed}", *options.changes]
            folder = options.runs / f"{network}-{seed}"
            train(recipe.load("mini", changes), folder, Console(stderr=True), track)
            found[name].append(runs.load(folder, f"{network}, seed {seed}"))
    _write(options.output / "fusion_ablation.md", _page(found, options))
    _write(options.output / "mini_curve.svg", runs.draw([found["ERes2Net"][0]]))


def _page(found: dict[str, list[runs.Run]], options: argparse.Namespace) -> str:
    last = {name: [_last_eer(run) for run in some] for name, some in found.items()}
    command = " ".join([Path(options.manifest).name, *map(repr, options.changes)])
    heads = [*(f"seed {seed}" for seed in range(options.seeds)), "mean", "over Res2Net, seed by seed"]
    first = found["ERes2Net"][0]
    lines = [
        "# What the two fusions bring at a laptop's budget",
        "",
        f"The recipe `mini` with each network: {first.epochs} epochs, {first.steps} steps, from random weights. EER",
        "in % of the speakers held out, after the last epoch, not the best one; 50 % is chance. Seeds change the",
        "weights, the order, and which speakers are held out. Written by",
        f"`python benchmarks/fusion_ablation.py {command}`,",
        f"{date.today().isoformat()}, {processor()}.",
        "",
        "| network | " + " | ".join(heads) + " |",
        "|---|" + "---|" * len(heads),
    ]
    for name, rates in last.items():
        gains = [100 * (rate - base) for rate, base in zip(rates, last["Res2Net"], strict=True)]
        spread = "" if name == "Res2Net" else f"{min(gains):+.2f} to {max(gains):+.2f}"
        cells = [*(f"{100 * rate:.2f}" for rate in rates), f"{100 * np.mean(rates):.2f}", spread]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


def _last_eer(run: runs.Run) -> float:
    return [record["eer"] for record in run.records if record["kind"] == "validation"][-1]


def _write(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

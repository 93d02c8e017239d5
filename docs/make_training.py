"""Write the table of memory and time in docs/training.md: python docs/make_training.py [RECIPE ...]

Each recipe's costs come from `samevoice train RECIPE --dry-run`; they are kept in docs/training_costs.json, and only
the recipes named are tried again.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path

from samevoice.files import replacing
from samevoice.training import recipe
from samevoice.training.dry_run import VOXCELEB2, dry_run

PAGE = Path(__file__).with_name("training.md")
COSTS = Path(__file__).with_name("training_costs.json")
START, END = "<!-- costs: written by docs/make_training.py -->\n", "<!-- end of costs -->\n"
HEADS = (
    "recipe, phase",
    "steps",
    "parameters, million",
    "weights, gradients, optimiser, GiB",
    "activations of an utterance, MiB",
    "batch in one process: GiB",
    "GFLOP an utterance",
    "hours at 100 TFLOP/s",
)
SUSTAINED = 100e12  # operations a second; state what your GPUs reach and scale


def page(text: str, costs: dict[str, list[dict]]) -> str:
    """The page with the table put between its marks. Raises ValueError for a page without them."""
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not (start and end):
        raise ValueError(f"the page needs the lines {START.strip()!r} and {END.strip()!r} around its table")
    rows = [row(name, cost) for name, phases in costs.items() for cost in phases]
    lines = [_line(HEADS), "|---" * len(HEADS) + "|", *map(_line, rows)]
    return f"{before}{START}\n" + "\n".join(lines) + f"\n\n{END}{after}"


def row(name: str, cost: dict) -> list[str]:
    """The cells under HEADS."""
    phase = recipe.load(name).phases[cost["phase"]]
    hours = cost["gflop"] * 1e9 * phase.epochs * VOXCELEB2[1] / SUSTAINED / 3600
    return [
        f"`{name}`, {cost['phase']}",
        f"{cost['steps']:,}",
        f"{cost['parameters'] / 1e6:.1f}, {cost['trained'] / 1e6:.1f} trained",
        f"{cost['state_gib']:.2f}",
        f"{cost['activation_mib']:,.0f}",
        f"{phase.batch // phase.accumulate}: {cost['batch_gib']:.0f}",
        f"{cost['gflop']:,.1f}",
        f"{hours:,.1f}",
    ]


def _line(cells) -> str:
    return "| " + " | ".join(cells) + " |"


def main(names: list[str]) -> None:
    costs = json.loads(COSTS.read_text(encoding="utf-8")) if COSTS.exists() else {}
    for name in names:
        costs[name] = [asdict(cost) for cost in dry_run(recipe.load(name))]
        with replacing(COSTS) as temporary:
            temporary.write_text(json.dumps(costs, indent=1) + "\n", encoding="utf-8")
        print(name, flush=True)
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), costs), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])

"""`samevoice train RECIPE [key=value ...]`, and `samevoice train finetune`."""

from pathlib import Path
from typing import Annotated

import typer

from samevoice.cli.groups import RunByDefault
from samevoice.cli.output import BadInput, JsonOption, bad_input, print_json, stderr, stdout, track

app = typer.Typer(cls=RunByDefault, help="Train a model by a recipe, or fine-tune one on your own voices.")


@app.command("run")
def run(
    recipe: Annotated[str, typer.Argument(help="A YAML file, or the name of a recipe that comes with samevoice.")],
    changes: Annotated[list[str] | None, typer.Argument(help="key=value, such as phases.standard.epochs=2.")] = None,
    folder: Annotated[Path | None, typer.Option("--run", help="The run's folder (runs/NAME).")] = None,
    show: Annotated[bool, typer.Option("--show", help="Print the whole recipe and stop.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Two steps of each phase on made-up audio.")] = False,
    restart: Annotated[bool, typer.Option("--restart", help="Delete what the run's folder has; begin again.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Train; `samevoice train RECIPE` is this. The same command goes on after Ctrl-C, a crash or a power cut."""
    from samevoice.training import recipe as recipes

    with bad_input():
        chosen = recipes.load(recipe, changes or [])
        if show:
            _show(chosen, as_json)
        elif dry_run:
            _dry_run(chosen, as_json)
        else:
            _train(chosen, folder or Path("runs") / chosen.name, restart, as_json)


def _show(recipe, as_json: bool) -> None:
    from samevoice.training.recipe import dump

    if as_json:
        print_json(recipe.model_dump(mode="json"))
    else:
        stdout.print(dump(recipe), end="", markup=False, highlight=False, soft_wrap=True)


def _train(recipe, folder: Path, restart: bool, as_json: bool) -> None:
    import shutil

    from samevoice.training.loop import Stopped, train

    if restart and folder.exists():
        if not (folder / "recipe.yaml").exists():
            raise BadInput(f"{folder}: is not a run's folder, so --restart won't delete it")
        shutil.rmtree(folder)
    try:
        model = train(recipe, folder, stderr, track)
    except Stopped as stopped:
        stderr.print(str(stopped), markup=False, highlight=False)
        raise KeyboardInterrupt from None
    if as_json:
        print_json({"model": str(model), "run": str(folder)})
    else:
        stdout.print(str(model), markup=False, highlight=False, soft_wrap=True)


def _dry_run(recipe, as_json: bool) -> None:
    from rich.table import Table

    from samevoice.training.dry_run import TRIED, VOXCELEB2, dry_run

    costs = list(track(dry_run(recipe), len(recipe.phases), "trying"))
    if as_json:
        print_json(costs)
        return
    table = Table(
        "", *(cost.phase for cost in costs), title=f"{recipe.name}, for VoxCeleb2's {VOXCELEB2[0]:,} speakers"
    )
    phases = [recipe.phases[cost.phase] for cost in costs]
    rows = {
        "parameters, loss's included": [f"{cost.parameters:,}" for cost in costs],
        "of them trained": [f"{cost.trained:,}" for cost in costs],
        "weights, gradients, optimiser": [f"{cost.state_gib:.2f} GiB" for cost in costs],
        "activations of an utterance": [f"{cost.activation_mib:,.0f} MiB" for cost in costs],
        "utterances at once, one process": [f"{phase.batch // phase.accumulate}" for phase in phases],
        "memory for these": [f"{cost.batch_gib:.1f} GiB" for cost in costs],
        f"a step of {TRIED} utterances here": [f"{cost.step_seconds:.2f} s" for cost in costs],
        "loss after two such steps": [f"{cost.loss:.2f}" for cost in costs],
    }
    for name, cells in rows.items():
        table.add_row(name, *cells)
    stdout.print(table)

"""`samevoice train RECIPE [key=value ...]`, and `samevoice train finetune`."""

import os
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from samevoice.cli.groups import RunByDefault
from samevoice.cli.output import (
    BadInput,
    JsonOption,
    ModelOption,
    OfflineOption,
    bad_input,
    print_json,
    say,
    stderr,
    stdout,
    track,
)

app = typer.Typer(cls=RunByDefault, help="Train a model by a recipe, or fine-tune one on your own voices.")

RunOption = Annotated[Path | None, typer.Option("--run", help="The run's folder (runs/NAME).")]
RestartOption = Annotated[bool, typer.Option("--restart", help="Delete what the run's folder has; begin again.")]


@app.command("run")
def run(
    recipe: Annotated[str, typer.Argument(help="A YAML file, or the name of a recipe that comes with samevoice.")],
    changes: Annotated[list[str] | None, typer.Argument(help="key=value, such as phases.standard.epochs=2.")] = None,
    folder: RunOption = None,
    show: Annotated[bool, typer.Option("--show", help="Print the whole recipe and stop.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Two steps of each phase on made-up audio.")] = False,
    restart: RestartOption = False,
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


@app.command("finetune")
def finetune(
    data: Annotated[str, typer.Option(help="Your voices: a folder of speakers, a CSV or a manifest.")],
    model: ModelOption = "default",
    folder: RunOption = None,
    banks: Annotated[str | None, typer.Option(help="Of noise and rooms, by `samevoice prepare`.")] = None,
    seconds: Annotated[float, typer.Option(min=0.5, help="Length of the pieces it hears.")] = 3.0,
    epochs: Annotated[float | None, typer.Option(help="Of the whole network (5, fewer of much data).")] = None,
    restart: RestartOption = False,
    offline: OfflineOption = False,
    as_json: JsonOption = False,
) -> None:
    """Fine-tune a model on your own voices, and tell the EER before and after on speakers held out.

    The same command goes on after Ctrl-C, a crash or a power cut. Needs 20 speakers with 3 recordings or more.
    """
    from samevoice.training import finetune as tuning

    place = folder or Path("runs") / f"{Path(model).name}-finetuned"
    with bad_input(), _stoppable():
        if restart:
            _delete(place, tuning.ASKED)
        asked = tuning.Settings(model, data, seconds, epochs, banks)
        report = tuning.finetune(asked, place, stderr, track, offline, say)
    if as_json:
        print_json(report)
    else:
        _compare(report)


def _compare(report) -> None:
    from rich.table import Table

    def percent(values) -> str:
        return " to ".join(f"{100 * value:.2f}" for value in values) + " %" if values else "not to be had"

    held, gap = report.held_out, report.difference
    table = Table(
        *("", "EER", "95 % interval"),
        title=f"{held['speakers']} speakers held out, {held['targets']:,} + {held['nontargets']:,} trials",
    )
    table.add_row(f"before: {report.start}", f"{100 * report.before.eer:.2f} %", percent(report.before.interval))
    table.add_row("after fine-tuning", f"{100 * report.after.eer:.2f} %", percent(report.after.interval))
    if gap:
        table.add_row("difference", f"{100 * gap.value:+.2f} %", percent((gap.low, gap.high)))
    stdout.print(table)
    for line in (report.verdict, *(f"- {note}" for note in report.notes), f"The fine-tuned model: {report.model}"):
        stdout.print(line, markup=False, highlight=False, soft_wrap=True)


def _show(recipe, as_json: bool) -> None:
    from samevoice.training.recipe import dump

    if as_json:
        print_json(recipe.model_dump(mode="json"))
    else:
        stdout.print(dump(recipe), end="", markup=False, highlight=False, soft_wrap=True)


def _train(recipe, folder: Path, restart: bool, as_json: bool) -> None:
    from samevoice.training.loop import train

    if restart:
        _delete(folder, "recipe.yaml")
    with _stoppable():
        model = train(recipe, folder, stderr, track)
    if not _first():
        return
    if as_json:
        print_json({"model": str(model), "run": str(folder)})
    else:
        stdout.print(str(model), markup=False, highlight=False, soft_wrap=True)


def _delete(folder: Path, mark: str) -> None:
    """Delete a run's folder, if there is one. mark: the file by which it is known to be one."""
    import shutil

    if not folder.exists() or not _first():
        return
    if not (folder / mark).exists():
        raise BadInput(f"{folder}: is not a run's folder, so --restart won't delete it")
    shutil.rmtree(folder)


@contextmanager
def _stoppable():
    """What training ends with after Ctrl-C is said, and ends the command like any Ctrl-C."""
    from samevoice.training.loop import Stopped

    try:
        yield
    except Stopped as stopped:
        if _first():
            stderr.print(str(stopped), markup=False, highlight=False)
        raise KeyboardInterrupt from None


def _first() -> bool:
    """Whether this process, of those that torchrun or accelerate started, is the one that speaks and deletes."""
    return os.environ.get("RANK", "0") == "0"


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
        "operations for an utterance": [f"{cost.gflop:,.0f} GFLOP" for cost in costs],
        "steps": [f"{cost.steps:,}" for cost in costs],
        f"a step of {TRIED} utterances here": [f"{cost.step_seconds:.2f} s" for cost in costs],
        "loss after two such steps": [f"{cost.loss:.2f}" for cost in costs],
    }
    for name, cells in rows.items():
        table.add_row(name, *cells)
    stdout.print(table)

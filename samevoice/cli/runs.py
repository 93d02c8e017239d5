"""`samevoice runs [FOLDER]` and `samevoice runs compare A B`: what was trained here, in a table and a picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from samevoice.cli.groups import ListByDefault
from samevoice.cli.output import BadInput, JsonOption, bad_input, print_json, say, stdout

if TYPE_CHECKING:
    from rich.table import Table

    from samevoice.training.runs import Run


app = typer.Typer(cls=ListByDefault, help="List and compare training runs; `runs FOLDER` is `runs list FOLDER`.")


@app.command("list")
def list_runs(
    folder: Annotated[Path, typer.Argument(help="Where runs lie.")] = Path("runs"),
    as_json: JsonOption = False,
) -> None:
    """Every run in a folder, the latest first. "running" means that its log grew in the last five minutes."""
    from samevoice.training import runs

    with bad_input():
        found = runs.find(folder)
    if as_json:
        print_json([run.told() for run in found])
    else:
        _show(found)


@app.command()
def compare(
    folders: Annotated[list[Path], typer.Argument(help="Runs' folders.")],
    output: Annotated[Path, typer.Option("--output", "-o", help=".svg, or .html with the tables.")] = Path(
        "compare.svg"
    ),
    as_json: JsonOption = False,
) -> None:
    """Runs side by side: a table, the settings that differ, and their loss and EER curves as a picture."""
    from samevoice.files import replacing
    from samevoice.training import runs

    if output.suffix.lower() not in (".svg", ".html"):
        raise BadInput(f"{output}: the picture is written as .svg or .html")
    with bad_input():
        names = _names(folders)
        found = [runs.load(folder, name) for folder, name in zip(folders, names, strict=True)]
    content = runs.page(found) if output.suffix.lower() == ".html" else runs.draw(found)
    with replacing(output) as temporary:
        temporary.write_text(content, encoding="utf-8")
    differences = runs.differences(found)
    if as_json:
        print_json({"output": str(output), "runs": [run.told() for run in found], "differences": differences})
        return
    _show(found)
    if differences:
        rows = [[name, *map(runs.shown, values)] for name, values in differences.items()]
        stdout.print(_table(["settings that differ", *names], rows))
    stdout.print(f"{output} written", markup=False, highlight=False, soft_wrap=True)


def _names(folders: list[Path]) -> list[str]:
    """The folders' own names, or their paths where two have one name."""
    names = [folder.absolute().name for folder in folders]
    return names if len(set(names)) == len(names) else [str(folder) for folder in folders]


def _show(found: "list[Run]") -> None:
    """All runs, without the columns that none of them fills; then what is wrong with some."""
    from samevoice.training.runs import HEADS

    rows = [run.row() for run in found]
    kept = [i for i in range(len(HEADS)) if any(row[i] for row in rows)]
    stdout.print(_table([HEADS[i] for i in kept], [[row[i] for i in kept] for row in rows]))
    for run in found:
        if run.problem:
            say(run.problem)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> "Table":
    """Narrow, for many columns; a cell that doesn't fit goes on in the next line."""
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Column, Table

    columns = [Column(escape(head), overflow="fold") for head in heads]
    table = Table(*columns, box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for row in rows:
        table.add_row(*map(escape, row))
    return table

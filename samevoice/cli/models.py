"""`samevoice models ...`: what models there are, and getting, converting and calibrating them."""

from pathlib import Path
from typing import Annotated

import typer

from samevoice.cli.output import (
    BadInput,
    JsonOption,
    OfflineOption,
    bad_input,
    load_verifier,
    print_json,
    say,
    stderr,
    stdout,
    track,
)

app = typer.Typer(no_args_is_help=True, help="List, show, pull, convert and calibrate models.")


@app.command("list")
def list_models(as_json: JsonOption = False) -> None:
    """Every model card, and which models are in the cache."""
    from rich.table import Column, Table

    from samevoice.hub import cache, cards

    found = [cards.find(name) for name in cards.names()]
    rows = [
        {
            "name": card.name,
            "default": card.name == cards.DEFAULT,
            "architecture": card.architecture,
            "trained_on": card.trained_on,
            "licence": card.licence,
            "pulled": cache.model_path(card).exists(),
            "calibrated": card.calibration is not None,
        }
        for card in found
    ]
    if as_json:
        print_json(rows)
        return
    table = Table(Column("name", no_wrap=True), "trained on", "licence", "pulled", "calibrated")
    for row in rows:
        name = f"[bold]{row['name']}[/] *" if row["default"] else row["name"]
        marks = ["yes" if row[key] else "" for key in ("pulled", "calibrated")]
        table.add_row(name, row["trained_on"], row["licence"], *marks)
    stdout.print(table)
    stdout.print("* the default; `samevoice models show NAME` says more", markup=False)


@app.command()
def show(name: Annotated[str, typer.Argument(help="A card's name.")], as_json: JsonOption = False) -> None:
    """One card in full: where its weights come from, calibration, error rates."""
    from samevoice.hub import cards

    card = cards.find(name)
    if as_json:
        print_json(card)
    else:
        stdout.print((cards.FOLDER / f"{card.name}.yaml").read_text(), markup=False, highlight=False, end="")


@app.command()
def pull(
    name: Annotated[str, typer.Argument(help="A card's name or a hub id.")] = "default",
    offline: OfflineOption = False,
    as_json: JsonOption = False,
) -> None:
    """Fetch a model into the cache (SAMEVOICE_CACHE), verified and converted, so that it works offline."""
    from samevoice.hub import cards
    from samevoice.hub.pull import pull as fetch

    card = cards.find(name)
    path = fetch(card, offline, say)
    if as_json:
        print_json({"name": card.name, "path": str(path)})
    else:
        stdout.print(f"{card.name}: {path}", markup=False, highlight=False, soft_wrap=True)


@app.command()
def convert(
    checkpoint: Annotated[Path, typer.Argument(help="A .pt, .ckpt or .bin file of 3D-Speaker or WeSpeaker.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write; must not exist.")],
    source: Annotated[str, typer.Option("--from", help="3d-speaker or wespeaker.")],
    architecture: Annotated[str, typer.Option(help="The network's name, e.g. eres2net.")],
    config: Annotated[
        list[str] | None, typer.Argument(help="Configuration that the weights don't tell: word=value.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write card.yaml, model.safetensors and model.onnx from another toolkit's checkpoint."""
    from samevoice.hub.convert import convert as write

    card = write(checkpoint, source, architecture, output, **_words(config or []))
    if as_json:
        print_json({"output": str(output), "card": card})
    else:
        text = f"{output} written; try: samevoice verify A B --model {output} --threshold 0.5"
        stdout.print(text, markup=False, highlight=False, soft_wrap=True)


@app.command()
def calibrate(
    model: Annotated[str, typer.Argument(help="A card's name or a model's folder.")],
    recordings: Annotated[
        list[Path], typer.Argument(help="Folders with one folder for each speaker, or CSV files with path and speaker.")
    ],
    data: Annotated[str, typer.Option(help="What these recordings are, for the card.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The card to write (YAML).")],
    root: Annotated[Path | None, typer.Option(help="What the CSV's paths are relative to (its own folder).")] = None,
    offline: OfflineOption = False,
    as_json: JsonOption = False,
) -> None:
    """Fit a model's likelihood ratios and operating points on your own labelled recordings.

    Pairs are formed within each folder or CSV. Needs 50 recordings or more, with two or more of a speaker.
    """
    import dataclasses

    from samevoice.hub import cards
    from samevoice.hub.calibrate import calibrate as fit
    from samevoice.hub.calibrate import labelled

    lists = [labelled(path, root) for path in recordings]
    verifier = load_verifier(model, "cpu", offline, max_hours=2.0)
    with bad_input():
        calibration, failed = fit(verifier, lists, data, track=track)
    for error in failed:
        stderr.print(f"left out: {error}", style="yellow", markup=False, highlight=False, soft_wrap=True)
    cards.write_card(dataclasses.replace(verifier.card, calibration=calibration), output)
    if as_json:
        print_json({"output": str(output), "calibration": calibration, "left_out": len(failed)})
    else:
        stdout.print(f"{output} written: {calibration.data}", markup=False, highlight=False)


def _words(pairs: list[str]) -> dict:
    import yaml

    words = {}
    for pair in pairs:
        word, equals, value = pair.partition("=")
        if not equals:
            raise BadInput(f"{pair}: configuration is written word=value")
        try:
            words[word] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise BadInput(f"{pair}: the value is not YAML") from None
    return words

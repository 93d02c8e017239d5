"""`samevoice analyze ...`: the papers' figures and tables, of your own models and on your own machine."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from samevoice.cli.output import BadInput, DeviceOption, JsonOption, bad_input, print_json, say, stdout

app = typer.Typer(no_args_is_help=True, help="Layer usage, training efficiency, tables beside the published rows.")

SvgOption = typer.Option("--output", "-o", help="The picture to write (.svg).")


@app.command()
def layers(
    model: Annotated[str, typer.Argument(help="A model's folder, or a network's name (random weights).")],
    audio: Annotated[Path, typer.Argument(help="A recording.")],
    alignment: Annotated[Path | None, typer.Option(help="Its words and phones (TextGrid).")] = None,
    against: Annotated[str | None, typer.Option(help="A second model, such as one with a static weighted sum.")] = None,
    start: Annotated[float, typer.Option(min=0.0, help="From this second.")] = 0.0,
    end: Annotated[float | None, typer.Option(min=0.0, help="To this second.")] = None,
    output: Annotated[Path, SvgOption] = Path("layers.svg"),
    as_json: JsonOption = False,
) -> None:
    """Draw which layers a model uses over time, and words and phones below (LAP paper, Figure 3).

    A model that keeps the largest value (LAP) is shown by how many latent values each layer won; one that adds layers
    up, by its weights. Without --against, LAP is shown against equal weights, where static sums start.
    """
    from samevoice.analysis import layers as analysis
    from samevoice.analysis import textgrid
    from samevoice.audio import RATE, read
    from samevoice.files import replacing

    _svg(output)
    with bad_input():
        tiers = textgrid.words_and_phones(textgrid.read(alignment)) if alignment else []
        samples = read(audio)
        if start * RATE >= len(samples) or (end is not None and end <= start):
            raise BadInput(f"{audio}: has {len(samples) / RATE:.2f} s; nothing of it is between --start and --end")
        samples = samples[round(start * RATE) : None if end is None else round(end * RATE)]
        tiers = [textgrid.shifted(tier, -start) for tier in tiers]
        panels = analysis.usages(analysis.load(model), samples, _name(model))
        if against:
            panels = analysis.usages(analysis.load(against), samples, _name(against)) + panels
        elif panels[0].dynamic:
            panels = [analysis.equal_weights(panels[0]), *panels]
    seconds = len(samples) / RATE
    with replacing(output) as temporary:
        temporary.write_text(analysis.draw(panels, seconds, tiers, f"Layers used in {audio.name}"), encoding="utf-8")
    phones = analysis.levels_by_label(panels[-1], tiers[-1]) if tiers else []
    if as_json:
        told = [
            {"label": panel.label, "layers": [round(float(x), 6) for x in panel.mean], "variation": panel.variation}
            for panel in panels
        ]
        print_json({"output": str(output), "seconds": seconds, "usages": told, "by_label": phones})
        return
    for panel in panels:
        order = panel.mean.argsort()[::-1][:3]
        most = ", ".join(f"{layer} ({panel.mean[layer]:.1%})" for layer in order)
        _print(f"{panel.label}: most of layers {most}; {panel.variation:.1%} of it moves over time")
    if phones:
        _print(f"{tiers[-1].name}, from the highest layers used to the lowest (mean layer):")
        _print(", ".join(f"{row['label']} {row['layer']:.2f}" for row in phones))
    _print(f"{output} written")


@app.command()
def efficiency(
    systems: Annotated[list[str] | None, typer.Argument(help="Networks' names (WavLM BASE+ with five heads).")] = None,
    batch: Annotated[int, typer.Option(min=2, help="Recordings in a step.")] = 8,
    seconds: Annotated[float, typer.Option(min=0.1, help="Of each recording.")] = 2.0,
    steps: Annotated[int, typer.Option(min=1, help="Timed, after one that is not.")] = 3,
    frozen: Annotated[bool, typer.Option("--frozen", help="Train the head alone, as the papers' first stage.")] = False,
    utterances: Annotated[int, typer.Option(min=1, help="Of an epoch (VoxCeleb2's).")] = 1_092_009,
    speakers: Annotated[int, typer.Option(min=1, help="Of the loss (VoxCeleb2's).")] = 5994,
    threads: Annotated[int | None, typer.Option(min=1, help="On the CPU (torch's choice).")] = None,
    device: DeviceOption = "cpu",
    output: Annotated[Path, SvgOption] = Path("efficiency.svg"),
    as_json: JsonOption = False,
) -> None:
    """Measure training on this machine: time of an epoch, parameters, memory; drawn against EER (LAP paper, Figure 2).

    The EERs are those that the LAP paper prints; other networks are measured but not drawn. Keep the machine free.
    """
    from rich.table import Column, Table

    from samevoice.analysis import efficiency as analysis
    from samevoice.analysis.systems import mean_eers
    from samevoice.files import replacing

    _svg(output)
    names = systems or list(analysis.BASE_PLUS)
    setting = analysis.Setting(batch, seconds, steps, frozen, utterances, speakers, device, threads)
    costs = []
    with bad_input():
        for number, cost in enumerate(analysis.measure(names, setting), 1):
            say(f"{number} of {len(names)}: {cost.name}, {cost.step_seconds:.2f} s a step")
            costs.append(cost)
    what = f"{analysis.machine(setting)}, batch {batch} x {seconds:g} s, front end {'frozen' if frozen else 'trained'}"
    picture = analysis.draw(costs, mean_eers(), "Training time and error (EER as published)")
    if picture:
        with replacing(output) as temporary:
            temporary.write_text(picture, encoding="utf-8")
    drawn = str(output) if picture else None
    if as_json:
        print_json({"output": drawn, "setting": setting, "machine": analysis.machine(setting), "systems": costs})
        return
    heads = ("front end", "head", "step, s", "fastest", "slowest", "epoch, h", "peak, MB")
    table = Table("system", *(Column(head, justify="right") for head in heads), caption=what)
    for cost in costs:
        parameters = (f"{n / 1e6:.2f}M" for n in (cost.front_end_parameters, cost.head_parameters))
        times = (f"{t:.3f}" for t in (cost.step_seconds, cost.fastest, cost.slowest))
        table.add_row(cost.name, *parameters, *times, f"{cost.epoch_hours:,.1f}", f"{cost.peak_mb:,.0f}")
    stdout.print(table)
    _print(f"{output} written" if picture else "none of these has published EERs: no picture")


@app.command()
def table(
    runs: Annotated[list[Path] | None, typer.Argument(help="Reports of `samevoice evaluate`: report.json.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A file to write, .md or .tex.")] = None,
    only: Annotated[list[int] | None, typer.Option("--table", min=1, max=4, help="Of these numbers.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Tables 1 and 2 of the LAP paper, 3 and 4 of the ERes2Net paper, with your systems beside the published rows."""
    from samevoice.analysis import tables as analysis
    from samevoice.files import replacing

    names = [name for name in analysis.TITLES if not only or int(name[-1]) in only]
    if output and output.suffix not in (".md", ".tex"):
        raise BadInput(f"{output}: the tables are written as .md or .tex")
    with bad_input():
        assembled = analysis.assemble(analysis.read(runs or []), names)
    write = analysis.latex if output and output.suffix == ".tex" else analysis.markdown
    if output:
        with replacing(output) as temporary:
            temporary.write_text(write(assembled), encoding="utf-8")
    if as_json:
        print_json({"output": output and str(output), "tables": [asdict(one) for one in assembled]})
    elif output:
        _print(f"{output} written")
    else:
        _print(write(assembled))


def _svg(path: Path) -> None:
    if path.suffix.lower() != ".svg":
        raise BadInput(f"{path}: the picture is SVG; its name must end in .svg")


def _name(model: str) -> str:
    return Path(model).name if Path(model).expanduser().is_dir() else f"{model} (random weights)"


def _print(text: str) -> None:
    stdout.print(text, markup=False, highlight=False, soft_wrap=True)

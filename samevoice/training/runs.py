"""Runs as they lie on the disk: what there are, how far they came, and what tells them apart."""

import json
import math
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any

import yaml

from samevoice.evaluation.report import svg
from samevoice.training import watching

RECIPE = "recipe.yaml"
MODEL = "model"
RECENT = 300.0  # seconds in which a run's log must have grown for it to be running
DEPTH = 4  # of folders that are searched for runs
POINTS = 300  # of a loss curve in a picture
_VIEW = re.compile(r'viewBox="0 0 \d+ (\d+)"')  # a drawing is as high as its legend needs
_MOST_HEADER = 100_000_000  # bytes; safetensors allows no more
HEADS = ("run", "state", "epochs", "steps", "loss", "best EER", "parameters", "time", "last step")


@dataclass(frozen=True)
class Run:
    """name: its place under the folder that was searched. state: "running" (its log grew in the last RECENT seconds),
    "finished" (its model is written), "stopped", or "damaged" (`problem` says why). epochs: begun, over all phases.
    loss: the last. best_eer: a share in [0, 1]. seconds: of training. date: of the last thing written.
    """

    name: str
    folder: Path
    state: str
    date: str
    phase: str = ""
    epochs: int = 0
    planned_epochs: float | None = None
    steps: int = 0
    loss: float | None = None
    best_eer: float | None = None
    best_step: int | None = None
    parameters: int | None = None
    seconds: float = 0.0
    problem: str = ""
    records: list[watching.Record] = field(default_factory=list, repr=False)
    recipe: dict[str, Any] = field(default_factory=dict, repr=False)

    def row(self) -> list[str]:
        """The cells under HEADS."""
        planned = "" if self.planned_epochs is None else f" of {self.planned_epochs:g}"
        loss = "" if self.loss is None else f"{self.loss:.3f}"
        best = "" if self.best_eer is None else f"{self.best_eer:.2%} at {self.best_step:,}"
        parameters = "" if self.parameters is None else f"{self.parameters / 1e6:.2f}M"
        epochs = f"{self.epochs}{planned}" + (f", {self.phase}" if self.phase else "")
        spent = watching.duration(self.seconds)
        date = self.date[: len("2026-01-31T23:59")].replace("T", " ")
        return [self.name, self.state, epochs, f"{self.steps:,}", loss, best, parameters, spent, date]

    def told(self) -> dict[str, Any]:
        """For programs: everything but the log and the recipe; a loss that is not finite is None."""
        told = {name: value for name, value in vars(self).items() if name not in ("records", "recipe")}
        loss = self.loss if self.loss is not None and math.isfinite(self.loss) else None
        return {**told, "folder": str(self.folder), "loss": loss}


def find(folder: Path) -> list[Run]:
    """The runs in a folder and in the folders under it, the latest first. Raises ValueError if there is none."""
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder; `samevoice train RECIPE` writes runs, or name another folder")
    found = [load(place, place.relative_to(folder).as_posix()) for place in _places(folder, DEPTH)]
    if not found:
        raise ValueError(f"{folder}: no runs here; `samevoice train RECIPE` writes them, or name another folder")
    return sorted(found, key=lambda run: run.date, reverse=True)


def load(folder: Path, name: str = "") -> Run:
    """One run. Raises ValueError for a folder that is none; a log or recipe that can't be read makes it "damaged"."""
    if not _is_run(folder):
        raise ValueError(f"{folder}: no run is here ({watching.LOG} and {RECIPE} are missing)")
    log = folder / watching.LOG
    changed = max(path.stat().st_mtime for path in (log, folder / RECIPE) if path.exists())
    about: dict[str, Any] = {"date": datetime.fromtimestamp(changed).isoformat(timespec="seconds")}
    name = name if name not in ("", ".") else folder.absolute().name
    try:
        records = watching.read(log) if log.exists() else []
        recipe = _recipe(folder / RECIPE)
        summary = _summary(log, records)
    except ValueError as error:
        return Run(name, folder, "damaged", problem=str(error), **about)
    state = "stopped" if time.time() - changed > RECENT else "running"
    if (folder / MODEL / "card.yaml").exists():
        state = "finished"
    return Run(
        name,
        folder,
        state,
        **about,
        **summary,
        planned_epochs=_planned(recipe),
        parameters=_parameters(folder / MODEL / "model.safetensors"),
        records=records,
        recipe=recipe,
    )


def differences(runs: Sequence[Run]) -> dict[str, list[Any]]:
    """The recipes' settings that are not the same in all runs, by path: a value for each run, None where it has none.

    >>> differences([Run("a", Path(), "", "", recipe={"seed": 1}), Run("b", Path(), "", "", recipe={"seed": 2})])
    {'seed': [1, 2]}
    """
    flat = [dict(_flat(run.recipe)) for run in runs]
    names = dict.fromkeys(name for one in flat for name in one)
    values = {name: [one.get(name) for one in flat] for name in names}
    return {name: some for name, some in values.items() if any(value != some[0] for value in some)}


def draw(runs: Sequence[Run]) -> str:
    """Loss and validation EER over steps, side by side, as one SVG for light and dark pages."""
    drawn = plots(runs)
    height = max(int(_VIEW.search(plot)[1]) for plot in drawn)  # pyright: ignore[reportOptionalSubscript]
    panels = "".join(
        f'<svg x="{i * svg.WIDTH}" width="{svg.WIDTH}" height="{height}">{plot}</svg>' for i, plot in enumerate(drawn)
    )
    size = f'viewBox="0 0 {2 * svg.WIDTH} {height}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img"><title>Runs</title>{panels}</svg>\n'


def plots(runs: Sequence[Run]) -> list[str]:
    """Two drawings: loss and validation EER in percent, over the steps of the run."""
    losses = [_series(run, "step", "loss", 1) for run in runs]
    eers = [_series(run, "validation", "eer", 100) for run in runs]
    last = max((run.steps for run in runs), default=0)
    return [_plot("Loss", "loss", losses, last), _plot("EER on the validation trials", "EER (%)", eers, last)]


def page(runs: Sequence[Run]) -> str:
    """Table, drawings and differences as one HTML page that needs nothing else."""
    table = _table([HEADS, *(run.row() for run in runs)])
    changed = [[name, *(shown(value) for value in values)] for name, values in differences(runs).items()]
    settings = _table([["setting", *(run.name for run in runs)], *changed]) if changed else "<p>The same recipe.</p>"
    return _PAGE.format(table=table, plots="".join(plots(runs)), settings=settings)


def shown(value: Any) -> str:
    """A setting's value as a cell; "-" for none."""
    return "-" if value is None else str(value)


def _places(folder: Path, depth: int) -> Iterator[Path]:
    """Folders of runs; nothing is searched inside them."""
    if _is_run(folder):
        yield folder
    elif depth:
        with os.scandir(folder) as entries:
            inner = sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
        for name in inner:
            yield from _places(folder / name, depth - 1)


def _is_run(folder: Path) -> bool:
    return (folder / watching.LOG).is_file() or (folder / RECIPE).is_file()


def _recipe(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: not YAML ({error})") from None
    if not isinstance(values, dict):
        raise ValueError(f"{path}: holds no settings")
    return values


def _summary(log: Path, records: Sequence[watching.Record]) -> dict[str, Any]:
    """What a log says, in the words of Run. Raises ValueError for records without what they must have."""
    steps = [record for record in records if record.get("kind") == "step"]
    validations = [record for record in records if record.get("kind") == "validation"]
    summary: dict[str, Any] = {}
    try:
        if steps:
            last = steps[-1]
            epochs = len({(record["phase"], record["epoch"]) for record in steps})
            summary = {"phase": last["phase"], "epochs": epochs, "steps": last["step"]}
            summary |= {"loss": last.get("loss"), "seconds": last["time"]}
        if validations:
            best = min(validations, key=lambda record: record["eer"])
            summary |= {"best_eer": best["eer"], "best_step": best["step"]}
    except KeyError as error:
        raise ValueError(f"{log}: some of its records have no {error.args[0]}; another program wrote them") from None
    return summary


def _planned(recipe: Mapping[str, Any]) -> float | None:
    """Epochs of all phases, as far as the recipe tells."""
    phases = recipe.get("phases")
    epochs = [phase.get("epochs") for phase in phases.values()] if isinstance(phases, dict) else []
    return sum(epochs) if epochs and all(isinstance(n, int | float) for n in epochs) else None


def _parameters(path: Path) -> int | None:
    """How many parameters a safetensors file has, from its header alone: batch normalisation's statistics are none."""
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(min(size, _MOST_HEADER)))
    except (OSError, ValueError):
        return None
    buffers = ("running_mean", "running_var", "num_batches_tracked", "__metadata__")
    return sum(math.prod(about["shape"]) for name, about in header.items() if not name.endswith(buffers))


def _flat(values: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value


def _series(run: Run, kind: str, name: str, scale: float) -> svg.Series:
    """A curve, in at most POINTS means; a mark where there is one point alone."""
    kept = [r for r in run.records if r.get("kind") == kind and math.isfinite(r.get(name, math.nan))]
    points = [(r["step"], scale * r[name]) for r in kept]
    size = -(-len(points) // POINTS) or 1
    parts = [points[start : start + size] for start in range(0, len(points), size)]
    x, y = ([sum(point[axis] for point in part) / len(part) for part in parts] for axis in (0, 1))
    return svg.Series(run.name, x, y, "line" if len(x) > 1 else "marks")


def _plot(title: str, label: str, series: Sequence[svg.Series], last: int) -> str:
    values = [value for one in series for value in one.y]
    steps = svg.linear_axis("step", 0, last, form=",.0f")
    return svg.plot(title, steps, svg.linear_axis(label, min([0, *values]), max(values, default=1)), series)


def _table(rows: Sequence[Sequence[str]]) -> str:
    head, *body = ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows]
    lines = "".join(f"<tr>{cells}</tr>" for cells in [head.replace("td>", "th>"), *body])
    return f'<div class="wide"><table>{lines}</table></div>'


_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Runs</title><style>:root{{color-scheme:light dark}}body{{font:15px system-ui,sans-serif;margin:2rem auto;
max-width:70rem;padding:0 1rem}}table{{border-collapse:collapse}}td,th{{padding:.25rem .7rem;text-align:left;
border-bottom:1px solid #8886}}.wide{{overflow-x:auto}}.plots{{display:flex;flex-wrap:wrap;gap:1rem}}
.plots svg{{width:30rem;max-width:100%}}</style>
<h1>Runs</h1>{table}<div class="plots">{plots}</div><h2>Settings that differ</h2>{settings}</html>
"""

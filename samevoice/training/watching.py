"""What a person sees while a model trains: one live table, or now and then a line where nobody looks; and its log."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table

from samevoice.files import replacing

LOG = "log.jsonl"  # its name in a run's folder
REFRESHES = 2  # of the live table, a second
LINE_SECONDS = 30.0  # of training between two lines where there is no terminal
SMOOTHED = 10  # records that the smoothed loss and accuracy remember, about

Record = dict[str, Any]


@dataclass(frozen=True)
class PhasePlan:
    """epochs: may be a part of one. steps: of the whole phase."""

    name: str
    epochs: float
    steps: int


class Watching:
    """Shows the records of a run as they come; used in a `with` block by one process.

    console: where to. In a terminal one table is renewed REFRESHES times a second, by a thread that reads what `step`
    left behind, so that a step costs microseconds; elsewhere a line is written at the end of an epoch and after every
    LINE_SECONDS of the run's own time. phases: all of the run's, in their order.
    before: the log's records of a run that goes on; the best EER so far is among them.

    >>> plan = [PhasePlan("standard", epochs=1, steps=100)]
    >>> with Watching(Console(), plan) as watching:
    ...     watching.step({"phase": "standard", "epoch": 0, "step": 10, "loss": 6.5, "time": 2.0})
    standard, epoch 1 of 1, step 10 of 100: loss 6.500
    """

    def __init__(self, console: Console, phases: Sequence[PhasePlan], before: Iterable[Record] = ()):
        self.console = console
        self.phases = list(phases)
        self._last: Record | None = None
        self._first: Record | None = None  # of this phase, since this process started: what speed is measured from
        self._shown: Record | None = None  # the last record that got a line
        self._smooth: dict[str, _Smooth] = {}
        self._validation: Record | None = None
        self._best: Record | None = None
        for record in before:
            if record.get("kind") == "validation":
                self._keep_validation(record)
        self._live: Live | None = None

    def __enter__(self) -> "Watching":
        if self.console.is_terminal and not self.console.quiet:  # a live table takes what others write to stderr
            live = Live(console=self.console, get_renderable=self.table, refresh_per_second=REFRESHES)
            live.start()
            self._live = live
        return self

    def __exit__(self, *error: object) -> None:
        if self._live is not None:
            self._live.stop()
        elif self._last is not None and self._last is not self._shown:
            self._line(self._last)

    def step(self, record: Record) -> None:
        """A "step" record of the log. Only phase, epoch, step, loss and time must be there."""
        last, self._last = self._last, record
        if last is None or self._first is None or last["phase"] != record["phase"]:
            self._first = record
            self._smooth = {"loss": _Smooth(), "accuracy": _Smooth()}  # another loss, another level
        for name, smooth in self._smooth.items():
            smooth.add(record.get(name))
        if self._live is None:
            self._lines(last, record)

    def validation(self, record: Record) -> None:
        """A "validation" record of the log."""
        self._keep_validation(record)
        if self._live is None:
            if self._last is not None and self._last is not self._shown:
                self._line(self._last)  # what came before
            self.note(f"{self._where(record)}: {_validated(record)}, {self._best_eer()}")

    def note(self, text: str) -> None:
        """A line that stays, above the table: a warning, a checkpoint."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def table(self) -> Table:
        """All there is to know, as it is now."""
        table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
        table.add_column(style="dim", no_wrap=True, min_width=13)
        table.add_column()
        if self._last is None:
            table.add_row("phase", f"{escape(self.phases[0].name)}: starting")
        for name, value in self._rows():
            table.add_row(name, value)
        return table

    def _rows(self) -> Iterable[tuple[str, RenderableType]]:
        record = self._last  # `step` may put another one there while this is drawn
        if record is None:
            return
        number, plan = self._plan(record)
        total = sum(phase.steps for phase in self.phases)
        yield "phase", f"{escape(plan.name)} ({number + 1} of {len(self.phases)})"
        yield "epoch", f"{record['epoch'] + 1} of {plan.epochs:g}"
        yield "step", f"{record['step']:,} of {total:,}"
        for name, value in self._figures(record):
            yield name, value
        if self._validation:
            yield "validation", f"{_validated(self._validation)}, {self._best_eer()}"
        for name, done, steps in self._progress(record):
            yield name, self._bar(done, steps, record)

    def _figures(self, record: Record) -> Iterable[tuple[str, str]]:
        """What the record says, in words; only what is there."""
        yield "loss", self._smooth["loss"].text(".3f")
        if record.get("accuracy") is not None:
            yield "accuracy", self._smooth["accuracy"].text(".1%")
        for name in ("margin", "penalty"):
            if record.get(name):
                yield name, f"{record[name]:.3f}"
        if rates := record.get("lr"):
            yield "learning rate", ", ".join(f"{escape(part)} {rate:.2e}" for part, rate in rates.items())
        if "utterances_per_s" in record:
            yield "speed", f"{record['utterances_per_s']:,.0f} utterances/s"
        if record.get("gpu_gib"):
            yield "GPU memory", f"{record['gpu_gib']:.1f} GiB"

    def _progress(self, record: Record) -> list[tuple[str, int, int]]:
        """(name, steps done, steps) of the phase and, where there are several, of the run."""
        number, plan = self._plan(record)
        before = sum(phase.steps for phase in self.phases[:number])
        progress = [("this phase", record["step"] - before, plan.steps)]
        if len(self.phases) > 1:
            progress.append(("the run", record["step"], sum(phase.steps for phase in self.phases)))
        return progress

    def _bar(self, done: int, steps: int, record: Record) -> Table:
        grid = Table.grid(padding=(0, 1))
        left = self._left(steps - done, record)
        words = f"{done / max(steps, 1):.0%}" + ("" if left is None else f", {duration(left)} left")
        grid.add_row(ProgressBar(max(steps, 1), done, width=30), words)
        return grid

    def _left(self, steps: int, record: Record) -> float | None:
        """Seconds for so many steps at the speed of this phase, its validations included."""
        first = self._first
        if first is None or record["step"] <= first["step"]:
            return None
        return max(steps, 0) * (record["time"] - first["time"]) / (record["step"] - first["step"])

    def _lines(self, last: Record | None, record: Record) -> None:
        if last is not None and last is not self._shown and _epoch(last) != _epoch(record):
            self._line(last)
        shown = self._shown
        if shown is None or record["time"] - shown["time"] >= LINE_SECONDS:
            self._line(record)

    def _line(self, record: Record) -> None:
        self._shown = record
        figures = ", ".join(f"{name} {value}" for name, value in self._figures(record))
        _, done, steps = self._progress(record)[-1]
        left = self._left(steps - done, record)
        self.note(f"{self._where(record)}: {figures}" + ("" if left is None else f", {duration(left)} left"))

    def _where(self, record: Record) -> str:
        _, plan = self._plan(record)
        total = sum(phase.steps for phase in self.phases)
        return f"{plan.name}, epoch {record['epoch'] + 1} of {plan.epochs:g}, step {record['step']:,} of {total:,}"

    def _plan(self, record: Record) -> tuple[int, PhasePlan]:
        return next((i, phase) for i, phase in enumerate(self.phases) if phase.name == record["phase"])

    def _keep_validation(self, record: Record) -> None:
        self._validation = record
        if self._best is None or record["eer"] < self._best["eer"]:
            self._best = record

    def _best_eer(self) -> str:
        best = self._best
        return "" if best is None else f"best {best['eer']:.2%} at step {best['step']:,}"


class Log:
    """A run's log.jsonl: one JSON object a line, each on its way to the disk before `append` comes back.

    A power cut can leave half a line at the end: `read` leaves it out, and `rewind` removes it, which a run that goes
    on must call before it appends.
    """

    def __init__(self, path: Path):
        self.path = Path(path)

    def append(self, record: Mapping[str, Any]) -> None:
        """Raises OSError that names the file, such as for a full disk."""
        line = json.dumps(record, ensure_ascii=False) + "\n"
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(line)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from None

    def rewind(self, step: int) -> list[Record]:
        """Forget what came after so many steps, all or nothing; what is left. Raises as `read`; no file is no error."""
        if not self.path.exists():
            return []
        kept = [record for record in read(self.path) if record.get("step", 0) <= step]
        with replacing(self.path) as temporary:
            temporary.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in kept), encoding="utf-8")
        return kept


def read(path: Path) -> list[Record]:
    """The records of a log.jsonl, without a last line that was cut off while it was written.

    Raises ValueError that says which line is no record, and OSError for a file that can't be read.
    """
    *lines, rest = Path(path).read_bytes().split(b"\n")
    records = []
    for number, line in enumerate(lines, 1):
        try:
            records.append(_record(line))
        except ValueError:
            raise ValueError(f"{path}, line {number}: not a record of training; delete this line or the file") from None
    with suppress(ValueError):
        records.append(_record(rest))
    return records


def duration(seconds: float) -> str:
    """
    >>> duration(3725), duration(200000)
    ('1:02:05', '2 d 7:33:20')
    """
    whole = round(seconds)
    days, rest = divmod(whole, 86400)
    return (f"{days} d " if days else "") + f"{rest // 3600}:{rest // 60 % 60:02}:{rest % 60:02}"


def _record(line: bytes) -> Record:
    record = json.loads(line.decode("utf-8"))
    if not isinstance(record, dict):
        raise ValueError("not an object")
    return record


def _epoch(record: Record) -> tuple[str, int]:
    return record["phase"], record["epoch"]


def _validated(record: Record) -> str:
    return f"EER {record['eer']:.2%}"


class _Smooth:
    """A mean that forgets: each value counts 1 - 1/SMOOTHED of the next one. What is not finite is shown, not kept."""

    def __init__(self):
        self.sum = self.weight = 0.0
        self.value = math.nan

    def add(self, value: float | None) -> None:
        if value is None:
            return
        self.value = value
        if math.isfinite(value):
            keep = 1 - 1 / SMOOTHED
            self.sum, self.weight = keep * self.sum + value, keep * self.weight + 1
            self.value = self.sum / self.weight

    def text(self, form: str) -> str:
        return format(self.value, form)

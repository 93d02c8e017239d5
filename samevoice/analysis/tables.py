"""The papers' Tables 1-4 with your own systems beside the published rows, from the reports of `samevoice evaluate`."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from samevoice.analysis.systems import architecture_of
from samevoice.evaluation import published
from samevoice.evaluation.protocols import Condition
from samevoice.evaluation.report.pages import tex

TITLES = {
    "lap-table1": "LAP paper, Table 1",
    "lap-table2": "LAP paper, Table 2",
    "eres2net-table3": "ERes2Net paper, Table 3",
    "eres2net-table4": "ERes2Net paper, Table 4",
}
COMPARISONS = ("lap-table1", "eres2net-table4")  # of any systems; the others vary one thing
METRICS = {"eer": "EER (%)", "min_dcf_0.01": "DCF 0.01", "min_dcf_0.05": "DCF 0.05"}
WHOLE = Condition().name
SHORT = {protocol: f"Vox-{letter.upper()}" for letter, protocol in published.PROTOCOLS.items()}


class RunError(ValueError):
    """A report can't be read; the message says which and why."""


@dataclass(frozen=True)
class Run:
    """One system as it was evaluated here.

    results: protocol -> metric -> value, as `published.Row` has them: "eer" in percent, "min_dcf_0.01".
    scoring: how it was scored, in words. parameters: in all; None where the report doesn't say.
    """

    name: str
    architecture: str
    scoring: str
    parameters: int | None
    results: dict[str, dict[str, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Line:
    """A line of a table; measured: by us, not published."""

    measured: bool
    cells: list[str]


@dataclass(frozen=True)
class Table:
    """title, note (where it is from, how it was scored), heads and lines, every line as long as the heads."""

    title: str
    note: str
    heads: list[str]
    lines: list[Line]


def read(places: Sequence[Path]) -> list[Run]:
    """The systems of these reports: report.json files, or folders that hold one.

    Reports of one system and one scoring become one Run: a report has one protocol, a table's line three. Of two with
    the same protocol the later named counts. Raises RunError, OSError.
    """
    runs: dict[tuple[str, str], Run] = {}
    for place in places:
        path = place / "report.json" if place.is_dir() else place
        for run in _runs(path):
            runs.setdefault((run.name, run.scoring), run).results.update(run.results)
    return list(runs.values())


def assemble(runs: Sequence[Run], names: Sequence[str] = tuple(TITLES)) -> list[Table]:
    """The tables, every run below each published row of the same network.

    A run whose network is in neither paper is put at the end of the tables that compare systems of any kind. One that
    has no figure for any column of a table is not in it.
    """
    printed = published.tables()
    known = {architecture_of(name, row) for name in TITLES for row in printed[name].rows}
    tables = []
    for name in names:
        table = printed[name]
        columns = _columns(table)
        with_front_end = any(row.frontend for row in table.rows)
        with_params = any(row.params or row.head_params for row in table.rows)
        heads = ["front end"] * with_front_end + ["system", "variant"] + ["params (M)"] * with_params
        heads += [f"{SHORT[protocol]} {METRICS[metric]}" for protocol, metric in columns]
        having = [run for run in runs if any(_values(run.results, columns))]
        lines = []
        for row in table.rows:
            lines.append(Line(False, _published(row, columns, with_front_end, with_params)))
            same = [run for run in having if run.architecture == architecture_of(name, row)]
            lines += [_line(run, columns, with_front_end, with_params) for run in same]
        if name in COMPARISONS:
            others = [run for run in having if run.architecture not in known]
            lines += [_line(run, columns, with_front_end, with_params) for run in others]
        note = f"{table.source}. Published scores: {table.scoring}."
        tables.append(Table(f"{TITLES[name]}: {table.title}", note, heads, lines))
    return tables


def markdown(tables: Sequence[Table]) -> str:
    """Our own lines are bold."""
    parts = []
    for table in tables:
        lines = [f"## {table.title}", "", table.note, "", _row(table.heads), "|" + "---|" * len(table.heads)]
        lines += [_row([f"**{c}**" if c and line.measured else c for c in line.cells]) for line in table.lines]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def latex(tables: Sequence[Table]) -> str:
    """One tabular (booktabs) for each table; our own lines are bold."""
    parts = []
    for table in tables:
        text = sum(not head.startswith(("Vox", "params")) for head in table.heads)
        align = "l" * text + "r" * (len(table.heads) - text)
        lines = [f"% {table.title}. {table.note}", rf"\begin{{tabular}}{{{align}}}", r"\toprule"]
        lines += [" & ".join(tex(head) for head in table.heads) + r" \\", r"\midrule"]
        for line in table.lines:
            cells = [tex(cell) for cell in line.cells]
            lines.append(" & ".join(rf"\textbf{{{c}}}" if c and line.measured else c for c in cells) + r" \\")
        parts.append("\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n")
    return "\n".join(parts)


def _runs(path: Path) -> list[Run]:
    """A Run for each way of scoring in a report, or in the list of them that `evaluate compare` writes.

    Only entries of whole recordings as they are: the papers know no other condition. "eer" is a share in reports; the
    papers print percent.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        runs = []
        for report in content if isinstance(content, list) else [content]:
            for entry in report["entries"]:
                if entry["condition"] == WHOLE:
                    figures = {m: float(entry[m]) * (100 if m == "eer" else 1) for m in METRICS if m in entry}
                    about = (report["model"], report["architecture"], entry["scoring"], report.get("parameters"))
                    runs.append(Run(*about, {report["protocol"]: figures}))
        return runs
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{path}: is not a report of `samevoice evaluate` ({error!r})") from None


def _columns(table: published.Table) -> list[tuple[str, str]]:
    """(protocol, metric) of everything that any of its rows has, in the papers' order."""
    pairs = {(protocol, metric) for row in table.rows for protocol, found in row.results.items() for metric in found}
    return [(p, m) for p in published.PROTOCOLS.values() for m in METRICS if (p, m) in pairs]


def _published(
    row: published.Row, columns: list[tuple[str, str]], with_front_end: bool, with_params: bool
) -> list[str]:
    cells = [row.frontend] * with_front_end + [row.system, row.variant]
    if with_params:
        parts = [f"{n:g}" for n in (row.params, row.head_params) if n is not None]
        cells.append(" + ".join(parts))
    return cells + _values(row.results, columns)


def _line(run: Run, columns: list[tuple[str, str]], with_front_end: bool, with_params: bool) -> Line:
    cells = [""] * with_front_end + [run.name, f"measured; {run.scoring}" if run.scoring else "measured"]
    if with_params:
        cells.append("" if run.parameters is None else f"{run.parameters / 1e6:.1f}")
    return Line(True, cells + _values(run.results, columns))


def _values(results: dict[str, dict[str, float]], columns: list[tuple[str, str]]) -> list[str]:
    values = ((results.get(protocol, {}).get(metric), metric) for protocol, metric in columns)
    return ["" if value is None else f"{value:.2f}" if metric == "eer" else f"{value:.3f}" for value, metric in values]


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"

"""The two papers' own figures, kept as data, to lay beside what is measured here."""

import functools
from dataclasses import dataclass
from pathlib import Path

import yaml

DATA = Path(__file__).with_name("published.yaml")
PROTOCOLS = {"o": "voxceleb1-o", "e": "voxceleb1-e", "h": "voxceleb1-h"}


@dataclass(frozen=True)
class Row:
    """One printed row.

    frontend: "" for filter banks where the table has no such column. variant: what the table says of it beside its
    name. params, head_params: millions; of a self-supervised system the front end's and the head's. results:
    protocol -> metric ("eer" in percent, "min_dcf_0.01", "min_dcf_0.05") -> value; what isn't printed isn't there.
    """

    system: str
    frontend: str
    variant: str
    params: float | None
    head_params: float | None
    results: dict[str, dict[str, float]]

    @property
    def name(self) -> str:
        """All of it in one line."""
        return " ".join(filter(None, [self.frontend, self.system, f"({self.variant})" if self.variant else ""]))


@dataclass(frozen=True)
class Table:
    """One of a paper's tables. scoring: how its figures were scored, which a comparison must know."""

    paper: str
    source: str
    title: str
    scoring: str
    rows: tuple[Row, ...]


@functools.cache
def tables() -> dict[str, Table]:
    """eres2net-table3, eres2net-table4, lap-table1 and lap-table2."""
    return {name: _table(values) for name, values in yaml.safe_load(DATA.read_text(encoding="utf-8")).items()}


def with_protocol(protocol: str) -> list[tuple[Table, Row]]:
    """Every printed row that has figures for this protocol, in the papers' order; none for other protocols."""
    return [(table, row) for table in tables().values() for row in table.rows if protocol in row.results]


def _table(values: dict) -> Table:
    rows = tuple(_row(dict(zip(values["columns"], row, strict=True))) for row in values["rows"])
    return Table(values["paper"], values["source"], values["title"], values["scoring"], rows)


def _row(cells: dict) -> Row:
    results: dict[str, dict[str, float]] = {}
    for column, value in cells.items():
        part, dot, metric = column.partition(".")
        if dot and value is not None:
            results.setdefault(PROTOCOLS[part], {})[metric] = value
    return Row(
        cells["system"],
        cells.get("frontend", ""),
        cells.get("variant", ""),
        cells.get("params"),
        cells.get("head_params"),
        results,
    )

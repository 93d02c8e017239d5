"""Where `samevoice evaluate` writes and shows its reports."""

import json
import platform
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samevoice.cli.output import print_json, stdout

if TYPE_CHECKING:
    from samevoice.evaluation.report.comparison import Report

SHOWN = ("system", "condition", "trials", "EER %", "minDCF 0.01", "Cllr")  # of pages.HEADS, what fits in a terminal


def about(model: str, architecture: str, parameters: int, protocol: str) -> dict[str, Any]:
    """report.json's head."""
    from samevoice.machine import processor

    machine = f"{processor()}, {platform.system()}, Python {platform.python_version()}"
    return {"model": model, "architecture": architecture, "parameters": parameters,
            "protocol": protocol, "date": date.today().isoformat(), "machine": machine}  # fmt: skip


def finish(reports: "Sequence[Report]", output: Path | None, as_json: bool, as_list: bool = False) -> None:
    """Write the reports into a folder, if one is named, and show them. as_list: JSON is a list even of one."""
    from samevoice.evaluation.report import comparison

    contents = [report.content for report in reports]
    if output:
        contents = comparison.write_scores(reports, output)
        _write(output, contents, as_list)
    if as_json:
        print_json(contents if as_list else contents[0])
        return
    _show(contents)
    if output:
        stdout.print(f"{output}/report.html", markup=False, highlight=False, soft_wrap=True)


def _write(output: Path, contents: list[dict[str, Any]], as_list: bool) -> None:
    from samevoice.evaluation.report import pages
    from samevoice.files import replacing

    content = json.dumps(contents if as_list else contents[0], ensure_ascii=False, indent=1)
    files = {"report.json": content, "report.html": pages.html(contents), "report.md": pages.markdown(contents),
             "report.tex": pages.latex(contents)}  # fmt: skip
    for name, text in files.items():
        with replacing(output / name) as temporary:
            temporary.write_text(text, encoding="utf-8")


def _show(contents: list[dict[str, Any]]) -> None:
    from rich.markup import escape
    from rich.table import Table

    from samevoice.evaluation.report import pages

    differences = [table for table in pages.more_tables(contents) if table[0] == pages.DIFFERENCES]
    shown = [[line[pages.HEADS.index(head)] for head in SHOWN] for line in pages.rows(contents)]
    for title, heads, lines in [("", SHOWN, shown), *differences]:
        table = Table(title=title or None)
        for head in heads:
            table.add_column(head, overflow="fold")
        for line in lines:
            table.add_row(*map(escape, line))
        stdout.print(table)

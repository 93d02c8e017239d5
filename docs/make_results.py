"""Write the table of docs/results.md from reports: python docs/make_results.py REPORT_FOLDER ...

The reports come from `samevoice evaluate MODEL --protocol NAME --conditions -o REPORT_FOLDER`. The text around the
table stays.
"""

import json
import sys
from pathlib import Path

from samevoice.evaluation.report import pages

PAGE = Path(__file__).with_name("results.md")
START, END = "<!-- conditions: generated, see the command above -->\n", "<!-- end of conditions -->\n"
PUBLISHED = " Published rows were scored as their papers say."  # of the reports' note: these protocols have none


def page(text: str, reports: list[dict]) -> str:
    """The page with the table put between its marks. Raises ValueError for a page without them."""
    table = pages.markdown([_main(report) for report in reports])
    return between(text, table.replace(PUBLISHED, "").rstrip())


def between(text: str, tables: str) -> str:
    """A page with these tables between its marks. Raises ValueError for a page without them."""
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not (start and end):
        raise ValueError(f"the page needs the lines {START.strip()!r} and {END.strip()!r} around its table")
    return f"{before}{START}\n{tables}\n\n{END}{after}"


def _main(report: dict) -> dict:
    """Without the breakdowns, which would make hundreds of lines."""
    return report | {"entries": [{**entry, "breakdown": {}} for entry in report["entries"]]}


def read(folder: str) -> dict:
    return json.loads((Path(folder) / "report.json").read_text(encoding="utf-8"))


if __name__ == "__main__":
    if not sys.argv[1:]:
        sys.exit(__doc__)
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), [read(folder) for folder in sys.argv[1:]]), encoding="utf-8")

"""Write the table of docs/results.md from reports: python docs/make_results.py REPORT_FOLDER ...

The reports come from `samevoice evaluate MODEL --protocol NAME --conditions -o REPORT_FOLDER`. The text around the
table stays.
"""

import json
import sys
from pathlib import Path

from samevoice.evaluation.report import pages

PAGE = Path(__file__).with_name("results.md")
START, END = "<!-- conditions: written by docs/make_results.py -->\n", "<!-- end of conditions -->\n"


def page(text: str, reports: list[dict]) -> str:
    """The page with the table put between its marks, or at its end."""
    before, found, rest = text.partition(START)
    after = rest.partition(END)[2] if found else ""
    if not found:
        before = before.rstrip() + "\n\n## Short and noisy recordings\n\n"
    table = pages.markdown(reports).replace("Published rows were scored as their papers say.", "").rstrip()
    return f"{before}{START}\n{table}\n\n{END}{after}"


if __name__ == "__main__":
    reports = [json.loads((Path(folder) / "report.json").read_text()) for folder in sys.argv[1:]]
    PAGE.write_text(page(PAGE.read_text(), reports))

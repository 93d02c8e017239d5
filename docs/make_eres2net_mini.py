"""Write the tables of docs/eres2net-mini.md from reports: python docs/make_eres2net_mini.py REPORT_FOLDER ...

The reports come from `samevoice evaluate MODEL --protocol NAME --conditions -o REPORT_FOLDER` and from
benchmarks/rivals.py; each system has a column. The text around the tables stays.
"""

import sys
from pathlib import Path

from make_results import between, read

from samevoice.evaluation.report import pages

PAGE = Path(__file__).with_name("eres2net-mini.md")


def tables(reports: list[dict]) -> str:
    """EER with its interval, then minDCF and the costs of the likelihood ratios: a row for each condition."""
    systems = list(dict.fromkeys(report["model"] for report in reports))
    entries = {
        (report["protocol"], entry["condition"], report["model"]): entry
        for report in reports
        for entry in report["entries"]
    }
    places = list(dict.fromkeys((protocol, condition) for protocol, condition, _ in entries))
    titles = {"EER %, with its 95 % interval": _eer, "minDCF(0.01) / minCllr / Cllr": _costs}
    made = [_table(title, show, systems, places, entries) for title, show in titles.items()]
    measured = dict.fromkeys(f"{report['date']}, {report['machine']}" for report in reports)
    return "\n\n".join([*made, "Measured: " + "; ".join(measured) + "."])


def _table(title: str, show, systems: list[str], places: list[tuple[str, str]], entries: dict) -> str:
    lines = [f"| {title} | " + " | ".join(systems) + " |", "|---" * (1 + len(systems)) + "|"]
    for place in places:
        cells = [show(entries[(*place, system)]) if (*place, system) in entries else "" for system in systems]
        lines.append(f"| {place[0]}: {place[1]} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _eer(entry: dict) -> str:
    return pages.with_interval(entry, "eer", 100, 2)


def _costs(entry: dict) -> str:
    """A system without a calibration has no Cllr."""
    cllr = "-" if entry.get("cllr") is None else f"{entry['cllr']:.3f}"
    return f"{entry['min_dcf_0.01']:.3f} / {entry['min_cllr']:.3f} / {cllr}"


if __name__ == "__main__":
    if not sys.argv[1:]:
        sys.exit(__doc__)
    made = tables([read(folder) for folder in sys.argv[1:]])
    PAGE.write_text(between(PAGE.read_text(encoding="utf-8"), made), encoding="utf-8")

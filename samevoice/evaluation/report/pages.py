"""report.json as Markdown, LaTeX rows and one HTML page that needs nothing else."""

from collections.abc import Sequence
from html import escape
from typing import Any

from samevoice.evaluation import published
from samevoice.evaluation.report import svg

HEADS = ("system", "condition", "trials", "EER %", "EER % (hull)", "minDCF 0.01", "minDCF 0.05", "minCllr", "Cllr")
NOTE = (
    "EER: voxceleb_trainer's definition; (hull): of the ROC's convex hull. Brackets: 95 % intervals by bootstrap over "
    "speakers. Published rows were scored as their papers say."
)
_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title><style>:root{{color-scheme:light dark}}body{{font:15px system-ui,sans-serif;margin:2rem auto;
max-width:70rem;padding:0 1rem}}table{{border-collapse:collapse}}td,th{{padding:.25rem .7rem;border-bottom:1px solid
#8886;text-align:right}}td:first-child,th:first-child,td:nth-child(2){{text-align:left}}.wide{{overflow-x:auto}}
.plots{{display:flex;flex-wrap:wrap;gap:1rem}}.plots svg{{width:30rem;max-width:100%}}</style>
<h1>{title}</h1><p>{about}</p><div class="wide"><table>{table}</table></div><p>{note}</p>
<div class="plots">{plots}</div></html>
"""


def rows(reports: Sequence[dict[str, Any]]) -> list[list[str]]:
    """A row for each entry of these reports, then the published rows of their protocols."""
    lines = [_row(report, entry) for report in reports for entry in report["entries"]]
    for protocol in dict.fromkeys(report["protocol"] for report in reports):
        for table, row in published.with_protocol(protocol):
            values = row.results[protocol]
            dcf = [f"{values[key]:.3f}" if key in values else "" for key in ("min_dcf_0.01", "min_dcf_0.05")]
            lines.append([row.name, f"published: {table.paper}", "", f"{values['eer']:.2f}", "", *dcf, "", ""])
    return lines


def markdown(reports: Sequence[dict[str, Any]]) -> str:
    lines = [HEADS, ["---"] * len(HEADS), *rows(reports)]
    table = "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines)
    return f"{_about(reports)}\n\n{table}\n\n{NOTE}\n"


def latex(reports: Sequence[dict[str, Any]]) -> str:
    """Rows for a tabular of nine columns."""
    return "\n".join(" & ".join(map(_tex, line)) + r" \\" for line in [list(HEADS), *rows(reports)]) + "\n"


def html(reports: Sequence[dict[str, Any]]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in HEADS)
    body = "".join("<tr>" + "".join(f"<td>{escape(c)}</td>" for c in line) + "</tr>" for line in rows(reports))
    title = " and ".join(dict.fromkeys(f"{report['model']} on {report['protocol']}" for report in reports))
    return _PAGE.format(
        title=escape(title), about=escape(_about(reports)), table=f"<tr>{head}</tr>{body}", note=escape(NOTE),
        plots="".join(_plots(reports)),
    )  # fmt: skip


def _plots(reports: Sequence[dict[str, Any]]) -> list[str]:
    entries = [(_name(report, entry), entry) for report in reports for entry in report["entries"]]
    false_alarm, miss = svg.rate_axis("false alarms (%)", 1e-4, 0.5), svg.rate_axis("misses (%)", 1e-4, 0.5)
    lines = [svg.Series(name, e["curve"]["false_alarm"], e["curve"]["miss"]) for name, e in entries]
    diagonal = svg.Series("", [1e-4, 0.5], [1e-4, 0.5])
    drawn = [svg.plot("DET", false_alarm, miss, lines, [diagonal])]
    hits = [svg.Series(s.name, s.x, [1 - y for y in s.y]) for s in lines]
    drawn.append(
        svg.plot("ROC", svg.linear_axis("false alarms", 0, 1), svg.linear_axis("targets accepted", 0, 1), hits)
    )
    for name, entry in entries:
        kept = entry["histogram"]
        middle = [(a + b) / 2 for a, b in zip(kept["edges"], kept["edges"][1:], strict=False)]
        kinds = [svg.Series(kind, middle, kept[kind], "area") for kind in ("nontargets", "targets")]
        top = max(kept["targets"] + kept["nontargets"])
        x = svg.linear_axis("score", kept["edges"][0], kept["edges"][-1])
        drawn.append(svg.plot(f"Scores: {name}", x, svg.linear_axis("share", 0, top), kinds))
    return drawn


def _name(report: dict[str, Any], entry: dict[str, Any]) -> str:
    return f"{report['model']}, {entry['scoring']}, {entry['condition']}"


def _row(report: dict[str, Any], entry: dict[str, Any]) -> list[str]:
    dcf = [_with(entry, f"min_dcf_{p}", 1, 3) for p in ("0.01", "0.05")]
    trials = f"{entry['targets']:,} + {entry['nontargets']:,}"
    cllr = f"{entry['cllr']:.3f}" if "cllr" in entry else ""
    name = f"{report['model']} ({entry['scoring']})"
    eer = _with(entry, "eer", 100, 2)
    condition = f"{report['protocol']}: {entry['condition']}"
    return [
        name,
        condition,
        trials,
        eer,
        f"{100 * entry['eer_hull']:.2f}",
        *dcf,
        f"{entry['min_cllr']:.3f}",
        cllr,
    ]


def _with(entry: dict[str, Any], name: str, scale: float, digits: int) -> str:
    text = f"{scale * entry[name]:.{digits}f}"
    if bounds := entry["intervals"].get(name):
        text += " [" + ", ".join(f"{scale * bound:.{digits}f}" for bound in bounds) + "]"
    return text


def _about(reports: Sequence[dict[str, Any]]) -> str:
    return "; ".join(f"{r['model']} on {r['protocol']}, {r['date']}, {r['machine']}" for r in reports)


def _tex(text: str) -> str:
    return "".join("\\" + c if c in "&%$#_{}" else c for c in text)

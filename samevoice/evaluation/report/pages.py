"""report.json as Markdown, LaTeX rows and one HTML page that needs nothing else."""

from collections.abc import Sequence
from html import escape
from typing import Any

from samevoice.evaluation import published
from samevoice.evaluation.report import svg

HEADS = ("system", "condition", "trials", "recordings left out", "EER %", "EER % (hull)", "minDCF 0.01", "minDCF 0.05",
         "actDCF 0.01", "minCllr", "Cllr")  # fmt: skip
NOTE = (
    "EER: voxceleb_trainer's definition; (hull): of the ROC's convex hull. Brackets: 95 % intervals by bootstrap over "
    "speakers. Published rows were scored as their papers say."
)
DIFFERENCES = "Differences on the trials that both scored"
BREAKDOWN = "EER by kind of trial"
_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title><style>:root{{color-scheme:light dark}}body{{font:15px system-ui,sans-serif;margin:2rem auto;
max-width:70rem;padding:0 1rem}}table{{border-collapse:collapse}}td,th{{padding:.25rem .7rem;border-bottom:1px solid
#8886;text-align:right}}td{{white-space:nowrap}}:is(td,th):nth-child(-n+2){{text-align:left}}h2{{font-size:1.1rem}}
.wide{{overflow-x:auto}}
.plots{{display:flex;flex-wrap:wrap;gap:1rem}}.plots svg{{width:30rem;max-width:100%}}</style>
<h1>{title}</h1><p>{about}</p>{table}<p>{note}</p>
<div class="plots">{plots}</div>{more}</html>
"""


def rows(reports: Sequence[dict[str, Any]]) -> list[list[str]]:
    """A row for each entry of these reports, then the published rows of their protocols."""
    lines = [_row(report, entry) for report in reports for entry in report["entries"]]
    for protocol in dict.fromkeys(report["protocol"] for report in reports):
        for table, row in published.with_protocol(protocol):
            values = row.results[protocol]
            dcf = [f"{values[key]:.3f}" if key in values else "" for key in ("min_dcf_0.01", "min_dcf_0.05")]
            lines.append([row.name, f"published: {table.paper}", "", "", f"{values['eer']:.2f}", "", *dcf, "", "", ""])
    return lines


Table = tuple[str, Sequence[str], Sequence[Sequence[str]]]  # title, heads, lines


def more_tables(reports: Sequence[dict[str, Any]]) -> list[Table]:
    """What the entries tell beside `rows`: differences and breakdowns, where they have any."""
    entries = [(report, entry) for report in reports for entry in report["entries"]]
    differences = [_difference(report, entry) for report, entry in entries if "difference" in entry]
    parts = [line for report, entry in entries for line in _parts(report, entry)]
    metrics = ("EER %", "minDCF 0.01", "minDCF 0.05")
    found = [(DIFFERENCES, ("system", "condition", "compared with", "trials", *metrics), differences),
             (BREAKDOWN, ("system", "condition", "by", "trials that are", "trials", "EER %"), parts)]  # fmt: skip
    return [table for table in found if table[2]]


def markdown(reports: Sequence[dict[str, Any]]) -> str:
    more = [f"## {title}\n\n{_markdown(heads, lines)}\n" for title, heads, lines in more_tables(reports)]
    return "\n".join([f"{_about(reports)}\n\n{_markdown(HEADS, rows(reports))}\n\n{NOTE}\n", *more])


def _markdown(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    shown = [heads, ["---"] * len(heads), *lines]
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in shown)


def latex(reports: Sequence[dict[str, Any]]) -> str:
    """Rows for a tabular with as many columns as HEADS."""
    return "\n".join(" & ".join(map(tex, line)) + r" \\" for line in [list(HEADS), *rows(reports)]) + "\n"


def html(reports: Sequence[dict[str, Any]]) -> str:
    title = " and ".join(dict.fromkeys(f"{report['model']} on {report['protocol']}" for report in reports))
    more = [f"<h2>{escape(title)}</h2>{_html(heads, lines)}" for title, heads, lines in more_tables(reports)]
    return _PAGE.format(
        title=escape(title), about=escape(_about(reports)), table=_html(HEADS, rows(reports)), note=escape(NOTE),
        plots="".join(_plots(reports)), more="".join(more),
    )  # fmt: skip


def _html(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in heads)
    body = "".join("<tr>" + "".join(f"<td>{escape(c)}</td>" for c in line) + "</tr>" for line in lines)
    return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'


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
    return [
        *_who(report, entry),
        _trials(entry),
        ", ".join(f"{entry[key]:,} {key.replace('_', ' ')}" for key in ("refused", "too_short") if entry.get(key)),
        with_interval(entry, "eer", 100, 2),
        f"{100 * entry['eer_hull']:.2f}",
        *(with_interval(entry, f"min_dcf_{p}", 1, 3) for p in ("0.01", "0.05")),
        *(f"{entry[key]:.3f}" if key in entry else "" for key in ("act_dcf_0.01", "min_cllr", "cllr")),
    ]


def _who(report: dict[str, Any], entry: dict[str, Any]) -> tuple[str, str]:
    return f"{report['model']} ({entry['scoring']})", f"{report['protocol']}: {entry['condition']}"


def _trials(counts: dict[str, Any]) -> str:
    return f"{counts['targets']:,} + {counts['nontargets']:,}"


def _difference(report: dict[str, Any], entry: dict[str, Any]) -> list[str]:
    found = entry["difference"]
    who = [*_who(report, entry), f"{found['model']} ({found['scoring']})"]
    if "problem" in found:
        return [*who, found["problem"], "", "", ""]
    alone = f" ({found['of_one_alone']:,} of one alone left out)" if found["of_one_alone"] else ""
    cells = []
    for name, scale, digits in (("eer", 100, 2), ("min_dcf_0.01", 1, 3), ("min_dcf_0.05", 1, 3)):
        low, high = found[name]["low"], found[name]["high"]
        bounds = "" if low is None else f" [{scale * low:+.{digits}f}, {scale * high:+.{digits}f}]"
        cells.append(f"{scale * found[name]['value']:+.{digits}f}{bounds}")
    return [*who, f"{found['trials']:,}{alone}", *cells]


def _parts(report: dict[str, Any], entry: dict[str, Any]) -> list[list[str]]:
    lines = []
    for kind, parts in entry.get("breakdown", {}).items():
        for part in parts:
            bounds = ", ".join(f"{100 * bound:.2f}" for bound in part["interval"] or ())
            eer = f"{100 * part['eer']:.2f}{f' [{bounds}]' if bounds else ''}"
            lines.append([*_who(report, entry), kind, part["group"], _trials(part), eer])
    return lines


def with_interval(entry: dict[str, Any], name: str, scale: float, digits: int) -> str:
    """A figure of an entry, and its interval where it has one: "1.23 [0.56, 1.44]"."""
    text = f"{scale * entry[name]:.{digits}f}"
    if bounds := entry["intervals"].get(name):
        text += " [" + ", ".join(f"{scale * bound:.{digits}f}" for bound in bounds) + "]"
    return text


def _about(reports: Sequence[dict[str, Any]]) -> str:
    lines = []
    for r in reports:
        size = f"{r['parameters'] / 1e6:.2f} million parameters" if r.get("parameters") else ""
        what = f"{r['model']} on {r['protocol']}"
        lines.append(", ".join(filter(None, [what, size, r["date"], r["machine"], *r.get("notes", ())])))
    return "; ".join(lines)


def tex(text: str) -> str:
    """The text as LaTeX prints it."""
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    return "".join(special.get(c, "\\" + c if c in "&%$#_{}" else c) for c in text)

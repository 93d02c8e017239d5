"""Reports side by side, with differences on the trials that both scored."""

import json
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from samevoice.evaluation import bootstrap
from samevoice.evaluation.report import scores as files
from samevoice.evaluation.report.measure import STATISTICS
from samevoice.evaluation.report.scores import Scores, column

_HEAD = {"model", "protocol", "date", "machine", "entries"}
_ENTRY = {"scoring", "condition", "eer", "eer_hull", "min_cllr", "intervals", "curve", "histogram"}


class ReportError(ValueError):
    """This is no report, or these can't be used together; the message says which and why."""


@dataclass(frozen=True)
class Report:
    """content: report.json's. scores: None where they have not been kept. where: what messages call it."""

    content: dict[str, Any]
    scores: Scores | None
    where: str

    @property
    def entries(self) -> list[dict[str, Any]]:
        return self.content["entries"]


def read(place: Path) -> list[Report]:
    """The reports in a folder or its report.json: one, or those that `compare -o` put together.

    Raises ReportError, ScoresError, OSError.
    """
    path = place / "report.json" if place.is_dir() else place
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        found = content if isinstance(content, list) else [content]
        whole = bool(found) and all(map(_is_report, found))
    except (ValueError, TypeError, AttributeError):
        whole = False
    if not whole:
        raise ReportError(f"{path}: not a report of `samevoice evaluate`")
    reports = []
    for report in found:
        for entry in report["entries"]:
            entry.pop("difference", None)  # from the system that came first then
        kept = path.parent / report["scores"] if report.get("scores") else None
        reports.append(Report(report, files.read(kept) if kept else None, str(place)))
    return reports


def write_scores(reports: Sequence[Report], folder: Path) -> list[dict[str, Any]]:
    """Put the reports' scores into one folder; returns the reports' contents, which say where each one's are."""
    contents = []
    for number, report in enumerate(reports, 1):
        content = dict(report.content)
        if report.scores is not None:
            content["scores"] = files.FILE if len(reports) == 1 else f"scores-{number}.parquet"
            files.write(report.scores, folder / content["scores"])
        contents.append(content)
    return contents


def compared(reports: Sequence[Report], replicates: int = 1000) -> list[Report]:
    """The same, each entry with its `difference` from one of the first report's: of the same condition and scoring; for
    the first report's own, and where it has no such scoring, its first entry of that condition.
    """
    first = reports[0]
    made = []
    for report in reports:
        content = deepcopy(report.content)
        for entry in content["entries"]:
            base = _base(first.entries, entry, itself=report is first)
            if base is not None:
                about = {"model": first.content["model"], "scoring": base["scoring"]}
                entry["difference"] = about | _difference(first, base, report, entry, replicates)
        made.append(Report(content, report.scores, report.where))
    return made


def common(scores: Sequence[Scores]) -> list[np.ndarray]:
    """The trials that all have: of each, the rows of these, in the first one's order; of repeated trials the first.

    Raises ReportError where labels differ.
    """
    coded = [(s.names("enrol"), s.names("test")) for s in scores]
    names = np.unique(np.concatenate([texts for both in coded for _, texts in both]))
    found = []
    for sides in coded:
        enrol, test = (np.searchsorted(names, texts)[codes] for codes, texts in sides)
        found.append(np.unique(enrol * len(names) + test, return_index=True))
    shared = found[0][0]
    for keys, _ in found[1:]:
        shared = np.intersect1d(shared, keys, assume_unique=True)
    rows = [first[np.searchsorted(keys, shared)] for keys, first in found]
    rows = [some[np.argsort(rows[0])] for some in rows]
    labels = [s.labels[some] for s, some in zip(scores, rows, strict=True)]
    if different := int(np.any([some != labels[0] for some in labels], axis=0).sum()):
        raise ReportError(f"{different:,} trials are targets in one list and nontargets in another")
    return rows


def _is_report(content: Any) -> bool:
    return content.keys() >= _HEAD and all(entry.keys() >= _ENTRY for entry in content["entries"])


def _base(entries: Sequence[dict[str, Any]], entry: dict[str, Any], itself: bool) -> dict[str, Any] | None:
    same = [other for other in entries if other["condition"] == entry["condition"]]
    if itself:
        return same[0] if column(same[0]) != column(entry) else None
    return next((other for other in same if other["scoring"] == entry["scoring"]), same[0] if same else None)


def _difference(
    first: Report, base: dict[str, Any], second: Report, entry: dict[str, Any], replicates: int
) -> dict[str, Any]:
    """value, low and high of each metric on the trials that both scored; or the `problem` why there is none."""
    if first.scores is None or second.scores is None:
        return {"problem": f"{(first if first.scores is None else second).where} was written without scores"}
    before, after = first.scores.of(base), second.scores.of(entry)
    if before is None or after is None:
        return {"problem": "no scores of this entry"}
    try:
        rows = common([first.scores, second.scores])
    except ReportError as error:
        return {"problem": str(error)}
    a, b = before[rows[0]], after[rows[1]]
    both = ~(np.isnan(a) | np.isnan(b))
    labels = first.scores.labels[rows[0]][both]
    if not labels.any() or labels.all():
        return {"problem": "no targets and nontargets in common"}
    alone = int((~np.isnan(before)).sum() + (~np.isnan(after)).sum()) - 2 * int(both.sum())
    who = first.scores.speakers(rows[0][both])
    return {"trials": int(both.sum()), "of_one_alone": alone} | _paired(a[both], b[both], labels, who, replicates)


def _paired(
    a: np.ndarray, b: np.ndarray, labels: np.ndarray, who: tuple[np.ndarray, np.ndarray] | None, replicates: int
) -> dict[str, Any]:
    found = {}
    for name, statistic in STATISTICS.items():
        low = high = None
        if replicates and who:
            try:
                drawn = bootstrap.paired(statistic, a, b, labels, *who, replicates=replicates)
                low, high = drawn.low, drawn.high
            except ValueError:  # too few speakers for an interval
                pass
        found[name] = {"value": statistic(b, labels) - statistic(a, labels), "low": low, "high": high}
    return found

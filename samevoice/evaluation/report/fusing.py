"""Several systems' reports as one system's: fusion that was fitted on the reports of other trials."""

from collections.abc import Sequence
from datetime import date
from typing import Any

import numpy as np

from samevoice.evaluation.report.comparison import Report, ReportError, common
from samevoice.evaluation.report.measure import measure
from samevoice.evaluation.report.scores import Scores, column
from samevoice.evaluation.scoring import Fusion


def fused(reports: Sequence[Report], development: Sequence[Report], replicates: int = 1000) -> Report:
    """Logistic regression on the scores of the development reports, which are of the same systems in the same order.

    An entry for each condition and scoring that all have. Raises ReportError where reports are missing or don't belong
    together, and where a trial or a recording is in both lists: the figures would be too good.
    """
    _check(reports, development)
    here, there = _scores(reports), _scores(development)
    rows, fit_rows = common(here), common(there)
    for some, found in ((reports, rows), (development, fit_rows)):
        if not len(found[0]):
            raise ReportError(f"{', '.join(report.where for report in some)}: no trials in common")
    shared_speakers = _refuse_shared(here[0], there[0])
    entries, kept = [], {}
    for entry in reports[0].entries:
        scores, fit_on = _side_by_side(here, rows, entry), _side_by_side(there, fit_rows, entry)
        if scores is None or fit_on is None:
            continue
        usable, known = ~np.isnan(scores).any(axis=1), ~np.isnan(fit_on).any(axis=1)
        fusion = Fusion().fit(fit_on[known], there[0].labels[fit_rows[0][known]])
        llrs = np.full(len(here[0]), np.nan)
        used = rows[0][usable]
        llrs[used] = fusion.transform(scores[usable])
        who = here[0].speakers(used)
        figures = measure(llrs[used], here[0].labels[used], who, llrs[used], replicates=replicates)
        about = {"scoring": entry["scoring"], "condition": entry["condition"], "weights": fusion.weights_.tolist()}
        about |= {"offset": fusion.offset_, "development_trials": int(known.sum())}
        entries.append({**about, "trials_left_out": len(llrs) - len(used), **figures})
        kept[column(entry)] = llrs
    if not entries:
        raise ReportError("no scoring and condition is in all reports, the development ones too")
    first, names = reports[0].content, " + ".join(report.content["model"] for report in reports)
    notes = [f"fused on {development[0].content['protocol']} ({', '.join(report.where for report in development)})"]
    if shared_speakers:
        notes.append(f"{shared_speakers:,} speakers are in the development trials too")
    content = {"model": f"fusion of {names}", "architecture": "", "protocol": first["protocol"],
               "date": date.today().isoformat(), "machine": first["machine"], "notes": notes,
               "entries": entries}  # fmt: skip
    return Report(content, here[0].replaced(kept), content["model"])


def _check(reports: Sequence[Report], development: Sequence[Report]) -> None:
    if len(reports) < 2 or len(reports) != len(development):
        raise ReportError(
            f"{len(reports)} systems and {len(development)} development reports: fusing takes two systems or more, and "
            "of each a report on other trials, in the same order"
        )
    for report, other in zip(reports, development, strict=True):
        if report.content["model"] != other.content["model"]:
            raise ReportError(f"{other.where} is of {other.content['model']}, not of {report.content['model']}")


def _scores(reports: Sequence[Report]) -> list[Scores]:
    if missing := [report.where for report in reports if report.scores is None]:
        raise ReportError(f"{', '.join(missing)} was written without scores; evaluate again")
    return [report.scores for report in reports if report.scores is not None]


def _side_by_side(scores: Sequence[Scores], rows: Sequence[np.ndarray], entry: dict[str, Any]) -> np.ndarray | None:
    """(trials, systems), or None if a system has no such entry."""
    found = [(some.of(entry), at) for some, at in zip(scores, rows, strict=True)]
    columns = [values[at] for values, at in found if values is not None]
    return np.stack(columns, axis=1) if len(columns) == len(found) else None


def _refuse_shared(here: Scores, there: Scores) -> int:
    """How many speakers both have; ReportError for recordings that both have."""
    shared = [
        _values(here, sides) & _values(there, sides) for sides in (("enrol", "test"), ("enrol_speaker", "test_speaker"))
    ]
    if shared[0]:
        raise ReportError(
            f"{len(shared[0]):,} recordings are in the development trials too, such as {min(shared[0])}: what is "
            "fitted on them must not be measured on them"
        )
    return len(shared[1] - {""})


def _values(scores: Scores, sides: tuple[str, str]) -> set[str]:
    return {text for side in sides for text in scores.names(side)[1].tolist()}

"""Scores of one list to one entry of a report: plain values, so that report.json holds all that the pages show."""

from collections.abc import Iterable
from functools import partial
from typing import Any

import numpy as np

from samevoice.evaluation import bootstrap, metrics

PRIORS = (0.01, 0.05)
RATES = (0.001, 0.01, 0.05)
BREAKDOWN_REPLICATES = 200  # a breakdown of five kinds takes as long as the intervals of everything then
STATISTICS: dict[str, bootstrap.Statistic] = {
    "eer": metrics.eer,
    **{f"min_dcf_{p:g}": partial(metrics.min_dcf, p_target=p) for p in PRIORS},
}


def measure(
    scores: np.ndarray,
    labels: np.ndarray,
    speakers: tuple[np.ndarray, np.ndarray] | None,
    llrs: np.ndarray | None = None,
    groups: Iterable[tuple[str, np.ndarray]] = (),
    replicates: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Every figure of a report. Rates are shares.

    speakers: of enrolments and tests, by any name, (trials,) each: intervals draw these. None if some are not known:
    then, as with too few, there are no intervals. llrs: calibrated scores (trials,), for the actual costs; None leaves
    those out. groups: for the breakdown of the EER, kinds ("gender") and what each trial is, text (trials,); its
    intervals are of BREAKDOWN_REPLICATES at most. Raises ValueError as metrics do.
    """
    found: dict[str, Any] = {"trials": len(labels), "targets": int(labels.sum())}
    found["nontargets"] = found["trials"] - found["targets"]
    found |= {name: statistic(scores, labels) for name, statistic in STATISTICS.items()}
    found["eer_hull"] = metrics.eer_hull(scores, labels)
    found["min_cllr"] = metrics.min_cllr(scores, labels)
    found["thresholds"] = {f"min_dcf_{p:g}": _finite(metrics.min_dcf_threshold(scores, labels, p)[1]) for p in PRIORS}
    found["far_at_frr"] = {f"{rate:g}": metrics.far_at_frr(scores, labels, rate) for rate in RATES}
    found["frr_at_far"] = {f"{rate:g}": metrics.frr_at_far(scores, labels, rate) for rate in RATES}
    if llrs is not None:
        found["cllr"] = metrics.cllr(llrs, labels)
        found |= {f"act_dcf_{p:g}": metrics.act_dcf(llrs, labels, p) for p in PRIORS}
    trials = scores, labels, *(speakers or (labels, labels))
    replicates = replicates if speakers else 0
    found["intervals"] = _intervals(trials, replicates, seed) if replicates else {}
    found["breakdown"] = {}
    for kind, some in groups:
        if (some != some[0]).any():
            found["breakdown"][kind] = _parts(trials, some, min(replicates, BREAKDOWN_REPLICATES), seed)
    points = metrics.curve(scores, labels, 200)
    found["curve"] = {"false_alarm": points.false_alarm.tolist(), "miss": points.miss.tolist()}
    edges, targets, nontargets = metrics.histogram(scores, labels)
    found["histogram"] = {"edges": edges.tolist(), "targets": targets.tolist(), "nontargets": nontargets.tolist()}
    return found


def _intervals(trials: tuple[np.ndarray, ...], replicates: int, seed: int) -> dict[str, list[float]]:
    try:
        drawn = bootstrap.intervals(STATISTICS, *trials, replicates=replicates, seed=seed)
    except ValueError:  # too few speakers for an interval
        return {}
    return {name: list(bounds) for name, bounds in drawn.items()}


def _parts(trials: tuple[np.ndarray, ...], groups: np.ndarray, replicates: int, seed: int) -> list[dict[str, Any]]:
    scores, labels, enrol, test = trials
    parts = bootstrap.breakdown(metrics.eer, scores, labels, groups, enrol, test, replicates, seed)
    return [
        {"group": part.group, "targets": part.targets, "nontargets": part.nontargets, "eer": part.value,
         "interval": list(part.interval) if part.interval else None}
        for part in parts
    ]  # fmt: skip


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None

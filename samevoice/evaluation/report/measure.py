"""Scores of one list to one entry of a report: plain values, so that report.json holds all that the pages show."""

from functools import partial
from typing import Any

import numpy as np

from samevoice.evaluation import bootstrap, metrics

PRIORS = (0.01, 0.05)
RATES = (0.001, 0.01, 0.05)


def measure(
    scores: np.ndarray,
    labels: np.ndarray,
    enrol_speakers: np.ndarray,
    test_speakers: np.ndarray,
    llrs: np.ndarray | None = None,
    replicates: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Every figure of a report. Rates are shares. Speakers (trials,): intervals draw these, with too few there is none.

    llrs: calibrated scores (trials,), for the actual costs; None leaves those out. Raises ValueError as metrics do.
    """
    statistics = {"eer": metrics.eer, **{f"min_dcf_{p:g}": partial(metrics.min_dcf, p_target=p) for p in PRIORS}}
    found: dict[str, Any] = {"trials": len(labels), "targets": int(labels.sum())}
    found["nontargets"] = found["trials"] - found["targets"]
    for name, statistic in statistics.items():
        found[name] = statistic(scores, labels)
    found["eer_hull"] = metrics.eer_hull(scores, labels)
    found["min_cllr"] = metrics.min_cllr(scores, labels)
    found["thresholds"] = {f"min_dcf_{p:g}": _finite(metrics.min_dcf_threshold(scores, labels, p)[1]) for p in PRIORS}
    found["far_at_frr"] = {f"{rate:g}": metrics.far_at_frr(scores, labels, rate) for rate in RATES}
    found["frr_at_far"] = {f"{rate:g}": metrics.frr_at_far(scores, labels, rate) for rate in RATES}
    if llrs is not None:
        found["cllr"] = metrics.cllr(llrs, labels)
        found |= {f"act_dcf_{p:g}": metrics.act_dcf(llrs, labels, p) for p in PRIORS}
    found["intervals"] = {}
    if replicates:
        for name, statistic in statistics.items():
            try:
                drawn = bootstrap.interval(
                    statistic, scores, labels, enrol_speakers, test_speakers, replicates=replicates, seed=seed
                )
                found["intervals"][name] = list(drawn)
            except ValueError:  # too few speakers for an interval
                break
    points = metrics.curve(scores, labels, 200)
    found["curve"] = {"false_alarm": points.false_alarm.tolist(), "miss": points.miss.tolist()}
    edges, targets, nontargets = metrics.histogram(scores, labels)
    found["histogram"] = {"edges": edges.tolist(), "targets": targets.tolist(), "nontargets": nontargets.tolist()}
    return found


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None

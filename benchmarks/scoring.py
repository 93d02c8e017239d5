"""Scoring and measuring lists as long as VoxCeleb1-E's, each beside the literal loop it stands for.

    python benchmarks/scoring.py [norm] [metrics] [bootstrap]

Random embeddings of the protocol's size: 145,160 recordings of 1,251 speakers, 579,818 trials, a cohort of 5,994
speakers, 192 dimensions. Each job runs in a process of its own, for its peak memory (which includes its input). The
loops run on a part of the trials and are told by the trial; that the results agree is checked in the same run.
"""

import argparse
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date
from functools import partial

import numpy as np

from samevoice.evaluation import bootstrap, metrics
from samevoice.evaluation.scoring import ScoreNorm

RECORDINGS, SPEAKERS, TRIALS, COHORT, DIM, TOP = 145_160, 1_251, 579_818, 5_994, 192, 600


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("jobs", nargs="*", help="norm, metrics, bootstrap; all if none")
    parser.add_argument("--here", choices=JOBS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        JOBS[options.here]()
        return
    print(f"{date.today()}, {platform.machine()}, {platform.system()}, Python {platform.python_version()}")
    print(
        "| job | ours, s | the loop, s (of so many measured) | times | peak memory |\n|---|---|---|---|---|", flush=True
    )
    for job in options.jobs or JOBS:
        subprocess.run([sys.executable, __file__, "--here", job], check=True)


def norm() -> None:
    random = np.random.default_rng(0)
    embeddings = random.standard_normal((RECORDINGS, DIM), np.float32)
    cohort = random.standard_normal((COHORT, DIM), np.float32)
    enrol, test = random.integers(RECORDINGS, size=(2, TRIALS))
    seconds, found = timed(lambda: ScoreNorm("as", TOP).fit(cohort).transform(embeddings, enrol, test))
    peak = peak_mb()
    few = 1000

    def loop() -> list[float]:
        unit = cohort / np.linalg.norm(cohort, axis=1, keepdims=True)
        scores = []
        for e, t in zip(enrol[:few], test[:few], strict=True):
            a, b = (embeddings[i] / np.linalg.norm(embeddings[i]) for i in (e, t))
            nearest = [np.sort(unit @ side)[-TOP:] for side in (a, b)]
            scores.append(np.mean([(a @ b - near.mean()) / near.std(ddof=1) for near in nearest]))
        return scores

    loop_seconds, theirs = timed(loop)
    np.testing.assert_allclose(found[:few], theirs, rtol=1e-3, atol=1e-3)
    row(f"adaptive s-norm, {TRIALS:,} trials", seconds, loop_seconds * TRIALS / few, few, peak)


def measures() -> None:
    trials = 10_000_000
    random = np.random.default_rng(0)
    labels = random.random(trials) < 0.1
    scores = random.standard_normal(trials) + 3 * labels

    def ours(scores: np.ndarray, labels: np.ndarray) -> list[float]:
        return [metrics.eer(scores, labels), metrics.min_dcf(scores, labels, 0.01), metrics.cllr(scores, labels)]

    seconds, _ = timed(lambda: ours(scores, labels))
    peak, few = peak_mb(), 200_000

    def loop() -> list[float]:
        pairs = sorted(zip(scores[:few].tolist(), labels[:few].tolist(), strict=True))
        targets = sum(label for _, label in pairs)
        misses, alarms, gap, eer, dcf, losses = 0, few - targets, 2.0, 1.0, 1.0, [0.0, 0.0]
        for score, label in pairs:
            misses, alarms = misses + label, alarms - (not label)
            miss, alarm = misses / targets, alarms / (few - targets)
            if abs(miss - alarm) < gap:
                gap, eer = abs(miss - alarm), max(miss, alarm)
            dcf = min(dcf, (0.01 * miss + 0.99 * alarm) / 0.01)
            losses[label] += float(np.log1p(np.exp(-score if label else score)))
        return [eer, dcf, (losses[1] / targets + losses[0] / (few - targets)) / 2 / float(np.log(2))]

    loop_seconds, theirs = timed(loop)
    np.testing.assert_allclose(ours(scores[:few], labels[:few]), theirs, atol=1e-4)
    row(f"EER, minDCF and Cllr, {trials:,} trials", seconds, loop_seconds * trials / few, few, peak)


def intervals() -> None:
    replicates, few = 1000, 2
    random = np.random.default_rng(0)
    enrol, labels = random.integers(SPEAKERS, size=TRIALS), random.random(TRIALS) < 0.5
    test = np.where(labels, enrol, random.integers(SPEAKERS, size=TRIALS))
    labels = enrol == test
    scores = random.standard_normal(TRIALS) + 3 * labels
    for name, statistic in (("EER", metrics.eer), ("minDCF", partial(metrics.min_dcf, p_target=0.01))):
        draw = partial(bootstrap.replicate_values, statistic, scores, labels, enrol, test)
        seconds, found = timed(partial(draw, replicates))
        peak = peak_mb()

        def loop(statistic: Callable = statistic) -> list[float]:
            values = []
            for stream in np.random.SeedSequence(0).spawn(replicates)[:few]:
                drawn = np.random.default_rng(stream).integers(SPEAKERS, size=SPEAKERS).tolist()
                times = [0] * SPEAKERS
                for speaker in drawn:
                    times[speaker] += 1
                again: list[int] = []
                for i, (e, t) in enumerate(zip(enrol.tolist(), test.tolist(), strict=True)):
                    again += [i] * (times[e] if e == t else times[e] * times[t])
                values.append(statistic(scores[again], labels[again]))
            return values

        loop_seconds, theirs = timed(loop)
        np.testing.assert_allclose(found[:few], theirs, atol=1e-12)
        job = f"{replicates:,} replicates of {TRIALS:,} trials to {name}"
        row(job, seconds, loop_seconds * replicates / few, few, peak)


def timed(work: Callable) -> tuple[float, list]:
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def peak_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def row(job: str, ours: float, loop: float, measured: int, peak: float) -> None:
    print(f"| {job} | {ours:.1f} | {loop:,.0f} ({measured:,}) | {loop / ours:,.0f} | {peak:,.0f} MB |", flush=True)


JOBS = {"norm": norm, "metrics": measures, "bootstrap": intervals}

if __name__ == "__main__":
    main()

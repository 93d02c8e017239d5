"""Error rates and decisions of a model on labelled recordings: full length, 3 s and 1.5 s.

    python benchmarks/error_rates.py LIST.csv ... --root FOLDER [--model default]

A CSV has the columns path and speaker. All pairs within a list are trials. Crops are the first seconds of each
recording that is long enough. Prints Markdown rows: EER, and at the card's own thresholds the share of false alarms and
misses, which show whether the calibration holds on recordings that it was not fitted on.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import samevoice
from samevoice.audio import RATE, AudioError, read
from samevoice.evaluation.calibration import all_pairs
from samevoice.evaluation.metrics import eer, min_dcf
from samevoice.hub.calibrate import labelled


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("lists", nargs="+", type=Path)
    parser.add_argument("--root", type=Path)
    parser.add_argument("--model", default="default")
    options = parser.parse_args()
    verifier = samevoice.load(options.model)
    points = [None, *(f"far={rate}" for rate in verifier.card.calibration.operating_points)]
    columns = ["list", "length", "recordings", "refused", "trials", "EER", "minDCF(0.01)"]
    columns += [f"false alarms / misses at {point or 'llr = 0'}" for point in points]
    print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))
    for path in options.lists:
        recordings = labelled(path, options.root)
        for seconds in (None, 3.0, 1.5):
            row = [
                path.stem,
                f"first {seconds:g} s" if seconds else "full",
                *measure(verifier, recordings, seconds, points),
            ]
            print("| " + " | ".join(map(str, row)) + " |", flush=True)


def measure(verifier, recordings: list[tuple[str, str]], seconds: float | None, points: list) -> Iterator[str | int]:
    audios = [path if seconds is None else (read(path)[: int(seconds * RATE)], RATE) for path, _ in recordings]
    long_enough = [i for i, a in enumerate(audios) if seconds is None or len(a[0]) == int(seconds * RATE)]
    results = dict(verifier.embed_each([audios[i] for i in long_enough]))
    good = [k for k in range(len(long_enough)) if not isinstance(results[k], AudioError)]
    speakers = np.array([recordings[long_enough[k]][1] for k in good])
    scores, labels = all_pairs(np.stack([results[k].embedding for k in good]), speakers)
    yield len(good)
    yield len(long_enough) - len(good)
    yield f"{labels.sum():,} + {(~labels).sum():,}"
    yield f"{eer(scores, labels):.2%}"
    yield f"{min_dcf(scores, labels, 0.01):.3f}"
    for point in points:
        threshold, _ = verifier.threshold(operating_point=point)
        yield f"{(scores[~labels] >= threshold).mean():.2%} / {(scores[labels] < threshold).mean():.2%}"


if __name__ == "__main__":
    main()

"""Fit a card's calibration on labelled recordings."""

import csv
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from samevoice.audio import AudioError
from samevoice.evaluation.calibration import LogisticCalibration, all_pairs, threshold_at
from samevoice.hub.cards import Calibration, OperatingPoint
from samevoice.hub.errors import HubError

if TYPE_CHECKING:
    from samevoice.runtime import Verifier

FALSE_ALARM_RATES = ("5%", "1%", "0.5%", "0.1%", "0.05%", "0.01%")
Labelled = list[tuple[str, str]]  # (path, speaker)


def labelled(path: Path, root: Path | None = None) -> Labelled:
    """Recordings and speakers: a folder with one folder for each speaker, or a CSV with columns path and speaker.

    root: what the CSV's paths are relative to; its own folder if None. Raises HubError for neither.
    """
    from samevoice.audio.formats import in_folder

    if path.is_dir():
        found = [(file, Path(file).relative_to(path).parts[0]) for file in in_folder(path)]
        return [(file, speaker) for file, speaker in found if Path(file).name != speaker]
    try:
        with path.open(newline="", encoding="utf-8") as lines:
            return [(str((root or path.parent) / row["path"]), row["speaker"]) for row in csv.DictReader(lines)]
    except (OSError, KeyError, UnicodeDecodeError) as error:
        raise HubError(f"{path}: neither a folder nor a CSV with the columns path and speaker ({error})") from None


def calibrate(
    verifier: "Verifier", lists: list[Labelled], data: str, track: Callable[[Iterable, int], Iterable]
) -> tuple[Calibration, list[AudioError]]:
    """The calibration over all pairs within each list, and the recordings that could not be used.

    Operating points are given where 30 or more nontarget pairs lie above the threshold. Raises ValueError when pairs
    of one kind are missing.
    """
    scores, labels, failed, used = [], [], [], 0
    for recordings in lists:
        results = dict(track(verifier.embed_each([path for path, _ in recordings]), len(recordings)))
        good = [i for i in range(len(recordings)) if not isinstance(results[i], AudioError)]
        failed += [results[i] for i in range(len(recordings)) if isinstance(results[i], AudioError)]
        used += len(good)
        if len(good) > 1:
            pairs = all_pairs(
                np.stack([results[i].embedding for i in good]), np.array([recordings[i][1] for i in good])
            )
            scores.append(pairs[0])
            labels.append(pairs[1])
    all_scores, all_labels = np.concatenate(scores or [[]]), np.concatenate(labels or [[]]).astype(bool)
    targets, nontargets = int(all_labels.sum()), int((~all_labels).sum())
    if not targets or not nontargets:
        raise ValueError(f"{targets} pairs of one speaker and {nontargets} of two: calibration needs both")
    fitted = LogisticCalibration().fit(all_scores, all_labels)
    points = {}
    for rate in FALSE_ALARM_RATES:
        share = float(rate.rstrip("%")) / 100
        if share * nontargets >= 30:
            points[rate] = OperatingPoint(*(round(value, 6) for value in threshold_at(all_scores, all_labels, share)))
    text = f"{data}: {used:,} recordings, {targets:,} target and {nontargets:,} nontarget pairs"
    return Calibration(round(fitted.slope_, 4), round(fitted.offset_, 4), text, points), failed

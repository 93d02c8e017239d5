"""Protocols with a name: which recordings, which trials, where they are found, under which conditions."""

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from samevoice.audio import RATE, AudioError, read
from samevoice.data.corpora.corpus import beside, gender
from samevoice.data.corpora.voxceleb1 import CORPUS as VOXCELEB1
from samevoice.data.corpora.voxceleb1 import metadata
from samevoice.data.corpora.voxceleb1 import utterances as voxceleb_utterances
from samevoice.data.sampling import below, key, wrapped
from samevoice.evaluation import trials as lists
from samevoice.evaluation.trials import TrialError, Trials

VARIABLE = "SAMEVOICE_DATA"
COLUMNS = ("utterance", "speaker", "path", "session", "gender", "language")
_ALSO = {"language": "locale", "session": "video"}


@dataclass(frozen=True)
class Protocol:
    """trial_list: the file with the trials; "" for all pairs. recordings: the CSV or folder, inside the data folder;
    "" for the data folder itself. trials: how many are published, or None. about: what it is, in a line.
    """

    name: str
    about: str
    recordings: str = ""
    trial_list: str = ""
    trials: int | None = None


def _voxceleb(part: str, file: str, about: str) -> Protocol:
    return Protocol(f"voxceleb1-{part}", about, trial_list=file, trials=VOXCELEB1.trials[file])


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        _voxceleb("o", "veri_test2.txt", "VoxCeleb1-O (cleaned): 40 test speakers"),
        _voxceleb("e", "list_test_all2.txt", "VoxCeleb1-E (cleaned): all 1,251 speakers"),
        _voxceleb("h", "list_test_hard2.txt", "VoxCeleb1-H (cleaned): same nationality and gender"),
        Protocol(
            "librispeech-mini",
            "LibriSpeech test-other, 10 speakers x 10 recordings, all pairs",
            recordings="librispeech/test-other.csv",
        ),
        Protocol(
            "commonvoice-en-dev",
            "Common Voice, 95 English speakers, crowd microphones, all pairs",
            recordings="commonvoice/dev.csv",
        ),
    )
}


@dataclass(frozen=True)
class Condition:
    """seconds: how many are kept, from the start, of recordings that have as many; None for all of each.
    snr_db: of noise that is added, or None.
    """

    seconds: float | None = None
    snr_db: float | None = None

    @property
    def length(self) -> str:
        return "full" if self.seconds is None else f"first {self.seconds:g} s"

    @property
    def noise(self) -> str:
        return "clean" if self.snr_db is None else f"noise at {self.snr_db:g} dB"

    @property
    def name(self) -> str:
        return f"{self.length}, {self.noise}"


# Of --conditions; the first is that of every evaluation
CONDITIONS = [Condition(s, noise) for noise in (None, 10.0, 5.0, 0.0) for s in (None, 3.0, 2.0, 1.5)]


def find(name: str) -> Protocol:
    """The protocol of this name; ValueError names the nearest."""
    import difflib

    if name in PROTOCOLS:
        return PROTOCOLS[name]
    close = difflib.get_close_matches(name, PROTOCOLS, n=1, cutoff=0.3)
    hint = f"did you mean {close[0]}? " if close else ""
    raise ValueError(f"no protocol called {name!r}; {hint}valid: {', '.join(PROTOCOLS)}")


def data_folders(given: Path | None = None) -> list[Path]:
    """Where data is looked for: the folder given, or those of $SAMEVOICE_DATA (several with a path separator between),
    or here, `data` and `speech` here, and the same beside here."""
    if given is not None:
        return [given]
    if os.environ.get(VARIABLE):
        return [Path(place).expanduser() for place in os.environ[VARIABLE].split(os.pathsep) if place]
    return [Path(place) for place in (".", "data", "speech", "..", "../data", "../speech")]


def load(protocol: Protocol, data: Path | None = None) -> tuple[pa.Table, Trials]:
    """The recordings, as `recordings` gives them, and the trials. data: see `data_folders`.

    Raises TrialError that says what was looked for and where.
    """
    places = data_folders(data)
    if protocol.recordings:
        for place in places:
            if (place / protocol.recordings).exists():
                table = recordings(place / protocol.recordings, place)
                return table, lists.all_pairs(table["utterance"].to_pylist(), table["speaker"].to_pylist())
        raise TrialError(_not_found(protocol, protocol.recordings, places))
    for place in places:
        folders = [place, *(place / name for name in ("voxceleb1", "VoxCeleb1", "vox1", "voxceleb"))]
        for folder in folders:
            if folder.is_dir() and (found := beside(folder, protocol.trial_list)):
                trials = lists.read(found)
                if protocol.trials and len(trials) != protocol.trials:
                    raise TrialError(
                        f"{found}: {len(trials):,} trials, not the published {protocol.trials:,} of {protocol.name}; "
                        "evaluate it as your own list with --trials"
                    )
                return recordings(folder, wanted=set(trials.utterances)), trials
    raise TrialError(_not_found(protocol, protocol.trial_list, places) + f"\n{VOXCELEB1.get}")


def recordings(place: Path, root: Path | None = None, wanted: set[str] | None = None) -> pa.Table:
    """What recordings there are: a table of text with COLUMNS, `path` ready to open, "" for what isn't known.

    place: a manifest (.parquet), a CSV with path and speaker (paths relative to `root`, or to its own folder), or a
    folder. In a folder laid out like VoxCeleb utterances are called id10001/VIDEO/00001.wav, the video is their
    session, and vox1_meta.csv or vox2_meta.csv beside them tells the gender; in any other they are called by their path
    in it, their first folder is the speaker, and a second one the session. wanted: leave the others out.
    Raises TrialError, also for two recordings of one name and for files that are listed but not there.
    """
    if place.suffix == ".parquet":
        from samevoice.data import manifest

        try:
            table = manifest.read(place, root)
        except manifest.ManifestError as error:
            raise TrialError(str(error)) from None
        if any(table["offset"].to_numpy() > 0):
            raise TrialError(f"{place}: utterances that begin inside a file can't be evaluated; cut them out first")
        rows = table.select(list(COLUMNS)).to_pylist()
    elif place.is_dir():
        rows = _of_folder(place)
    else:
        rows = _of_csv(place, root or place.parent)
    if wanted is not None:
        rows = [row for row in rows if row["utterance"] in wanted]
    _all_there_once(rows, place)
    columns = {name: pa.array([row.get(name) or "" for row in rows], pa.string()) for name in COLUMNS}
    return pa.table(columns)


def _of_folder(folder: Path) -> list[dict[str, str]]:
    from samevoice.data.corpora.corpus import recordings as recordings_in

    found = list(voxceleb_utterances(folder))
    if found:
        about = metadata(folder, "vox1_meta.csv") | metadata(folder, "vox2_meta.csv")
        genders = {speaker: gender(row.get("Gender")) for speaker, row in about.items()}
        return [
            {"utterance": f"{speaker}/{video}/{number}.wav", "speaker": speaker, "path": path, "session": video,
             "gender": genders.get(speaker, "")}
            for path, speaker, video, number in found
        ]  # fmt: skip
    rows = []
    for path in recordings_in(folder):
        parts = Path(path).relative_to(folder).parts
        session = "/".join(parts[:2]) if len(parts) > 2 else ""
        speaker = parts[0] if len(parts) > 1 else ""
        rows.append({"utterance": "/".join(parts), "speaker": speaker, "path": path, "session": session})
    if not rows:
        raise TrialError(f"{folder}: no recordings in this folder")
    return rows


def _of_csv(path: Path, root: Path) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as lines:
            reader = csv.DictReader(lines)
            rows, heads = list(reader), reader.fieldnames or []
    except FileNotFoundError:
        raise TrialError(f"{path}: no such file or folder") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TrialError(f"{path}: neither a folder, a manifest nor a CSV ({error})") from None
    if not {"path", "speaker"} <= set(heads):
        has = f"this one has {', '.join(heads[:10])[:100]!r}" if heads else "this one is empty"
        raise TrialError(f"{path}: a CSV of recordings has the columns path and speaker; {has}")
    if not rows:
        raise TrialError(f"{path}: lists no recordings")
    made = []
    for row in rows:
        about = {name: row.get(name) or row.get(_ALSO.get(name, ""), "") or "" for name in COLUMNS}
        about["utterance"] = row.get("utterance") or row["path"]
        about["gender"] = gender(about["gender"])
        made.append({**about, "path": str(root / row["path"])})
    return made


def _all_there_once(rows: Sequence[dict[str, str]], place: Path) -> None:
    paths: dict[str, str] = {}
    for row in rows:
        name, path = row["utterance"], row["path"]
        if name in paths:
            raise TrialError(f"{place}: {name} is there twice, {paths[name]} and {path}: leave one out")
        paths[name] = path
    if gone := [path for path in paths.values() if not os.path.exists(path)]:
        raise TrialError(f"{place}: {len(gone):,} of {len(paths):,} files are not there, such as {gone[0]}")


def noises(data: Path | None = None) -> list[str]:
    """Files of the noise to add: `noise` in a data folder, searched for recordings. Raises TrialError for none."""
    from samevoice.audio.formats import in_folder

    for place in data_folders(data):
        if found := in_folder(place / "noise") if (place / "noise").is_dir() else []:
            return found
    raise TrialError(f"no folder noise with recordings in {', '.join(map(str, data_folders(data)))}")


def clip(path: str, utterance: str, condition: Condition, noise: Sequence[str] = (), noise_root: str = ""):
    """How to hear a recording under a condition: (treatment, load), for `runtime.embedding_cache.Clip`.

    The noise file and where in it to begin are drawn from the utterance's name, so that every model hears the same;
    the ratio is of mean powers over the whole clip. load: raises AudioError, for one shorter than asked too.
    """
    if condition == Condition():
        return "", None
    words = [condition.length] if condition.seconds is not None else []
    chosen, draw = "", key(0, 0, utterance)
    if condition.snr_db is not None:
        chosen = noise[below(draw, len(noise))]
        shown = Path(os.path.relpath(chosen, noise_root)).as_posix() if noise_root else Path(chosen).name
        words.append(f"{shown} at {condition.snr_db:g} dB, drawn by {utterance}")
    return "; ".join(words), partial(_heard, path, condition, chosen, draw)


def _heard(path: str, condition: Condition, noise: str, draw: int) -> tuple[np.ndarray, int]:
    samples = read(path)
    if condition.seconds is not None:
        length = int(condition.seconds * RATE)
        if len(samples) < length:
            raise AudioError(path, f"{TOO_SHORT} {condition.seconds:g} s")
        samples = samples[:length]
    if condition.snr_db is None:
        return samples, RATE
    return add_noise(samples, read(noise), condition.snr_db, draw), RATE


TOO_SHORT = "is shorter than"  # such recordings aren't part of a condition; others that fail are counted as refused


def add_noise(samples: np.ndarray, noise: np.ndarray, snr_db: float, draw: int) -> np.ndarray:
    """samples + noise, float32 (samples,), so that the ratio of their mean powers is snr_db.

    noise: starts at a place drawn from `draw` and is repeated. Silence in it is cut out first (some recordings of a
    second's bark are filled up with zeros); scaled down if the sum would clip.
    """
    loud = noise[np.abs(noise) > 1e-4]
    start = below(draw, max(len(loud), 1), 1)
    added = wrapped(np.roll(loud, -start), len(samples)) if len(loud) else np.zeros_like(samples)
    power = float(np.square(added, dtype=np.float64).mean())
    if power == 0:
        return samples
    scale = np.sqrt(float(np.square(samples, dtype=np.float64).mean()) / power / 10 ** (snr_db / 10))
    mixed = samples + np.float32(scale) * added
    return (mixed / max(1.0, float(np.abs(mixed).max()))).astype(np.float32)


def _not_found(protocol: Protocol, file: str, places: Sequence[Path]) -> str:
    looked = ", ".join(map(str, places))
    return f"{protocol.name} needs {file}; looked in {looked}: name the folder that has it with --data or ${VARIABLE}"

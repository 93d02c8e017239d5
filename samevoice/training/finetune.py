"""Fine-tuning a model on one's own voices, and its error rate before and after on speakers that decided nothing.

A run's folder has, beside what every run's has: finetune.json (what was asked for), start/ (the model at the start, for
training), data/train.parquet and data/held-out.parquet, and in the end report.json.
"""

import json
import os
from collections import Counter
from collections.abc import Callable, Container, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from rich.console import Console
from torch.nn.modules.batchnorm import _BatchNorm

from samevoice.audio import RATE, AudioError
from samevoice.data import manifest
from samevoice.data.augment.settings import KINDS, from_mapping
from samevoice.data.banks import Banks
from samevoice.data.crops import read_crop
from samevoice.data.prepare import Track
from samevoice.evaluation import bootstrap, metrics
from samevoice.evaluation.bootstrap import Difference
from samevoice.evaluation.scoring.cosine import Cosine
from samevoice.evaluation.trials import Trials
from samevoice.files import replacing
from samevoice.hub import cards, find_model
from samevoice.hub.find import CARD_FILE
from samevoice.hub.pull import log
from samevoice.hub.save import WEIGHTS_FILE
from samevoice.hub.torch_weights import torch_network
from samevoice.models.base import SpeakerNetwork
from samevoice.runtime import Verifier
from samevoice.runtime.embedding_cache import Clip, EmbeddingCache, embed_all, model_key
from samevoice.training import data as corpora
from samevoice.training import loop, validation
from samevoice.training.errors import TrainingError
from samevoice.training.recipe import Data, Recipe, validated

ASKED = "finetune.json"
HELD_OUT = "held-out.parquet"
REPORT = "report.json"
RECORDINGS = 3  # that a speaker must have to count, and to be held out
LEAST = 10  # such speakers held out, and as many to train on
SHARE = 0.2  # of such speakers that are held out
MOST = 200  # held-out speakers: beyond it, the interval is no longer what limits
FEW = 50  # held-out speakers under which the interval is wide
BATCH = 32
HEAD_STEPS, HEAD_EPOCHS = 100, 5  # the classifier's phase: about so many steps, at most so many epochs
STEPS, EPOCHS = 1000, 5  # the network's phase, likewise

Embedding = np.ndarray | AudioError


@dataclass(frozen=True)
class Settings:
    """What is asked for; a run's folder belongs to one of these.

    model: a card's name, a hub id or a model's folder. data: a folder of speakers, a CSV or a manifest. seconds: of the
    crops. epochs: of the whole network; None: by how much data there is. banks: of noise and rooms, for augmentation.
    """

    model: str
    data: str
    seconds: float = 3.0
    epochs: float | None = None
    banks: str | None = None


@dataclass(frozen=True)
class Rates:
    """An equal error rate (a share, not percent) and its 95 % interval over speakers; None: too few errors for one."""

    eer: float
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class Report:
    """What fine-tuning did. difference: of the EER, after less before, on the same trials.

    trained_on, held_out: how many speakers and recordings, and for those held out how many trials of each kind.
    start, model: what it began with, and the folder of what it ended with.
    """

    start: str
    model: str
    trained_on: dict[str, int]
    held_out: dict[str, int]
    before: Rates
    after: Rates
    difference: Difference | None
    verdict: str
    notes: list[str]


def finetune(
    settings: Settings,
    folder: Path,
    console: Console,
    track: Track = lambda items, total, what: items,
    offline: bool = False,
    say: Callable[[str], None] = log,
) -> Report:
    """Fine-tune in this folder, or go on with what an earlier call of these settings began there.

    A fifth of the speakers are held out, 10 to 200 of them; nothing is chosen by them, and the last weights are kept.
    First the classification of the other speakers learns while the network is frozen, then both learn, slowly.
    BatchNorms stay as they are throughout: their statistics over a few voices are worse than those they come with. A
    self-supervised front end stays as it is, too.
    Raises TrainingError for too few speakers and for another run's folder, HubError for a model whose weights can't be
    had in torch, and what `loop.train` raises.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise TrainingError("fine-tuning is for one process; `samevoice train RUN/recipe.yaml` repeats it on several")
    _claim(folder, settings)
    card, path = find_model(settings.model, offline, say)
    train, held = _tables(settings.data, folder, track)
    embed = partial(_embeddings, held, folder / "embeddings.sqlite", track)
    before = embed(card, path)
    held, listed = _usable(held, before)
    network = _start(settings.model, folder / "start", offline, say)
    model = loop.train(recipe(settings, card, network, train, folder), folder, console, track)
    report = _report(settings, model, train, held, listed, before, embed(*find_model(model.absolute())))
    with replacing(folder / REPORT) as temporary:
        temporary.write_text(json.dumps(asdict(report), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return report


def recipe(settings: Settings, card: cards.Card, network: SpeakerNetwork, train: pa.Table, folder: Path) -> Recipe:
    """How the model is trained on this table, which is in the run's folder. Raises RecipeError or TrainingError."""
    batch = min(BATCH, len(train))
    steps = len(train) // batch
    front_end = ["front_end"] if hasattr(network, "front_end") else []
    parts = [name for name, _ in network.named_children() if name != "front_end"]
    norms = [name for name, part in network.named_modules() if isinstance(part, _BatchNorm)]
    head = {
        "epochs": min(HEAD_EPOCHS, max(1, round(HEAD_STEPS / steps))),
        "batch": batch,
        "seconds": settings.seconds,
        "optimiser": "adamw",
        "schedule": "cosine",
        "learning_rate": {"peak": 1e-2, "final": 1e-3},
        "frozen": [*front_end, *parts],
        "augmentation": _augmentation(settings.banks, masks=card.features is not None),
    }
    whole = {
        "epochs": settings.epochs or min(EPOCHS, max(1, round(STEPS / steps))),
        "learning_rate": {"peak": 1e-4, "final": 1e-6},
        "warm_up": 0.1,
        "clip": 1.0,
        "parts": {"loss": {"learning_rate": {"peak": 1e-3, "final": 1e-5}}},
        "frozen": [*front_end, *(name for name in norms if not name.startswith("front_end."))],
        "margin": {"final": 0.1},
    }
    values: dict[str, Any] = {
        "name": f"{card.name}-finetuned",
        "source": (
            f"{settings.model} fine-tuned on {settings.data}. The start: {card.name}, trained on {card.trained_on}, "
            f"licence {card.licence}"
        ),
        "network": {"name": network.architecture, "config": network.config, "start": str(folder / "start")},
        "data": {"train": str(folder / "data" / "train.parquet"), "banks": settings.banks},
        "phases": {"classifier": head, "network": whole},
        "workers": min(4, (os.cpu_count() or 1) - 1),
    }
    if card.features is not None:
        features = asdict(card.features)
        values["features"] = {name: features[name] for name in ("window", "scale", "subtract_mean")}
    return validated(values, "fine-tuning")


def split(table: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Recordings as (to train on, held out), by speaker, from their names alone.

    Raises TrainingError if there are too few speakers for an error rate that says anything.
    """
    counts = Counter(table["speaker"].to_pylist())
    usable = {speaker for speaker, count in counts.items() if count >= RECORDINGS}
    if len(usable) < 2 * LEAST:
        raise TrainingError(
            f"{len(usable)} of {len(counts)} speakers have {RECORDINGS} recordings or more, and fine-tuning needs "
            f"{2 * LEAST} of them: {LEAST} to train on, and {LEAST} others to tell whether it helped; with fewer, an "
            f"error rate is chance. Add speakers or recordings, or use the model as it is"
        )
    wanted = min(max(round(SHARE * len(usable)), LEAST), MOST)
    _, held = validation.held_out(_of(table, usable), wanted)
    return _of(table, set(counts) - set(held["speaker"].to_pylist())), held


def _of(table: pa.Table, speakers: Container[str]) -> pa.Table:
    return table.filter(pa.array([speaker in speakers for speaker in table["speaker"].to_pylist()]))


def verdict(before: Rates, after: Rates, difference: Difference | None) -> str:
    """What the two error rates mean, in a sentence."""
    if after.eer >= before.eer:
        worse = "it made the model worse" if difference and difference.distinct else "the error rate is no lower"
        return f"Fine-tuning did not help: {worse} on the speakers held out. Stay with the model as it was."
    if difference is None or not difference.distinct:
        return "The error rate is lower, but by no more than chance may explain: whether fine-tuning helped is open."
    return "Fine-tuning helped."


def _claim(folder: Path, settings: Settings) -> None:
    """The folder is for these settings, from when its speakers are split on: until then a mistake can be mended."""
    path, asked = folder / ASKED, asdict(settings)
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
    bound = any((folder / name).exists() for name in ("recipe.yaml", f"data/{HELD_OUT}"))
    if before != asked and bound:
        raise TrainingError(
            f"{folder}: is another run, or this one with other options; name another folder with --run, or begin again "
            "with --restart"
        )
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(asked, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _tables(data: str, folder: Path, track: Track) -> tuple[pa.Table, pa.Table]:
    """The recordings to train on and those held out; once split, they stay so when recordings are added."""
    places = [folder / "data" / name for name in ("train.parquet", HELD_OUT)]
    if not all(place.exists() for place in places):
        corpus = corpora.read(Data(train=data), folder, track)
        if corpus.sharded:
            raise TrainingError(f"{data}: speakers can't be held out of shards; give their manifest")
        for place, table in zip(places, split(corpus.table), strict=True):
            manifest.write(place, table)
    train, held = map(manifest.read, places)
    return train, held


def _start(model: str, folder: Path, offline: bool, say: Callable[[str], None]) -> SpeakerNetwork:
    """The network that is fine-tuned, in a folder that a recipe can start from."""
    import safetensors.torch

    card, network = torch_network(model, offline, say)
    folder.mkdir(exist_ok=True)
    cards.write_card(replace(card, config=network.config), folder / CARD_FILE)
    with replacing(folder / WEIGHTS_FILE) as temporary:
        safetensors.torch.save_file(network.state_dict(), temporary)
    return network


def _augmentation(banks: str | None, masks: bool) -> dict[str, Any]:
    """What there are banks for, and what needs none."""
    words: dict[str, Any] = {"gain": 0.3}
    if masks:
        words |= {"frequency_masks": 1, "time_masks": 1}
    if banks is None:
        return words
    there = Banks(Path(banks))
    kinds = [k for k in KINDS if all(b in there for b in from_mapping({"probability": 1.0, "kinds": [k]}).banks())]
    if not kinds:
        raise TrainingError(f"{banks}: holds no banks; `samevoice prepare banks` and `prepare rirs` make them")
    return {**words, "probability": 0.5, "kinds": kinds}


def _embeddings(held: pa.Table, cache: Path, track: Track, card: cards.Card, path: Path) -> dict[str, Embedding]:
    """By utterance, as the runtime hears them: what a user of the model gets."""
    rows = held.select(["utterance", "path", "offset", "duration"]).to_pylist()
    clips = [Clip(row["path"], f"{row['duration']} s from {row['offset']} s", partial(_heard, row)) for row in rows]
    with EmbeddingCache(cache, model_key(card, path)) as kept:
        found = embed_all(
            kept, Verifier(card, path), clips, lambda items, total: track(items, total, "held-out speakers")
        )
    results = (result if isinstance(result, AudioError) else result.embedding for result in found)
    return dict(zip((row["utterance"] for row in rows), results, strict=True))


def _heard(row: dict[str, Any]) -> tuple[np.ndarray, int]:
    return read_crop(row["path"], row["offset"], row["duration"], max(round(row["duration"] * RATE), 1), 0), RATE


def _usable(held: pa.Table, found: dict[str, Embedding]) -> tuple[pa.Table, Trials]:
    """What is left of the recordings held out, and their trials; one that a model refuses, every model refuses."""
    names = held["utterance"].to_pylist()
    problems = [found[name] for name in names if isinstance(found[name], AudioError)]
    left = held.filter(pa.array([not isinstance(found[name], AudioError) for name in names]))
    if len(left["speaker"].unique()) < LEAST:
        raise TrainingError(
            f"{len(problems)} of {len(names)} recordings held out can't be used, and fewer than {LEAST} speakers are "
            f"left to tell whether fine-tuning helped. The first: {problems[0]}"
        )
    return left, validation.trials(left)


def _report(
    settings: Settings,
    model: Path,
    train: pa.Table,
    held: pa.Table,
    listed: Trials,
    before: dict[str, Embedding],
    after: dict[str, Embedding],
) -> Report:
    speakers = dict(zip(held["utterance"].to_pylist(), held["speaker"].to_pylist(), strict=True))
    enrolled = [speakers[listed.enrolments[at]] for at in listed.enrol]
    tested = [speakers[listed.tests[at]] for at in listed.test]
    scores = [_scores(listed, found) for found in (before, after)]
    rates = [_rates(row, listed.labels, enrolled, tested) for row in scores]
    difference = None
    with suppress(ValueError):  # no interval to be had
        difference = bootstrap.paired(metrics.eer, scores[0], scores[1], listed.labels, enrolled, tested)
    targets = int(listed.labels.sum())
    return Report(
        start=settings.model,
        model=str(model),
        trained_on={"speakers": len(train["speaker"].unique()), "recordings": len(train)},
        held_out={
            "speakers": len(held["speaker"].unique()),
            "recordings": len(held),
            "targets": targets,
            "nontargets": len(listed) - targets,
        },
        before=rates[0],
        after=rates[1],
        difference=difference,
        verdict=verdict(rates[0], rates[1], difference),
        notes=list(_notes(held, len(before) - len(held), rates[0])),
    )


def _scores(listed: Trials, found: dict[str, Embedding]) -> np.ndarray:
    rows = {name: row for row, name in enumerate(listed.utterances)}
    enrolled = [rows[listed.enrolments[at]] for at in listed.enrol]
    tested = [rows[listed.tests[at]] for at in listed.test]
    return Cosine().transform(np.stack([np.asarray(found[name]) for name in rows]), enrolled, tested)


def _rates(scores: np.ndarray, labels: np.ndarray, enrolled: list[str], tested: list[str]) -> Rates:
    interval = None
    with suppress(ValueError):
        interval = bootstrap.interval(metrics.eer, scores, labels, enrolled, tested)
    return Rates(metrics.eer(scores, labels), interval)


def _notes(held: pa.Table, refused: int, before: Rates) -> Iterable[str]:
    """What a reader of the error rates must know."""
    speakers = len(held["speaker"].unique())
    if speakers < FEW:
        yield (
            f"{speakers} speakers are held out: the interval is wide, and small gains can't be seen. From "
            f"{round(FEW / SHARE)} speakers on, {FEW} or more are"
        )
    sessions = Counter(dict.fromkeys(zip(held["speaker"].to_pylist(), held["session"].to_pylist(), strict=True), 1))
    if len(sessions) == speakers:
        yield (
            "each speaker's recordings are of one session, or their sessions aren't known (SPEAKER/SESSION/any.wav, or "
            "a column session, tells them): on another day and microphone there are more errors"
        )
    if before.eer == 0:
        yield "before fine-tuning there is no error on these speakers: nothing could become better"
    if refused:
        yield f"{refused} recordings of the speakers held out can't be used and are left out: no speech, or damaged"
    yield (
        "the fine-tuned model has no calibration, as its scores lie elsewhere: `samevoice models calibrate` fits one, "
        "best on recordings that are not in this folder; until then verify needs --threshold"
    )

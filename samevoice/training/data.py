"""The utterances of a recipe, from whatever form they are in to the batches of a phase."""

import csv
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa

from samevoice.audio.fbank import FbankSettings
from samevoice.data import corpora, manifest
from samevoice.data.banks import Banks
from samevoice.data.features import FeatureLoader, Features, write
from samevoice.data.loader import Files, Loader, Recordings
from samevoice.data.prepare import Track, prepare
from samevoice.data.sampling import Batches, ShardBatches, ShuffledBatches
from samevoice.data.shards import Shards
from samevoice.evaluation import protocols
from samevoice.evaluation import trials as lists
from samevoice.files import replacing
from samevoice.training.errors import TrainingError
from samevoice.training.recipe import Data, Phase, Recipe
from samevoice.training.validation import Validation, held_out, trials

HELD_OUT = "held_out.csv"


@dataclass
class Corpus:
    """What a run trains on: the utterances' table, and where they are read from."""

    table: pa.Table
    source: Recordings | Features
    banks: Banks | None
    sharded: bool = False

    def without(self, utterances: set[str]) -> "Corpus":
        """The corpus without these utterances, in whatever view."""
        if self.sharded:
            raise TrainingError("validation.held_out can't be taken out of shards; give a protocol or trials")
        names = self.table["utterance"].to_pylist()
        if isinstance(self.source, Features):
            features = self.source.only([name.rpartition("@")[0] not in utterances for name in names])
            return replace(self, table=features.table, source=features)
        table = self.table.filter(pa.array([name not in utterances for name in names]))
        return replace(self, table=table, source=Files(table))


def read(data: Data, folder: Path, track: Track) -> Corpus:
    """The training corpus. folder: of the run, where manifests of CSVs and folders are kept.

    Raises TrainingError for what isn't there or is too little.
    """
    places = [data.train] if isinstance(data.train, str) else data.train
    banks = Banks(Path(data.banks)) if data.banks else None
    if len(places) == 1 and ("://" in places[0] or (Path(places[0]) / "index.parquet").exists()):
        shards = Shards(places[0])
        return Corpus(shards.table, shards, banks, sharded=True)
    tables = {place: _table(Path(place), folder / "data", number, track) for number, place in enumerate(places)}
    table = manifest.together(tables)
    if data.shortest:
        table = table.filter(pa.array(table["duration"].to_numpy() >= data.shortest))
    if len(table["speaker"].unique()) < 2:
        raise TrainingError(f"{', '.join(places)}: training needs utterances of two speakers or more")
    return Corpus(table, Files(table), banks)


def with_views(corpus: Corpus, recipe: Recipe, settings: FbankSettings | None, folder: Path, track: Track) -> Corpus:
    """The corpus as features computed once (data.views)."""
    views = recipe.data.views
    assert views is not None
    if settings is None or corpus.sharded:
        raise TrainingError("data.views are filter banks of files: they fit neither waveform systems nor shards")
    place = Path(views.folder) if views.folder else folder / "features"
    teachers = {phase.distillation.teacher for phase in recipe.phases.values() if phase.distillation}
    if len(teachers) > 1:
        raise TrainingError(f"data.views hold the embeddings of one teacher, not of {' and '.join(sorted(teachers))}")
    write(
        corpus.table,
        place,
        settings,
        views.augmentation,
        corpus.banks,
        views.count,
        views.longest,
        recipe.seed,
        teachers.pop() if teachers else None,
        track=track,
    )
    features = Features(place)
    return Corpus(features.table, features, None)


def validation(
    recipe: Recipe, table: pa.Table, settings: FbankSettings | None, folder: Path
) -> tuple[Validation | None, set[str]]:
    """What the recipe is validated on, and the utterances that it must not be trained on for that.

    folder: of the run. Which recordings are held out is kept there, as a list that `samevoice models calibrate` takes.
    """
    wanted = recipe.validation
    if wanted is None:
        return None, set()
    place = Path(wanted.data) if wanted.data else None
    if wanted.held_out is not None:
        _, held = held_out(table, wanted.held_out, recipe.seed)
        _write_list(held, folder / HELD_OUT)
        chosen = Validation(held, trials(held, recipe.seed), settings, wanted.seconds)
        return chosen, set(held["utterance"].to_pylist())
    if wanted.protocol:
        recordings, listed = protocols.load(protocols.find(wanted.protocol), place)
    else:
        recordings, listed = protocols.recordings(Path(wanted.data or "")), lists.read(Path(wanted.trials or ""))
    return Validation(recordings, listed, settings, wanted.seconds), set()


def classes(corpus: Corpus, phase: Phase) -> int:
    """How many voices the network is to tell apart in this phase."""
    speakers = len(corpus.table["speaker"].unique())
    return speakers if isinstance(corpus.source, Features) else phase.augmentation.speakers(speakers)


def batches(corpus: Corpus, recipe: Recipe, phase: Phase, rank: int = 0, world: int = 1) -> Batches:
    """One process's pieces of the optimiser's batches. Raises TrainingError if they can't be shared equally."""
    pieces = world * phase.accumulate
    if phase.batch % pieces:
        raise TrainingError(
            f"a batch of {phase.batch} can't be shared by {world} processes in {phase.accumulate} pieces each; make "
            f"batch a multiple of {pieces}"
        )
    kind = ShardBatches if corpus.sharded else ShuffledBatches
    size = phase.batch // pieces
    return kind(corpus.table, size, recipe.seed, recipe.data.per_speaker, rank=rank, world=world)


def loader(
    corpus: Corpus, recipe: Recipe, phase: Phase, settings: FbankSettings | None, device, rank: int = 0, world: int = 1
) -> Loader | FeatureLoader:
    """What a phase hears, on the device."""
    mine = batches(corpus, recipe, phase, rank, world)
    if isinstance(corpus.source, Features):
        return FeatureLoader(corpus.source, mine, phase.seconds, phase.augmentation, settings, device)
    return Loader(
        corpus.source, mine, phase.seconds, phase.augmentation, corpus.banks, settings, device, recipe.workers
    )


def _table(place: Path, folder: Path, number: int, track: Track) -> pa.Table:
    if place.suffix == ".parquet":
        return manifest.read(place)
    if not place.exists():
        raise TrainingError(f"{place}: no such manifest, CSV or folder of speakers")
    kind = "folder" if place.is_dir() else "csv"
    output = folder / f"{number}-{place.stem}.parquet"
    prepare(corpora.find(kind), place, output, track=track)
    return manifest.read(output)


def _write_list(recordings: pa.Table, path: Path) -> None:
    rows = zip(recordings["path"].to_pylist(), recordings["speaker"].to_pylist(), strict=True)
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("path", "speaker"), *dict.fromkeys(rows)])

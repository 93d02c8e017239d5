"""Every form that the utterances of a recipe may come in, and that held-out speakers are never trained on."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

torch = pytest.importorskip("torch")
pytest.importorskip("accelerate")
import trainings  # noqa: E402
from trainings import records  # noqa: E402

import samevoice  # noqa: E402
from samevoice.data import manifest, shards  # noqa: E402
from samevoice.data.features import Features  # noqa: E402
from samevoice.hub import calibrate  # noqa: E402
from samevoice.training import checkpoint, data, loop  # noqa: E402
from samevoice.training.distillation import Targets  # noqa: E402
from samevoice.training.errors import TrainingError  # noqa: E402
from samevoice.training.recipe import validated  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_after_another")
SPEAKERS = {f"s{number}" for number in range(trainings.SPEAKERS)}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return trainings.voices(tmp_path_factory.mktemp("data") / "voices")


@pytest.fixture(scope="module")
def spoken(tmp_path_factory, speech):
    """Six voices of 1.2 s: one at six speeds. What hears only speech finds it here."""
    folder = tmp_path_factory.mktemp("spoken")
    rows = []
    for speaker in range(trainings.SPEAKERS):
        speed = 0.8 + 0.08 * speaker
        voice = np.interp(np.arange(0, len(speech) - 1, speed), np.arange(len(speech)), speech)
        for number in range(4):
            path = folder / f"s{speaker}" / f"{number}.wav"
            path.parent.mkdir(exist_ok=True)
            soundfile.write(path, voice[22_000 * number :][:19_200], trainings.RATE)
            rows.append({"utterance": f"s{speaker}/{number}", "speaker": f"s{speaker}", "path": str(path)})
            rows[-1] |= {"rate": trainings.RATE, "offset": 0.0, "duration": 1.2}
    manifest.write(folder / "voices.parquet", rows)
    return folder / "voices.parquet"


@pytest.fixture
def single(monkeypatch):
    """No processes to prepare or compute with: they take seconds to start."""
    prepare, write = data.prepare, data.write
    monkeypatch.setattr(data, "prepare", lambda *a, **k: prepare(*a, **k, jobs=0))
    monkeypatch.setattr(data, "write", lambda *a, **k: write(*a, **k, jobs=0))


def read(train, folder, **words):
    values = trainings.recipe("nothing", {"a": {}})
    recipe = validated({**values, "data": {"train": train, **words}}, "recipe")
    return data.read(recipe.data, folder, lambda items, total, what: items)


def heard(monkeypatch):
    """The rows' utterances that the network is trained on from now on, as they come."""
    names: list[str] = []
    step = loop._Phase._step

    def watched(phase, batches):
        utterances = phase.trainer.corpus.table["utterance"].to_pylist()
        names.extend(utterances[row] for batch in batches for row in batch.rows)
        step(phase, batches)

    monkeypatch.setattr(loop._Phase, "_step", watched)
    return names


def table_of(folder, speakers):
    """A CSV of some speakers, as a user may have one."""
    path = folder / f"{speakers}.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["client_id", "file"])
        rows.writerows([f"{speakers[0]}{n}", f"{speakers[0]}{n}/{k}.wav"] for n in speakers[1:] for k in range(2))
    return path


def test_a_folder_of_speakers(corpus, tmp_path, single):
    found = read(str(corpus.parent), tmp_path / "run")
    assert set(found.table["speaker"].to_pylist()) == SPEAKERS
    assert len(found.table) == trainings.SPEAKERS * trainings.EACH
    assert found.source.crop(0, 160, 0).shape == (160,)
    again = read(str(corpus.parent), tmp_path / "run")
    assert again.table.equals(found.table)


def test_a_csv_and_a_manifest_together(corpus, tmp_path, single):
    first = trainings.voices(tmp_path / "others", 2, 2)
    rows = [{**row, "speaker": "x" + row["speaker"]} for row in manifest.read(first).to_pylist()]
    rows = [{**row, "utterance": "x" + row["utterance"]} for row in rows]
    manifest.write(tmp_path / "others.parquet", rows)
    some = table_of(corpus.parent, "s135")
    found = read([str(some), str(tmp_path / "others.parquet")], tmp_path / "run")
    assert set(found.table["speaker"].to_pylist()) == {"s1", "s3", "s5", "xs0", "xs1"}
    assert len(found.table) == 6 + 4


def test_short_ones_are_left_out(corpus, tmp_path):
    rows = manifest.read(corpus).to_pylist()
    for row in rows[::2]:
        row["duration"] = 0.3
    manifest.write(tmp_path / "short.parquet", rows)
    assert len(read(str(tmp_path / "short.parquet"), tmp_path, shortest=0.5).table) == len(rows) // 2


def test_one_speaker_is_too_few(corpus, tmp_path):
    rows = [row for row in manifest.read(corpus).to_pylist() if row["speaker"] == "s0"]
    manifest.write(tmp_path / "one.parquet", rows)
    with pytest.raises(TrainingError, match=r"one.parquet: training needs utterances of two speakers"):
        read(str(tmp_path / "one.parquet"), tmp_path)


@pytest.mark.parametrize("form", ["files", "views"])
def test_held_out_speakers_are_never_trained_on(form, spoken, tmp_path, monkeypatch, single):
    names = heard(monkeypatch)
    words: dict[str, Any] = {"train": str(spoken)}
    if form == "views":
        words["views"] = {"count": 2, "longest": 1.0, "augmentation": {"speeds": [0.9]}}
    values = trainings.recipe("nothing", {"a": {"epochs": 1}}, data=words, validation={"held_out": 2})
    validation, held = [], loop.corpora.validation
    monkeypatch.setattr(loop.corpora, "validation", lambda *a: validation.append(held(*a)) or validation[0])
    trainings.train(values, tmp_path / "run")
    tested = set(validation[0][0].trials.utterances)
    aside = {name.partition("/")[0] for name in tested}
    trained = {name.partition("/")[0] for name in names}
    assert len(aside) == 2
    assert aside | trained == SPEAKERS
    assert not aside & trained
    listed = calibrate.labelled(tmp_path / "run" / "held_out.csv")
    assert {speaker for _, speaker in listed} == aside
    assert sorted(Path(path).stem for path, _ in listed) == sorted(Path(name).stem for name in tested)
    (place,) = checkpoint.saved(tmp_path / "run")
    centres = trainings.weights(place / "model.safetensors")["loss.weight"]
    assert len(centres) == len(trained) * (2 if form == "views" else 1)  # at speed 0.9 they are other voices


def test_shards(corpus, tmp_path, monkeypatch):
    shards.pack(manifest.read(corpus), tmp_path / "shards", size_mb=1, jobs=0)
    names = heard(monkeypatch)
    values = trainings.recipe(str(tmp_path / "shards"), {"a": {"epochs": 1}})
    trainings.train(values, tmp_path / "run")
    assert len(set(names)) == len(names) >= trainings.SPEAKERS * trainings.EACH - trainings.PHASE["batch"]
    with pytest.raises(TrainingError, match="can't be taken out of shards"):
        trainings.train({**values, "validation": {"held_out": 2}}, tmp_path / "other")


def test_views_with_a_teacher(spoken, tmp_path, monkeypatch, tiny_model, tiny, single):
    """Features are computed once; each example's target is the teacher's embedding of its own utterance."""
    asked: list[tuple[list[int], Any]] = []
    of = Targets.of
    monkeypatch.setattr(Targets, "of", lambda self, *a: asked.append((a[0], of(self, *a))) or asked[-1][1])
    phase = {"epochs": 1, "margin_weight": 0, "distillation": {"teacher": str(tiny_model)}, "batch": 8}
    words = {"train": str(spoken), "views": {"count": 2, "longest": 2.0}}
    network = {"name": "xvector", "config": {**trainings.XVECTOR["config"], "mels": 80}}
    values = trainings.recipe("nothing", {"a": phase}, data=words, network=network, validation={"held_out": 2})
    trainings.train(values, tmp_path / "run")
    features = Features(tmp_path / "run/features")
    assert len(features.table) == 2 * 4 * trainings.SPEAKERS
    assert features.teacher is not None
    path = manifest.read(spoken)["path"][0].as_py()
    expected = tiny.embed(path)
    np.testing.assert_allclose(features.teacher[0], expected / np.linalg.norm(expected), atol=2e-3)
    assert len(asked) == len(records(tmp_path / "run")) == 2 * 4 * 4 // 8
    assert {record["accuracy"] for record in records(tmp_path / "run")} == {None}  # nobody is told from another
    (place,) = checkpoint.saved(tmp_path / "run")
    kept = trainings.weights(place / "model.safetensors")
    assert kept["distillation.projection.weight"].shape == (16, 8)
    changed = (features.folder / "index.parquet").stat().st_mtime_ns
    trainings.train({**values, "seed": 0}, tmp_path / "run")
    assert (features.folder / "index.parquet").stat().st_mtime_ns == changed


def test_a_teacher_of_files_beside_the_classification(corpus, tmp_path, tiny_model):
    phase = {"epochs": 1, "distillation": {"teacher": str(tiny_model)}, "augmentation": {"speeds": [1.0, 0.9]}}
    trainings.train(trainings.recipe(corpus, {"a": phase}), tmp_path / "run")
    plain = {**phase, "distillation": None}
    trainings.train(trainings.recipe(corpus, {"a": plain}), tmp_path / "plain")
    with_teacher, without = (records(tmp_path / name)[0]["loss"] for name in ("run", "plain"))
    assert with_teacher > without  # the same first batch, and what the teacher adds
    assert (tmp_path / "run/teacher.sqlite").exists()


@pytest.mark.parametrize(("network", "mels"), [(trainings.XVECTOR, 16), (trainings.WAVLM, None)])
@pytest.mark.usefixtures("exported")
def test_the_finished_model_is_the_trained_network(network, mels, spoken, tmp_path):
    """Written with its ONNX file, loaded, and it verifies; its embeddings are the torch network's."""
    from samevoice.audio import read as read_audio
    from samevoice.audio.fbank import FbankSettings
    from samevoice.audio.fbank_torch import Fbank
    from samevoice.models import create

    values = trainings.recipe(spoken, {"a": {"epochs": 0.5}}, network=network, name="mine", source="a test")
    model = trainings.train(values, tmp_path / "run")
    assert model == tmp_path / "run/model"
    verifier = samevoice.load(model)
    assert (verifier.card.name, verifier.card.architecture) == ("mine", network["name"])
    one, two = (str(path) for path in sorted(spoken.parent.glob("s0/*.wav"))[:2])
    made = create(network["name"], **network["config"]).eval()
    made.load_state_dict(trainings.weights(model / "model.safetensors"))
    given = torch.from_numpy(read_audio(one))[None]
    with torch.inference_mode():
        expected = made(Fbank(FbankSettings(mels=mels))(given) if mels else given)[0].numpy()
    np.testing.assert_allclose(verifier.embed(one), expected, atol=1e-4 * np.abs(expected).max())
    assert -1 <= verifier.verify(one, two, threshold=0.5).score <= 1
    assert verifier.verify(one, one, threshold=0.5).score == pytest.approx(1)

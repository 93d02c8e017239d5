import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import soundfile
from trainings import WAVLM, voices

torch = pytest.importorskip("torch")
pytest.importorskip("accelerate")
pytest.importorskip("onnxscript")

from rich.console import Console  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

import samevoice  # noqa: E402
from samevoice.audio.fbank import FbankSettings  # noqa: E402
from samevoice.data import manifest  # noqa: E402
from samevoice.data.banks import Recording, build  # noqa: E402
from samevoice.evaluation import metrics  # noqa: E402
from samevoice.evaluation.bootstrap import Difference  # noqa: E402
from samevoice.hub import HubError, cards, save  # noqa: E402
from samevoice.models import create  # noqa: E402
from samevoice.training.errors import TrainingError  # noqa: E402
from samevoice.training.finetune import Rates, Settings, finetune, recipe, split, verdict  # noqa: E402

SPEAKERS, EACH = 21, 3
CONFIG = {"channels": 16, "mels": 16, "embedding_dim": 8}
CARD = cards.Card("small", "xvector", CONFIG, FbankSettings(mels=16), "CC0", "nothing")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("finetune")


@pytest.fixture(scope="module")
def model(place):
    """A small random network's folder."""
    torch.manual_seed(0)
    network = create("xvector", **CONFIG).eval()
    save.save(CARD, network, place / "small")
    return place / "small"


@pytest.fixture(scope="module")
def people(place, speech):
    """One voice at many speeds, a speaker each, three pieces of 1.5 s of each; and one who was heard only once."""
    rows = []
    for speaker in range(SPEAKERS):
        at = np.arange(0, len(speech) - 1, 0.7 + 0.03 * speaker)
        voice = np.interp(at, np.arange(len(speech)), speech).astype(np.float32)
        for number in range(EACH if speaker else 1):
            path = place / "people" / f"s{speaker}" / f"{number}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, voice[number * 24000 :][:24000], 16000)
            about = {"speaker": f"s{speaker}", "path": str(path), "offset": 0.0, "duration": 1.5, "rate": 16000}
            rows.append({"utterance": f"s{speaker}/{number}", **about})
    manifest.write(place / "people.parquet", rows)
    return place / "people.parquet"


@pytest.fixture(scope="module", autouse=True)
def fresh_accelerate():
    """accelerate keeps one state for each process."""
    from accelerate.state import AcceleratorState, GradientState, PartialState

    states = AcceleratorState, GradientState, PartialState
    for state in states:
        state._reset_state()
    yield
    for state in states:
        state._reset_state()


@pytest.fixture(scope="module")
def settings(model, people):
    return Settings(str(model), str(people), seconds=1.0, epochs=3)


@pytest.fixture(scope="module")
def tuned(settings, place):
    return finetune(settings, place / "run", Console(quiet=True))


def eer_by_hand(model, held):
    found = samevoice.load(model).embed_many(held["path"].to_pylist())
    units = found / np.linalg.norm(found, axis=1, keepdims=True)
    rows, columns = np.triu_indices(len(units), 1)
    speakers = np.array(held["speaker"].to_pylist())
    return metrics.eer((units @ units.T)[rows, columns], speakers[rows] == speakers[columns])


def test_error_rates_are_those_of_the_two_models_on_speakers_that_training_never_saw(tuned, settings, place):
    train, held = (manifest.read(place / "run" / "data" / f"{name}.parquet") for name in ("train", "held-out"))
    assert not set(train["speaker"].to_pylist()) & set(held["speaker"].to_pylist())
    assert (len(train), len(held)) == (31, 30)
    assert tuned.trained_on == {"speakers": 11, "recordings": 31}
    assert tuned.held_out == {"speakers": 10, "recordings": 30, "targets": 30, "nontargets": 405}
    assert tuned.before.eer == pytest.approx(eer_by_hand(settings.model, held), abs=1e-3)
    assert tuned.after.eer == pytest.approx(eer_by_hand(tuned.model, held), abs=1e-3)
    assert tuned.before.eer != tuned.after.eer
    for rates in (tuned.before, tuned.after):
        assert rates.interval[0] < rates.eer < rates.interval[1]
    assert tuned.difference.value == pytest.approx(tuned.after.eer - tuned.before.eer)
    assert tuned.difference.low < tuned.difference.high
    written = json.loads((place / "run" / "report.json").read_text())
    assert written["before"]["eer"] == tuned.before.eer
    assert written["verdict"] == tuned.verdict


def test_the_network_learns_and_its_batch_norms_stay_as_they_were(tuned, settings, place):
    before, after = (load_file(f"{folder}/model.safetensors") for folder in (settings.model, tuned.model))
    assert all(torch.equal(before[name], after[name]) for name in before if ".bn." in name or "running" in name)
    assert any("running_mean" in name for name in before)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert {name for name in before if name.endswith("conv.weight")} <= moved
    lines = [json.loads(line) for line in (place / "run" / "log.jsonl").read_text().splitlines()]
    assert {line["phase"] for line in lines} == {"classifier", "network"}


def test_the_model_has_no_calibration_and_says_where_it_comes_from(tuned):
    card = samevoice.load(tuned.model).card
    assert card.calibration is None
    assert (card.name, card.features) == ("small-finetuned", CARD.features)
    assert "small, trained on nothing, licence CC0" in card.notes
    assert any("samevoice models calibrate" in note for note in tuned.notes)
    assert any(note.startswith("10 speakers are held out: the interval is wide") for note in tuned.notes)
    assert any("are of one session" in note for note in tuned.notes)


def test_the_same_command_again_tells_the_same(tuned, settings, command, place):
    words = ["--model", settings.model, "--data", settings.data, "--run", place / "run", "--seconds", "1"]
    ended = command("train", "finetune", *words, "--epochs", "3", "--json")
    assert ended.status == 0, ended.err
    told = json.loads(ended.out)
    assert (told["before"]["eer"], told["after"]["eer"]) == (tuned.before.eer, tuned.after.eer)
    other = command("train", "finetune", *words, "--epochs", "4")
    assert other.status == 2
    assert f"{place / 'run'}: is another run, or this one with other options" in other.err


def test_a_mistake_before_anything_is_split_can_be_mended(settings, tmp_path):
    for wrong, problem in (({"data": "nowhere"}, "nowhere: no such"), ({"model": "nobody"}, "no model called")):
        with pytest.raises((TrainingError, HubError), match=problem):
            finetune(replace(settings, **wrong), tmp_path / "run", Console(quiet=True))
        assert not (tmp_path / "run/data/held-out.parquet").exists()


def test_a_run_of_a_recipe_is_left_alone(settings, tmp_path):
    (tmp_path / "recipe.yaml").write_text("name: mine")
    with pytest.raises(TrainingError, match="is another run"):
        finetune(settings, tmp_path, Console(quiet=True))
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.yaml"]


def table(*counts):
    """Speakers with so many recordings each."""
    names = [(f"s{speaker}", number) for speaker, count in enumerate(counts) for number in range(count)]
    rows = [
        {"utterance": f"{name}/{number}", "speaker": name, "path": "x", "offset": 0.0, "duration": 1.0, "rate": 8000}
        for name, number in names
    ]
    import pyarrow as pa

    return manifest.validate(pa.Table.from_pylist(rows))


@pytest.mark.parametrize(("speakers", "wanted"), [(20, 10), (40, 10), (100, 20), (2000, 200)])
def test_a_fifth_of_the_speakers_is_held_out_of_ten_to_two_hundred(speakers, wanted):
    whole = table(*[3] * speakers, 2, 1)
    train, held = split(whole)
    assert len(held["speaker"].unique()) == wanted
    assert len(train) + len(held) == len(whole)
    assert {f"s{speakers}", f"s{speakers + 1}"} <= set(train["speaker"].to_pylist())  # too few to be held out
    backwards = whole.take(list(reversed(range(len(whole)))))
    assert set(split(backwards)[1]["utterance"].to_pylist()) == set(held["utterance"].to_pylist())


def test_too_few_speakers_are_told_what_is_needed(model, place, tmp_path):
    with pytest.raises(TrainingError, match="^19 of 119 speakers have 3 recordings or more.* needs 20 of them"):
        split(table(*[3] * 19, *[2] * 100))


def test_recordings_without_speech_are_told_before_anything_is_trained(model, tmp_path):
    noise = voices(tmp_path / "noise", 20, 3)
    with pytest.raises(TrainingError, match="30 of 30 recordings held out can't be used, and fewer than 10"):
        finetune(Settings(str(model), str(noise)), tmp_path / "run", Console(quiet=True))
    assert not (tmp_path / "run" / "recipe.yaml").exists()


@pytest.mark.parametrize(
    ("after", "low", "high", "said"),
    [
        (0.02, -0.04, -0.01, "Fine-tuning helped."),
        (0.03, -0.03, 0.01, "whether fine-tuning helped is open"),
        (0.04, -0.01, 0.01, "did not help: the error rate is no lower"),
        (0.05, -0.01, 0.02, "did not help: the error rate is no lower"),
        (0.06, 0.01, 0.03, "did not help: it made the model worse"),
    ],
)
def test_verdicts(after, low, high, said):
    assert said in verdict(Rates(0.04, None), Rates(after, None), Difference(after - 0.04, low, high))


def test_an_error_rate_without_an_interval_shows_no_gain():
    assert "is open" in verdict(Rates(0.04, None), Rates(0.02, None), None)


def made(model, count, tmp_path, **words):
    network = create("xvector", **CONFIG)
    return recipe(Settings(str(model), "people", **words), CARD, network, table(count), tmp_path)


def test_epochs_are_fewer_where_there_is_more_and_batches_smaller_where_there_is_less(model, tmp_path):
    few, many = made(model, 20, tmp_path), made(model, 100_000, tmp_path)
    assert [(phase.epochs, phase.batch) for phase in few.phases.values()] == [(5, 20), (5, 20)]
    assert [(phase.epochs, phase.batch) for phase in many.phases.values()] == [(1, 32), (1, 32)]
    assert made(model, 20, tmp_path, epochs=7).phases["network"].epochs == 7


def test_banks_are_used_for_what_they_hold(model, tmp_path):
    with pytest.raises(TrainingError, match="holds no banks"):
        made(model, 20, tmp_path, banks=str(tmp_path))
    soundfile.write(tmp_path / "noise.wav", np.random.default_rng(0).uniform(-0.1, 0.1, 16000), 16000)
    build("noise", [Recording(str(tmp_path / "noise.wav"))], tmp_path / "banks")
    phase = made(model, 20, tmp_path, banks=str(tmp_path / "banks")).phases["network"]
    assert phase.augmentation.banks() == {"noise"}
    assert made(model, 20, tmp_path).phases["network"].augmentation.banks() == set()


def test_of_a_self_supervised_system_only_the_head_learns(model, tmp_path):
    network: Any = create(WAVLM["name"], **WAVLM["config"])
    card = cards.Card("mine", WAVLM["name"], network.config, None, "CC0", "nothing")
    chosen = recipe(Settings("mine", "people"), card, network, table(40), tmp_path)
    from samevoice.training.network import freeze

    freeze(network, chosen.phases["network"].frozen)
    assert not any(value.requires_grad for value in network.front_end.parameters())
    assert any(value.requires_grad for value in network.head.parameters())
    freeze(network, chosen.phases["classifier"].frozen)
    assert not any(value.requires_grad for value in network.parameters())

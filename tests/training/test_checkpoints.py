import itertools
import json
import shutil
from dataclasses import asdict

import pytest

pytest.importorskip("accelerate")
import trainings
from trainings import curve

from samevoice.training import checkpoint
from samevoice.training.errors import TrainingError

pytestmark = pytest.mark.usefixtures("one_after_another")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A recipe and the folder of a run whose model was deleted, so that it goes on from its last checkpoint."""
    from accelerate.state import AcceleratorState, GradientState, PartialState

    folder = tmp_path_factory.mktemp("checkpoint")
    values = trainings.recipe(
        trainings.voices(folder / "voices", 5), {"a": {"averaging": "ema"}}, validation={"held_out": 2}
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("samevoice.hub.export.export", lambda network, path: None)
        trainings.train(values, folder / "run")
    for part in (AcceleratorState, GradientState, PartialState):
        part._reset_state()
    return values, folder / "run"


@pytest.fixture
def run(finished, tmp_path):
    """A copy of the run, as if killed before its model was written."""
    values, folder = finished
    shutil.copytree(folder, tmp_path / "run")
    shutil.rmtree(tmp_path / "run/model")
    return values, tmp_path / "run"


def test_what_a_checkpoint_says(run):
    _, folder = run
    first, last = checkpoint.saved(folder)
    assert (first.name, last.name) == ("step-00000003", "step-00000006")
    state = checkpoint.read_state(last)
    assert (state.phase, state.epoch, state.batch, state.step, state.total) == ("a", 2, 0, 6, 6)
    assert state.eer == trainings.records(folder, "validation")[-1]["eer"]
    assert (last / "recipe.yaml").read_text() == (folder / "recipe.yaml").read_text()


def test_half_written_checkpoints_are_ignored_and_go(run):
    values, folder = run
    before = curve(folder)
    for name in (".step-00000099.partial", ".step-00000003.old"):
        (folder / "checkpoints" / name).mkdir()
        (folder / "checkpoints" / name / "model.safetensors").write_bytes(b"half")
    trainings.train(values, folder)
    assert [place.name for place in (folder / "checkpoints").iterdir() if place.name.startswith(".")] == []
    assert curve(folder) == before


def test_a_checkpoint_that_was_being_replaced_is_put_back(run):
    _, folder = run
    last = checkpoint.saved(folder)[-1]
    last.rename(last.with_name(f".{last.name}.old"))
    checkpoint.tidy(folder)
    assert checkpoint.saved(folder)[-1] == last
    checkpoint.read_state(last)


FILES = ("state.json", "model.safetensors", "optimizer.bin", "random_states_0.pkl", "average.safetensors")


@pytest.mark.parametrize(
    ("name", "damage"), [*itertools.product(FILES, ["cut off", "gone"]), *((n, "overwritten") for n in FILES[:3])]
)
def test_a_damaged_checkpoint_is_named(name, damage, run):
    values, folder = run
    last = checkpoint.saved(folder)[-1]
    content = (last / name).read_bytes()
    if damage == "gone":
        (last / name).unlink()
    else:
        (last / name).write_bytes(content[:-40] if damage == "cut off" else b"\xff" * len(content))
    with pytest.raises(TrainingError, match="step-00000006: not a whole checkpoint .*; delete it to go on"):
        trainings.train(values, folder)


def test_the_one_before_goes_on_as_the_last_one_did(run):
    values, folder = run
    before = curve(folder)
    shutil.rmtree(checkpoint.saved(folder)[-1])
    trainings.train(values, folder)
    assert curve(folder) == before


def test_a_phases_ends_are_not_its_start(tmp_path):
    kinds = {
        "step-00000003": checkpoint.State("a", epoch=1, step=3, total=3),
        "step-00000006": checkpoint.State("a", epoch=2, step=6, total=6),
        "step-00000006-start": checkpoint.State("b", total=6),
        "step-00000009": checkpoint.State("b", epoch=1, step=3, total=9),
        "step-00000011": checkpoint.State("b", epoch=1, batch=2, step=5, total=11),
    }
    for name, state in kinds.items():
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
        (tmp_path / "checkpoints" / name / "state.json").write_text(json.dumps(asdict(state)))
    assert [place.name for place in checkpoint.ends(tmp_path, "b")] == ["step-00000009"]
    assert [place.name for place in checkpoint.ends(tmp_path, "a")] == ["step-00000003", "step-00000006"]
    checkpoint.prune(tmp_path, keep_best=0, average_last=2)
    assert [place.name for place in checkpoint.saved(tmp_path)] == ["step-00000009", "step-00000011"]

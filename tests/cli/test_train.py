"""`samevoice train`: what a user sees, and how a run ends and goes on."""

import json
import os
import shutil
import signal

import pytest
import yaml

torch = pytest.importorskip("torch")
pytest.importorskip("accelerate")
import trainings  # noqa: E402
from trainings import curve, records, wait_for, written  # noqa: E402

MODEL = "model/model.safetensors"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return trainings.voices(tmp_path_factory.mktemp("train") / "voices")


@pytest.fixture
def recipe(corpus, tmp_path):
    return written(tmp_path / "recipe.yaml", trainings.recipe(corpus, {"a": {}}, validation={"held_out": 2}))


@pytest.fixture(scope="module")
def whole(corpus, tmp_path_factory):
    """A run that nothing interrupted, and what it printed."""
    folder = tmp_path_factory.mktemp("whole")
    file = written(folder / "recipe.yaml", trainings.recipe(corpus, {"a": {}}, validation={"held_out": 2}))
    process = trainings.command("train", file, "--run", folder / "run", output=folder / "told")
    process.join()
    assert process.exitcode == 0, (folder / "told").read_text()
    return folder / "run"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_a_checkpoint_from_which_it_goes_on(number, recipe, whole, tmp_path):
    run, told = tmp_path / "run", tmp_path / "told"
    process = trainings.command("train", recipe, "--run", run, output=told)
    wait_for(lambda: len(records(run)) >= 2, process)
    assert process.pid
    os.kill(process.pid, number)
    process.join()
    assert process.exitcode == 130
    steps = records(run)[-1]["step"]
    assert f"stopped after {steps} steps; the same command goes on from there" in told.read_text()
    assert "Traceback" not in told.read_text()
    assert (run / f"checkpoints/step-{steps:08}").exists()
    process = trainings.command("train", recipe, "--run", run, "workers=1", "log_every=1", output=told)
    process.join()
    assert process.exitcode == 0, told.read_text()
    assert f"going on from {run}/checkpoints/step-{steps:08}" in told.read_text()
    assert curve(run) == curve(whole)
    assert (run / MODEL).read_bytes() == (whole / MODEL).read_bytes()


def test_what_is_printed(whole):
    told = (whole.parent / "told").read_text().splitlines()
    assert told[-1] == str(whole / "model")
    assert told[0].startswith("a, epoch 1 of 2, step 1 of 10: loss ")
    assert sum("EER" in line for line in told) == 2


def test_a_finished_run_says_so(whole, command):
    before = (whole / MODEL).stat().st_mtime_ns
    ended = command("train", whole / "recipe.yaml", "--run", whole, "--json")
    assert ended.status == 0
    assert json.loads(ended.out) == {"model": str(whole / "model"), "run": str(whole)}
    assert f"{whole / 'model'}: this run is finished" in ended.err
    assert (whole / MODEL).stat().st_mtime_ns == before


def test_the_folder_of_another_recipe_is_refused_until_restarted(whole, command, tmp_path, monkeypatch):
    shutil.copytree(whole, tmp_path / "run")
    again = ("train", whole / "recipe.yaml", "--run", tmp_path / "run", "phases.a.epochs=1")
    ended = command(*again)
    assert ended.status == 2
    assert f"{tmp_path / 'run'}: is the run of another recipe" in ended.err
    assert "--restart" in ended.err
    assert (tmp_path / "run/checkpoints").exists()
    process = trainings.command(*again, "--restart", output=tmp_path / "told")
    process.join()
    assert process.exitcode == 0
    assert [record["step"] for record in records(tmp_path / "run")] == [1, 2, 3, 4, 5]


def test_a_run_that_has_no_checkpoint_yet_may_have_its_recipe_mended(recipe, command, tmp_path):
    run = tmp_path / "run"
    ended = command("train", recipe, "--run", run, "data.train=nowhere")
    assert ended.status == 2
    assert "nowhere: no such" in ended.err
    process = trainings.command("train", recipe, "--run", run, output=tmp_path / "told")
    process.join()
    assert process.exitcode == 0, (tmp_path / "told").read_text()


def test_restart_deletes_only_runs(recipe, command, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("years of work")
    ended = command("train", recipe, "--run", tmp_path / "mine", "--restart")
    assert ended.status == 2
    assert "is not a run's folder" in ended.err
    assert (tmp_path / "mine/thesis.txt").exists()


def test_show_can_be_given_back(recipe, command, tmp_path):
    shown = command("train", recipe, "--show", "phases.a.epochs=7")
    assert shown.status == 0
    (tmp_path / "shown.yaml").write_text(shown.out)
    assert command("train", tmp_path / "shown.yaml", "--show").out == shown.out
    values = json.loads(command("train", tmp_path / "shown.yaml", "--show", "--json").out)
    assert values == yaml.safe_load(shown.out)
    assert values["phases"]["a"]["epochs"] == 7
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("phases.a.epoch=3", "did you mean epochs?"),
        ("phases.b.epochs=3", "no phase 'b'"),
        ("network.name=eres2nett", "did you mean"),
        ("phases.a.frozen=[layer9]", "the network has no part 'layer9'"),
        ("phases.a.parts={network.layer9: {weight_decay: 0}}", "there is no part 'network.layer9'"),
        ("phases.a.batch=500", "fewer utterances than one batch of 500"),
        ("validation.held_out=5", "5 of 6 speakers can't be held out"),
        ("data.train=/nowhere.parquet", "/nowhere.parquet: no such file"),
        ("network.start=/nowhere", "/nowhere/card.yaml: no such file"),
    ],
)
def test_what_is_wrong_is_told_in_a_line(change, told, recipe, command, tmp_path, monkeypatch):
    ended = command("train", recipe, "--run", tmp_path / "run", change)
    assert ended.status == 2
    assert told in ended.err
    assert "Traceback" not in ended.err
    assert not (tmp_path / "run/checkpoints").exists()


def test_dry_run_as_a_table_and_as_json(recipe, command, tmp_path):
    table = command("train", recipe, "--dry-run")
    assert table.status == 0
    (cost,) = json.loads(command("train", recipe, "--dry-run", "--json").out)
    assert f"{cost['parameters']:,}" in table.out
    assert not (tmp_path / "run").exists()

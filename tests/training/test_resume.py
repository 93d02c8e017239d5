"""A run that is killed at any moment goes on bit for bit."""

import random

import pytest

pytest.importorskip("accelerate")
import trainings
from trainings import curve, wait_for, written

MASKS = {"frequency_masks": 1, "time_masks": 1}
# Two phases that differ in classes and averaging; a log whose lines are not at the ends of epochs; dropout, or workers
CASES = {
    "dropout": {
        "network": trainings.WAVLM,
        "validation": {"held_out": 2},
        "log_every": 3,
        "phases": {
            "frozen": {"frozen": ["front_end"], "averaging": "swa", "augmentation": {"gain": 0.5}},
            "joint": {"frozen": ["front_end.convolutions"], "averaging": "none"},
        },
    },
    "workers": {
        "validation": {"held_out": 2, "every": 2},
        "workers": 2,
        "phases": {
            "voices": {"augmentation": {"speeds": [1.0, 0.9], **MASKS}, "averaging": "ema", "ema_decay": 0.8},
            "plain": {"augmentation": MASKS, "epochs": 1.5, "accumulate": 2},
        },
    },
}


@pytest.fixture(scope="module", params=CASES)
def whole(request, tmp_path_factory):
    """A recipe, and the folder of a run of it that nothing interrupted."""
    folder = tmp_path_factory.mktemp(request.param)
    values = trainings.recipe(trainings.voices(folder / "voices"), checkpoint_minutes=1e-9, **CASES[request.param])
    file = written(folder / "recipe.yaml", values)
    finish(file, folder / "whole")
    return file, folder / "whole"


def killed_often(file, folder, moments):
    """The run, killed when what a moment waits for can be seen: so many more lines, perhaps a half-written checkpoint.

    A run gets no further than its first line, if it is not given time until there is a checkpoint.
    """
    for lines, writing in moments:
        process = trainings.command("train", file, "--run", folder, output=folder.with_suffix(".txt"))
        before = len(logged(folder))
        wait_for(lambda before=before, lines=lines: len(logged(folder)) >= before + lines, process)
        if writing:
            wait_for(lambda: any((folder / "checkpoints").glob(".step-*")), process)
        process.kill()
        process.join()
    finish(file, folder)


def finish(file, folder):
    output = folder.with_suffix(".txt")
    process = trainings.command("train", file, "--run", folder, output=output)
    process.join()
    assert process.exitcode == 0, output.read_text()


def logged(folder):
    path = folder / "log.jsonl"
    return path.read_text().splitlines() if path.exists() else []


def assert_same_run(run, whole):
    assert curve(run) == curve(whole)
    assert (run / "model/model.safetensors").read_bytes() == (whole / "model/model.safetensors").read_bytes()
    assert [path.name for path in run.glob("checkpoints/.*")] == []


def test_killed_and_continued(whole, tmp_path):
    file, folder = whole
    killed_often(file, tmp_path / "run", [(1, False), (2, True), (3, False), (2, True)])
    assert_same_run(tmp_path / "run", folder)


@pytest.mark.slow
def test_killed_at_many_random_moments(whole, tmp_path):
    file, folder = whole
    moments = random.Random(0)
    killed_often(file, tmp_path / "run", [(moments.randint(1, 4), moments.random() < 0.5) for _ in range(25)])
    assert_same_run(tmp_path / "run", folder)

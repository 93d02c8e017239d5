import json

import pytest

pytest.importorskip("torch")
pytest.importorskip("accelerate")

from samevoice.evaluation.bootstrap import Difference
from samevoice.training import finetune
from samevoice.training.finetune import Rates, Report, Settings
from samevoice.training.loop import Stopped

REPORT = Report(
    start="default",
    model="runs/default-finetuned/model",
    trained_on={"speakers": 48, "recordings": 430},
    held_out={"speakers": 12, "recordings": 100, "targets": 608, "nontargets": 6773},
    before=Rates(0.0329, (0.0075, 0.0638)),
    after=Rates(0.0343, None),
    difference=Difference(0.0014, -0.0176, 0.0113),
    verdict="Fine-tuning did not help.",
    notes=["the interval is wide [of 12]"],
)


@pytest.fixture
def asked(monkeypatch):
    """What the command asks for; it gets REPORT."""
    calls = []
    monkeypatch.setattr(finetune, "finetune", lambda *words: calls.append(words) or REPORT)
    return calls


def test_table(command, asked, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ended = command("train", "finetune", "--data", "people")
    assert ended.status == 0, ended.err
    assert asked[0][0] == Settings("default", "people", 3.0, None, None)
    assert str(asked[0][1]) == "runs/default-finetuned"
    lines = ended.out.splitlines()
    assert "12 speakers held out, 608 + 6,773 trials" in lines[0]
    for words in (
        ["before: default", "3.29 %", "0.75 to 6.38 %"],
        ["after fine-tuning", "3.43 %", "not to be had"],
        ["difference", "+0.14 %", "-1.76 to 1.13 %"],
        ["Fine-tuning did not help."],
        ["- the interval is wide [of 12]"],
        ["The fine-tuned model: runs/default-finetuned/model"],
    ):
        assert any(all(word in line for word in words) for line in lines), words


def test_json(command, asked):
    told = json.loads(command("train", "finetune", "--data", "people", "--json").out)
    assert told["before"] == {"eer": 0.0329, "interval": [0.0075, 0.0638]}
    assert told["held_out"]["speakers"] == 12


def test_restart_deletes_its_own_runs_only(command, asked, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "recipe.yaml").write_text("name: another")
    ended = command("train", "finetune", "--data", "people", "--run", run, "--restart")
    assert ended.status == 2
    assert "--restart won't delete it" in ended.err
    (run / "finetune.json").write_text("{}")
    assert command("train", "finetune", "--data", "people", "--run", run, "--restart").status == 0
    assert not run.exists()


def test_after_ctrl_c_it_says_how_to_go_on(command, monkeypatch):
    def stopped(*_):
        raise Stopped("stopped after 12 steps; the same command goes on from there")

    monkeypatch.setattr(finetune, "finetune", stopped)
    ended = command("train", "finetune", "--data", "people")
    assert ended.status == 130
    assert "stopped after 12 steps; the same command goes on" in ended.err


def test_what_is_not_there_is_told(command, tmp_path, tiny_model):
    missing = tmp_path / "nobody"
    ended = command("train", "finetune", "--model", tiny_model, "--data", missing, "--run", tmp_path / "run")
    assert ended.status == 2
    assert f"{missing}: no such manifest, CSV or folder of speakers" in ended.err

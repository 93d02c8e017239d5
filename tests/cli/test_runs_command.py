import json
import xml.etree.ElementTree as ET

import pytest

RECORDS = """\
{"kind": "step", "phase": "standard", "epoch": 0, "step": 1200, "loss": 4.5, "time": 61.0}
{"kind": "validation", "phase": "standard", "epoch": 0, "step": 1200, "eer": 0.125, "trials": 40}
"""


@pytest.fixture
def folder(tmp_path):
    for name, seed in (("first", 1), ("second", 2)):
        run = tmp_path / "runs" / name
        run.mkdir(parents=True)
        (run / "recipe.yaml").write_text(f"name: mini\nseed: {seed}\nphases: {{standard: {{epochs: 2}}}}\n")
        (run / "log.jsonl").write_text(RECORDS)
    return tmp_path / "runs"


def test_list(command, folder, monkeypatch):
    ended = command("runs", folder)
    assert ended.status == 0, ended.err
    for word in ("first", "second", "running", "1 of 2, standard", "1,200", "4.500", "12.50% at 1,200", "0:01:01"):
        assert word in ended.out
    monkeypatch.chdir(folder.parent)
    assert command("runs").out == ended.out  # ./runs where nothing is said
    assert command("runs", "list", "runs").out == ended.out


def test_list_as_json(command, folder):
    told = json.loads(command("runs", folder, "--json").out)
    assert {run["name"] for run in told} == {"first", "second"}
    assert (told[0]["steps"], told[0]["best_eer"], told[0]["state"]) == (1200, 0.125, "running")


def test_no_runs(command, tmp_path):
    ended = command("runs", tmp_path)
    assert ended.status == 2
    assert f"{tmp_path}: no runs here" in ended.err
    assert "Traceback" not in ended.err
    assert json.loads(command("runs", tmp_path / "nowhere", "--json").out)["error"].endswith("or name another folder")


def test_a_damaged_run_is_named(command, folder):
    (folder / "second" / "log.jsonl").write_text("no\n")
    ended = command("runs", folder)
    assert ended.status == 0
    assert "damaged" in ended.out
    assert "second/log.jsonl, line 1" in ended.err


def test_compare_draws(command, folder, tmp_path):
    ended = command("runs", "compare", folder / "first", folder / "second", "-o", tmp_path / "a.svg")
    assert ended.status == 0, ended.err
    assert "seed" in ended.out
    assert "settings that differ" in ended.out
    assert f"{tmp_path}/a.svg written" in ended.out
    picture = ET.parse(tmp_path / "a.svg").getroot()
    assert {"first", "second"} <= {text.text for text in picture.iter("{http://www.w3.org/2000/svg}text")}


def test_compare_as_html_and_json(command, folder, tmp_path):
    output = tmp_path / "a.html"
    told = json.loads(command("runs", "compare", folder / "first", folder / "second", "-o", output, "--json").out)
    assert told["differences"] == {"seed": [1, 2]}
    assert [run["name"] for run in told["runs"]] == ["first", "second"]
    assert "<td>seed</td><td>1</td><td>2</td>" in output.read_text()


def test_runs_of_one_name_are_told_by_path(command, folder, tmp_path):
    (tmp_path / "b").mkdir()
    (folder / "first").rename(tmp_path / "b" / "second")
    both = (tmp_path / "b" / "second", folder / "second")
    told = json.loads(command("runs", "compare", *both, "-o", tmp_path / "a.svg", "--json").out)
    assert [run["name"] for run in told["runs"]] == [str(path) for path in both]


@pytest.mark.parametrize(("what", "output", "message"), [
    ("first", "a.png", "written as .svg or .html"),
    ("nowhere", "a.svg", "no run is here"),
])  # fmt: skip
def test_bad_input(command, folder, tmp_path, what, output, message):
    ended = command("runs", "compare", folder / what, "-o", tmp_path / output)
    assert ended.status == 2
    assert message in ended.err
    assert not (tmp_path / output).exists()

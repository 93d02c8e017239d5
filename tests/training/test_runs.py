import json
import os
import re
import time
import xml.etree.ElementTree as ET

import numpy as np
import pytest
import yaml

from samevoice.training import runs
from samevoice.training.watching import Log

RECIPE = {
    "name": "small",
    "seed": 0,
    "network": {"name": "eres2net", "config": {}},
    "phases": {"standard": {"epochs": 3, "batch": 8}, "large": {"epochs": 1.5, "batch": 8}},
}
SVG = "{http://www.w3.org/2000/svg}"


def a_run(folder, losses=(5.0, 4.0, 3.0), eers=(0.4, 0.2, 0.3), age=3600.0, **changes):
    """A run of 10 steps an epoch, the last of its epochs in the phase "large", whose log was written so long ago."""
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text(yaml.safe_dump({**RECIPE, **changes}, sort_keys=False))
    log = Log(folder / "log.jsonl")
    for number, (loss, eer) in enumerate(zip(losses, eers, strict=True), 1):
        where = {"phase": "standard", "epoch": number - 1} if number < 3 else {"phase": "large", "epoch": 0}
        about = {**where, "step": number * 10}
        log.append({"kind": "step", **about, "loss": loss, "time": number * 60.0})
        log.append({"kind": "validation", **about, "eer": eer, "trials": 100})
    for path in folder.iterdir():
        os.utime(path, (time.time() - age,) * 2)
    return folder


def finished(folder, tensors):
    """What training leaves at the end; tensors: name -> shape."""
    (folder / "model").mkdir()
    (folder / "model" / "card.yaml").write_text("name: small\n")
    at, header = 0, {"__metadata__": {"format": "pt"}}
    for name, shape in tensors.items():
        size = 4 * int(np.prod(shape))
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    (folder / "model" / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(at))
    return folder


def test_what_a_log_says(tmp_path):
    run = runs.load(a_run(tmp_path / "first"))
    assert (run.name, run.state, run.phase) == ("first", "stopped", "large")
    assert (run.epochs, run.planned_epochs, run.steps) == (3, 4.5, 30)
    assert (run.loss, run.best_eer, run.best_step, run.seconds) == (3.0, 0.2, 20, 180.0)
    assert run.parameters is None
    row = ["first", "stopped", "3 of 4.5, large", "30", "3.000", "20.00% at 20", "", "0:03:00"]
    assert run.row()[:-1] == row
    assert len(row) + 1 == len(runs.HEADS)


def test_states(tmp_path):
    assert runs.load(a_run(tmp_path / "a", age=10)).state == "running"
    assert runs.load(a_run(tmp_path / "b", age=runs.RECENT + 10)).state == "stopped"
    assert runs.load(finished(a_run(tmp_path / "c", age=10), {"w": [2]})).state == "finished"


def test_a_run_that_has_just_begun(tmp_path):
    run = runs.load(a_run(tmp_path / "new", (), (), age=1))
    assert (run.state, run.epochs, run.steps, run.loss, run.best_eer) == ("running", 0, 0, None, None)
    assert run.row()[2:6] == ["0 of 4.5", "0", "", ""]


def test_parameters_are_those_of_torch(tmp_path):
    torch = pytest.importorskip("torch")
    safetensors = pytest.importorskip("safetensors.torch")
    network = torch.nn.Sequential(torch.nn.Conv1d(3, 5, 2), torch.nn.BatchNorm1d(5), torch.nn.PReLU())
    folder = finished(a_run(tmp_path / "a"), {})
    safetensors.save_file(network.state_dict(), folder / "model" / "model.safetensors")
    assert runs.load(folder).parameters == sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize("content", [b"", b"\xff" * 100, b"version https://git-lfs"])
def test_weights_that_are_none_have_no_parameters(tmp_path, content):
    folder = finished(a_run(tmp_path / "a"), {})
    (folder / "model" / "model.safetensors").write_bytes(content)
    assert runs.load(folder).parameters is None


def test_find_searches_folders_but_not_runs(tmp_path):
    a_run(tmp_path / "old", age=9000)
    a_run(tmp_path / "group" / "young", age=1000)
    inside = finished(a_run(tmp_path / "group" / "middle", age=5000), {"w": [4, 2]})
    (inside / "checkpoints" / "step-00000010").mkdir(parents=True)
    (inside / "checkpoints" / "step-00000010" / "recipe.yaml").write_text("{}")
    (tmp_path / "empty").mkdir()
    found = runs.find(tmp_path)
    assert [run.name for run in found] == ["group/young", "group/middle", "old"]
    assert found[1].parameters == 8
    assert [run.name for run in runs.find(inside)] == ["middle"]


def test_nothing_to_find(tmp_path):
    with pytest.raises(ValueError, match="no runs here; `samevoice train RECIPE` writes them"):
        runs.find(tmp_path)
    with pytest.raises(ValueError, match="nowhere: no such folder"):
        runs.find(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=f"{tmp_path}: no run is here"):
        runs.load(tmp_path)


@pytest.mark.parametrize(
    ("file", "content", "problem"),
    [
        ("log.jsonl", "{\n{}\n", "log.jsonl, line 1: not a record"),
        ("log.jsonl", '{"kind": "step", "step": 3}\n', "log.jsonl: some of its records have no phase"),
        ("recipe.yaml", "a: [", "recipe.yaml: not YAML"),
        ("recipe.yaml", "words", "recipe.yaml: holds no settings"),
    ],
)
def test_a_damaged_run_does_not_hide_the_others(tmp_path, file, content, problem):
    a_run(tmp_path / "good")
    (a_run(tmp_path / "bad") / file).write_text(content)
    found = {run.name: run for run in runs.find(tmp_path)}
    assert found["good"].state == "stopped"
    assert found["bad"].state == "damaged"
    assert problem in found["bad"].problem
    assert "bad" in found["bad"].problem


def test_half_a_last_line_is_no_damage(tmp_path):
    folder = a_run(tmp_path / "killed")
    with (folder / "log.jsonl").open("a") as file:
        file.write('{"kind": "ste')
    assert runs.load(folder).steps == 30


def test_told_is_json(tmp_path):
    folder = a_run(tmp_path / "a", losses=(5.0, 4.0, float("inf")))
    told = json.loads(json.dumps(runs.load(folder).told(), allow_nan=False))
    assert told["loss"] is None
    assert told["folder"] == str(folder)
    assert told["best_eer"] == 0.2
    assert not {"records", "recipe"} & set(told)


def test_differences_are_the_settings_that_differ(tmp_path):
    network = {"name": "eres2net", "config": {"channels": 16}}
    phases = {**RECIPE["phases"], "standard": {"epochs": 3, "batch": 16}}
    one = runs.load(a_run(tmp_path / "one"))
    two = runs.load(a_run(tmp_path / "two", network=network))
    three = runs.load(a_run(tmp_path / "three", phases=phases))
    assert runs.differences([one, two, three]) == {
        "network.config": [{}, None, {}],
        "phases.standard.batch": [8, 8, 16],
        "network.config.channels": [None, 16, None],
    }
    assert runs.differences([one, one]) == {}


def texts(element):
    return [text.text for text in element.iter(f"{SVG}text")]


def test_the_picture_has_both_curves_in_the_same_colours(tmp_path):
    first = runs.load(a_run(tmp_path / "first"))
    second = runs.load(a_run(tmp_path / "sec<ond", losses=(6.0, 5.0, 1.0)))
    never = runs.load(a_run(tmp_path / "never", losses=(1.0,), eers=(float("nan"),)))
    picture = ET.fromstring(runs.draw([first, never, second]))
    loss, eer = picture.findall(f"{SVG}svg")
    for panel, label in ((loss, "loss"), (eer, "EER (%)")):
        assert {label, "step", "first", "never", "sec<ond"} <= set(texts(panel))
        colours = {group.get("class"): group for group in panel.iter(f"{SVG}g") if group.find(f"{SVG}path") is not None}
        assert {"s0", "s2"} <= set(colours)
    assert {"10", "20", "30", "40"} <= set(texts(eer))  # percent
    assert len(list(loss.iter(f"{SVG}circle"))) == 1  # one point is no line
    assert not list(eer.iter(f"{SVG}circle"))  # NaN is no point
    line = next(path.get("d") for path in loss.iter(f"{SVG}path") if path.get("class") == "line")
    heights = [float(y) for y in re.findall(r" ([\d.]+)", line)]
    assert len(heights) == 3
    assert heights == sorted(heights)  # the loss falls, downwards


def test_long_curves_are_thinned_to_means(tmp_path):
    count = 10 * runs.POINTS
    run = runs.load(a_run(tmp_path / "long", losses=[float(i % 2) for i in range(count)], eers=[0.1] * count))
    panel = runs.plots([run])[0]
    line = max(re.findall(r'd="(M[^"]*)"', panel), key=len)
    points = re.findall(r"[ML][\d.]+ ([\d.]+)", line)
    assert len(points) == runs.POINTS
    assert len(set(points)) == 1  # every mean is 0.5


def test_page_holds_tables_and_drawings(tmp_path):
    found = [runs.load(a_run(tmp_path / "<one>")), runs.load(a_run(tmp_path / "two", seed=7))]
    page = runs.page(found)
    assert page.count("<svg") == 2
    assert "&lt;one&gt;" in page
    assert "<one>" not in page
    assert "<tr><td>seed</td><td>0</td><td>7</td></tr>" in page
    assert "<th>best EER</th>" in page
    assert "The same recipe" in runs.page(found[:1])

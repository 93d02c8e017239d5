import json
from pathlib import Path

import pytest
from data.corpora_made_up import put

from samevoice.data import manifest
from samevoice.data.corpora import CORPORA
from samevoice.data.shards import Shards


@pytest.fixture
def people(tmp_path) -> Path:
    place = put(tmp_path / "people", "ann/a.wav", "ann/b.wav", "bob/a.wav")
    (place / "bob" / "bad.wav").write_text("no sound")
    return place


def test_a_folder_of_speakers(people, tmp_path, command):
    ended = command("prepare", "folder", people, "-o", tmp_path / "m.parquet", "--jobs", "0")
    assert ended.status == 0
    assert "all  │        2 │    │          3 │" in ended.out
    assert f"{tmp_path}/m.parquet: 3 utterances" in ended.out
    assert f"left out: {people}/bob/bad.wav: is not a recording we can read" in ended.err
    assert f"all that was left out: {tmp_path}/m.failed.csv" in ended.err
    assert len(manifest.read(tmp_path / "m.parquet")) == 3


@pytest.mark.parametrize("name", CORPORA)
def test_without_a_folder_each_tells_how_to_get_it(name, command):
    ended = command("prepare", name)
    assert ended.status == 0
    assert f"samevoice prepare {name} DIR -o {name}.parquet" in ended.out
    if name not in ("folder", "csv", "kaldi"):
        assert "https://" in ended.out


@pytest.mark.parametrize(("arguments", "message"), [
    (["folder", "PEOPLE"], "say where the manifest goes, such as -o folder.parquet"),
    (["folder", "PEOPLE", "-o", "m.csv"], "m.csv: the manifest's name must end in .parquet"),
    (["folder", "PEOPLE", "-o", "m.parquet", "--convert", "mp3"], "--convert mp3: only flac can be written"),
    (["voxceleb1", "PEOPLE", "-o", "m.parquet"], "nothing found; expected id10001/VIDEO/00001.wav"),
    (["voxceleb1", "nowhere", "-o", "m.parquet"], "nowhere: no such folder"),
    (["csv", "nowhere.csv", "-o", "m.parquet"], "nowhere.csv: no such file"),
    (["kaldi", "PEOPLE", "-o", "m.parquet"], "no wav.scp, so it is no Kaldi data folder"),
    (["hf", "nowhere", "-o", "m.parquet"], "no such folder, and no OWNER/NAME"),
    (["rirs", "--simulate"], "needs a folder to write to"),
    (["shards", "nowhere.parquet", "-o", "s"], "nowhere.parquet: no such file; write it with `samevoice prepare`"),
    (["banks", "noise=nowhere", "-o", "b"], "noise=nowhere: holds no noise"),
])  # fmt: skip
def test_bad_input(people, tmp_path, monkeypatch, command, arguments, message):
    monkeypatch.chdir(tmp_path)
    ended = command("prepare", *(people if word == "PEOPLE" else word for word in arguments), "--json")
    assert ended.status == 2
    assert message in json.loads(ended.out)["error"]
    assert "Traceback" not in ended.err
    assert not (tmp_path / "m.parquet").exists()


def test_what_is_missing_of_a_corpus(tmp_path, command):
    place = put(tmp_path / "vox1", "id10270/a/00001.wav", "id10271/b/00001.wav")
    (place / "list_test_hard2.txt").write_text("1 id10270/a/00001.wav id10270/a/00002.wav\n")
    ended = command("prepare", "voxceleb1", place, "-o", tmp_path / "m.parquet", "--jobs", "0")
    assert ended.status == 0
    assert "test │        2 │    40 │          2 │   4,874 │" in ended.out
    assert "not there: dev\n" in ended.out
    assert "test: 4,872 of 4,874 published utterances are missing" in ended.out
    assert "test: nothing of 38 speakers: id10272, id10273," in ended.out
    assert "list_test_hard2.txt: 1 trials (published: 550,894), 1 of their utterances are missing" in ended.out


def test_options_of_tables(people, tmp_path, command):
    (tmp_path / "list.csv").write_text("who,where\nann,ann/a.wav\nbob,bob/a.wav\n")
    words = ["--root", people, "--path-column", "where", "--speaker-column", "who", "--prefix", "x-"]
    ended = command("prepare", "csv", tmp_path / "list.csv", "-o", tmp_path / "m.parquet", "--jobs", "0", *words)
    assert ended.status == 0
    table = manifest.read(tmp_path / "m.parquet")
    assert table["speaker"].to_pylist() == ["x-ann", "x-bob"]
    assert all(Path(path).is_file() for path in table["path"].to_pylist())


def test_shards(people, tmp_path, command):
    pytest.importorskip("webdataset", reason="shards are written with webdataset")
    command("prepare", "folder", people, "-o", tmp_path / "m.parquet", "--jobs", "0")
    ended = command("prepare", "shards", tmp_path / "m.parquet", "-o", tmp_path / "s", "--convert", "flac")
    assert ended.out == f"{tmp_path}/s: 3 utterances in 1 shards\n"
    assert {path.rsplit(".")[-1] for path in Shards(tmp_path / "s").table["path"].to_pylist()} == {"flac"}
    ended = command("prepare", "shards", tmp_path / "m.parquet", "-o", tmp_path / "s", "--convert", "flac", "--json")
    assert json.loads(ended.out) == {
        "output": f"{tmp_path}/s", "shards": 1, "written": 0, "utterances": 3, "failed": []
    }  # fmt: skip
    ended = command("prepare", "shards", tmp_path / "m.parquet", "-o", tmp_path / "s", "--no-mix")
    assert ended.status == 2
    assert "choose another folder" in ended.err


def test_simulated_rooms_say_so(tmp_path, command):
    pytest.importorskip("pyroomacoustics", reason="rooms are simulated with pyroomacoustics")
    words = ["--simulate", "--rooms", "2", "--noises", "1", "-o", tmp_path / "banks"]
    ended = command("prepare", "rirs", *words)
    assert ended.status == 0
    assert "no room was measured and no noise recorded" in ended.err
    assert ended.out == f"{tmp_path}/banks: banks of 2 simulated rooms and 1 simulated noises\n"
    told = json.loads(command("prepare", "rirs", *words, "--json").out)
    assert told == {"output": f"{tmp_path}/banks", "simulated": True, "rooms": 2, "noises": 1}


def test_banks(tmp_path, command):
    put(tmp_path / "musan", "music/fma/music-fma-0000.wav", "noise/free-sound/noise-free-sound-0000.wav")
    command("prepare", "musan", tmp_path / "musan", "-o", tmp_path / "musan.parquet", "--jobs", "0")
    put(tmp_path / "rooms", "a.wav", "b.wav")
    arguments = ["prepare", "banks", tmp_path / "musan.parquet", f"rir={tmp_path}/rooms", "-o", tmp_path / "banks"]
    assert command(*arguments).out.splitlines() == [
        f"{tmp_path}/banks/music: 1 recordings",
        f"{tmp_path}/banks/noise: 1 recordings",
        f"{tmp_path}/banks/rir: 2 recordings",
    ]
    told = json.loads(command(*arguments, "--json").out)["banks"]
    assert told["rir"] == {"recordings": 2, "failed": []}


def test_preview(people, tmp_path, command):
    pytest.importorskip("matplotlib", reason="the picture is drawn with matplotlib")
    command("prepare", "folder", people, "-o", tmp_path / "m.parquet", "--jobs", "0")
    (tmp_path / "recipe.yaml").write_text("augmentation: {}\n")
    words = ["--manifest", tmp_path / "m.parquet", "--count", "2", "--seconds", "0.5", "-o", tmp_path / "heard"]
    ended = command("prepare", "preview", tmp_path / "recipe.yaml", *words)
    assert ended.status == 0, ended.err
    assert sorted(path.suffix for path in (tmp_path / "heard").iterdir()) == [".png", ".wav", ".wav"]
    assert len(ended.out.splitlines()) == 3
    (tmp_path / "recipe.yaml").write_text("augmentation: {nois: 1}\n")
    assert command("prepare", "preview", tmp_path / "recipe.yaml").status == 2

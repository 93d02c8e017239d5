import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import soundfile
from data.corpora_made_up import put, sound
from recordings import encode

from samevoice.data import corpora, manifest, prepare
from samevoice.data.corpora import CorpusError
from samevoice.data.prepare import Checked, Task

SPEECH = Path(__file__).parents[3] / "shared" / "speech"
real = pytest.mark.skipif(not SPEECH.is_dir(), reason="../shared/speech is not here")


def prepared(name: str, folder: Path, output: Path, **options):
    return prepare.prepare(corpora.find(name), folder, output, jobs=options.pop("jobs", 0), **options)


@pytest.fixture
def folder(tmp_path) -> Path:
    """Ann (twice), bob at 8 kHz, and three files that are no recordings."""
    place = put(tmp_path / "people", "ann/a.wav", "ann/b.flac", seconds=0.5)
    put(place, "bob/a.wav", seconds=0.25, rate=8000)
    (place / "bob" / "empty.wav").touch()
    (place / "bob" / "text.mp3").write_text("no sound")
    flac = (place / "ann" / "b.flac").read_bytes()
    (place / "bob" / "cut.flac").write_bytes(flac[: len(flac) // 2])
    return place


def test_a_manifest_of_what_can_be_used(folder, tmp_path):
    summary = prepared("folder", folder, tmp_path / "m.parquet")
    rows = {row["utterance"]: row for row in manifest.read(tmp_path / "m.parquet").to_pylist()}
    assert sorted(rows) == ["ann/a.wav", "ann/b.flac", "bob/a.wav"]
    assert (rows["bob/a.wav"]["rate"], rows["bob/a.wav"]["duration"]) == (8000, 0.25)
    assert rows["ann/b.flac"]["path"] == str(folder / "ann" / "b.flac")
    assert [(part.speakers, part.utterances) for part in summary.parts] == [(2, 3)]
    assert summary.parts[0].hours == pytest.approx(1.25 / 3600)
    assert sorted(Path(failure.path).name for failure in summary.failed) == ["cut.flac", "empty.wav", "text.mp3"]
    assert not summary.complete
    with (tmp_path / "m.failed.csv").open() as file:
        told = {Path(row["path"]).name: row["problem"] for row in csv.DictReader(file)}
    assert "is empty (0 bytes)" in told["empty.wav"]
    assert "damaged or cut short" in told["cut.flac"]


def test_flac_copies(folder, tmp_path):
    encode(folder / "bob" / "c.m4a", sound(1.0, 44100), "aac", 44100)
    prepared("folder", folder, tmp_path / "out" / "m.parquet", convert=True)
    rows = {row["utterance"]: row for row in manifest.read(tmp_path / "out" / "m.parquet").to_pylist()}
    assert sorted(rows) == ["ann/a.wav", "ann/b.flac", "bob/a.wav", "bob/c.m4a"]
    assert rows["bob/c.m4a"]["path"] == str(tmp_path / "out" / "m-flac" / "bob" / "c.m4a.flac")
    for row in rows.values():
        told = soundfile.info(row["path"])
        assert (told.samplerate, told.channels, told.subtype) == (16000, 1, "PCM_16")
        assert told.frames == round(row["duration"] * 16000)
    assert rows["bob/a.wav"]["duration"] == 0.25
    assert rows["bob/c.m4a"]["duration"] == pytest.approx(1.0, abs=0.1)


def test_only_what_is_new_or_changed_is_decoded_again(folder, tmp_path):
    assert prepared("folder", folder, tmp_path / "m.parquet").decoded == 6
    assert prepared("folder", folder, tmp_path / "m.parquet").decoded == 3  # the bad ones: they may have been mended
    put(folder, "bob/new.wav")
    soundfile.write(folder / "ann" / "a.wav", sound(0.75), 16000)
    summary = prepared("folder", folder, tmp_path / "m.parquet")
    assert summary.decoded == 5
    assert manifest.read(tmp_path / "m.parquet").to_pylist()[0]["duration"] == 0.75
    assert prepared("folder", folder, tmp_path / "m.parquet", recheck=True).decoded == 7


def test_copies_are_not_taken_for_originals_nor_the_reverse(tmp_path):
    put(tmp_path / "people", "bob/a.wav", rate=8000)
    for convert, rate in ((False, 8000), (True, 16000), (False, 8000), (True, 16000)):
        assert prepared("folder", tmp_path / "people", tmp_path / "m.parquet", convert=convert).decoded == 1
        assert manifest.read(tmp_path / "m.parquet")["rate"].to_pylist() == [rate]
    (tmp_path / "m-flac" / "bob" / "a.wav.flac").unlink()
    assert prepared("folder", tmp_path / "people", tmp_path / "m.parquet", convert=True).decoded == 1
    assert prepared("folder", tmp_path / "people", tmp_path / "m.parquet", convert=True).decoded == 0


def test_a_journal_that_was_cut_short(folder, tmp_path):
    prepared("folder", folder, tmp_path / "m.parquet")
    journal = tmp_path / ".m.checked.jsonl"
    whole = [line for line in journal.read_text().splitlines() if line]
    journal.write_text("\n".join(whole[:2]) + "\n" + whole[2][:30])
    assert prepared("folder", folder, tmp_path / "m.parquet").decoded == 4
    assert prepared("folder", folder, tmp_path / "m.parquet").decoded == 3


def test_segments_stay_inside_their_file(tmp_path):
    put(tmp_path, "long.wav", seconds=2.0)
    lines = ["a,0,1", "b,1.5,0.52", "c,1.5,1.0", "d,2.5,", "e,0.5,"]
    table = "".join(f"{line.split(',')[0]},long.wav,ann,{line.split(',', 1)[1]}\n" for line in lines)
    (tmp_path / "list.csv").write_text("utterance,path,speaker,offset,duration\n" + table)
    summary = prepared("csv", tmp_path / "list.csv", tmp_path / "m.parquet")
    rows = {r["utterance"]: (r["offset"], r["duration"]) for r in manifest.read(tmp_path / "m.parquet").to_pylist()}
    assert rows == {"a": (0.0, 1.0), "b": (1.5, 0.5), "e": (0.5, 1.5)}
    assert {f.utterance: f.problem for f in summary.failed} == {
        "c": "ends at 2.50 s, and the file after 2.00 s",
        "d": "starts at 2.5 s, and is to last -0.5 s",
    }
    assert summary.decoded == 1  # the file is decoded once


def test_a_manifest_of_a_table_elsewhere_finds_its_files(tmp_path):
    put(tmp_path / "audio", "a.wav")
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "l.csv").write_text("path,speaker\na.wav,ann\n")
    prepared("csv", tmp_path / "lists" / "l.csv", tmp_path / "m.parquet", root=tmp_path / "audio")
    assert Path(manifest.read(tmp_path / "m.parquet")["path"][0].as_py()).is_file()
    prepared("csv", tmp_path / "lists" / "l.csv", tmp_path / "m.parquet", root=tmp_path / "audio", convert=True)
    assert manifest.read(tmp_path / "m.parquet")["path"][0].as_py().startswith(str(tmp_path / "m-flac"))


def test_what_is_missing_is_told(tmp_path):
    place = put(tmp_path / "vox1", "wav/id10270/a/00001.wav", "wav/id10271/b/00001.wav")
    (place / "veri_test2.txt").write_text(
        "1 id10270/a/00001.wav id10270/a/00002.wav\n0 id10270/a/00001.wav id10271/b/00001.wav\n"
    )
    summary = prepared("voxceleb1", place, tmp_path / "m.parquet", prefix="vox-")
    dev, test = summary.parts
    assert (dev.split, dev.utterances, dev.published.utterances, dev.missing_speakers) == ("dev", 0, 148642, [])
    assert (test.speakers, test.utterances, test.published.utterances) == (2, 2, 4874)
    assert test.missing_speakers == [f"id{n}" for n in range(10272, 10310)]
    trials = summary.trials[0]
    assert (trials.name, trials.trials, trials.published, trials.missing) == ("veri_test2.txt", 2, 37611, 1)
    assert manifest.read(tmp_path / "m.parquet")["speaker"].to_pylist() == ["vox-id10270", "vox-id10271"]


def test_the_same_utterance_twice(tmp_path):
    place = put(tmp_path / "vox", "a/id10001/v/00001.wav", "b/id10001/v/00001.flac")
    summary = prepared("voxceleb1", place, tmp_path / "m.parquet")
    assert len(manifest.read(tmp_path / "m.parquet")) == 1
    assert "is the same utterance as" in summary.failed[0].problem


def test_nothing_there_and_nothing_usable(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(CorpusError, match=r"nothing found; expected id10001/VIDEO/00001\.wav.*\nAsk for it at"):
        prepared("voxceleb1", tmp_path / "empty", tmp_path / "m.parquet")
    (tmp_path / "bad" / "ann").mkdir(parents=True)
    (tmp_path / "bad" / "ann" / "a.wav").touch()
    with pytest.raises(CorpusError, match=r"none of 1 utterances can be used; the first: .*a\.wav: is empty"):
        prepared("folder", tmp_path / "bad", tmp_path / "m.parquet")
    assert not (tmp_path / "m.parquet").exists()


def test_processes_find_what_one_finds(folder, tmp_path):
    put(folder, *(f"cid/{i}.wav" for i in range(80)))
    alone = prepared("folder", folder, tmp_path / "1.parquet")
    shared = prepared("folder", folder, tmp_path / "2.parquet", jobs=2)
    assert alone.decoded == shared.decoded == 86
    assert manifest.read(tmp_path / "1.parquet").equals(manifest.read(tmp_path / "2.parquet"))


def test_a_file_that_kills_its_decoder(folder, monkeypatch):
    """Workers are fresh Pythons; one that is told to finds its death in the file named so."""
    put(folder, *(f"cid/{i}.wav" for i in range(70)), "cid/deadly.wav")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent / "deadly"))
    tasks = [Task(str(path)) for path in sorted(folder.glob("cid/*.wav"))]
    results = {Path(result.path).name: result for result in prepare.check_all(tasks, jobs=2)}
    assert len(results) == 71
    bad = [name for name, result in results.items() if result.problem]
    assert bad == ["deadly.wav"]
    assert "made the decoder crash" in results["deadly.wav"].problem


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.wav")
    assert prepare.check(Task(str(tmp_path / "a.wav"))).problem == "is no regular file"


def test_an_unforeseen_error_is_one_files_problem(tmp_path, monkeypatch):
    def explode(path, hours):
        raise MemoryError("too much")

    monkeypatch.setattr(prepare, "open_audio", explode)
    assert prepare.check(Task("a.wav")) == Checked("a.wav", problem="MemoryError: too much")


def test_interrupted_and_resumed(tmp_path):
    files = 2000  # seconds of work, so that it isn't done before a busy machine lets us interrupt it
    place = put(tmp_path / "people", *(f"s{i % 7}/{i}.wav" for i in range(files)), seconds=1.0)
    command = [
        sys.executable,
        "-m",
        "samevoice",
        "prepare",
        "folder",
        place,
        "-o",
        tmp_path / "m.parquet",
        "--jobs",
        "1",
    ]
    process = subprocess.Popen(
        [*map(str, command)],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )
    journal = tmp_path / ".m.checked.jsonl"
    deadline = time.monotonic() + 30
    while not (journal.exists() and journal.stat().st_size > 100) and time.monotonic() < deadline:
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C does, to the workers too
    _, told = process.communicate(timeout=30)
    assert process.returncode == 130, told
    assert "the same command goes on from there" in told
    assert "Traceback" not in told
    assert not (tmp_path / "m.parquet").exists()
    kept = sum(1 for line in journal.read_text().splitlines() if line)
    assert 0 < kept < files
    assert prepared("folder", place, tmp_path / "m.parquet").decoded == files - kept
    assert len(manifest.read(tmp_path / "m.parquet")) == files


@real
@pytest.mark.parametrize(("name", "place", "root", "speakers", "utterances"), [
    ("csv", "librispeech/test-other.csv", SPEECH, 10, 100),
    ("librispeech", "librispeech/test-other", None, 10, 100),
    ("librispeech", "librispeech/train", None, 251, 251),
    ("csv", "commonvoice/dev.csv", SPEECH, 95, 541),
])  # fmt: skip
def test_counts_of_real_recordings(tmp_path, name, place, root, speakers, utterances):
    options = {"root": root} if root else {}
    summary = prepared(name, SPEECH / place, tmp_path / "m.parquet", **options)
    found = [part for part in summary.parts if part.utterances]
    assert (sum(p.speakers for p in found), sum(p.utterances for p in found)) == (speakers, utterances)
    assert summary.failed == []
    if name == "csv":
        with (SPEECH / place).open() as file:
            told = {row["path"]: float(row["duration"]) for row in csv.DictReader(file)}
        for row in manifest.read(tmp_path / "m.parquet").to_pylist():
            assert row["duration"] == pytest.approx(told[row["utterance"]], abs=0.02)


@real
@pytest.mark.slow
@pytest.mark.parametrize(("name", "place", "speakers", "utterances"), [
    ("csv", "commonvoice/train.csv", 3307, 8535),
    ("folder", "speechocean762/train", 125, 2500),
])  # fmt: skip
def test_counts_of_many_real_recordings(tmp_path, name, place, speakers, utterances):
    options = {"root": SPEECH} if name == "csv" else {}
    summary = prepared(name, SPEECH / place, tmp_path / "m.parquet", jobs=2, **options)
    assert [(part.speakers, part.utterances) for part in summary.parts] == [(speakers, utterances)]
    assert summary.failed == []


def test_the_summary_is_json(folder, tmp_path, command):
    ended = command("prepare", "folder", folder, "-o", tmp_path / "m.parquet", "--jobs", "0", "--json")
    told = json.loads(ended.out)
    assert ended.status == 0
    assert (told["output"], told["complete"], told["decoded"]) == (str(tmp_path / "m.parquet"), False, 6)
    assert told["parts"][0]["utterances"] == 3

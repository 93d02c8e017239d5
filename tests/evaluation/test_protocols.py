import os

import numpy as np
import pytest

from samevoice.audio import AudioError
from samevoice.evaluation import protocols
from samevoice.evaluation.trials import TrialError


def test_noise_has_the_ratio_asked_for():
    random = np.random.default_rng(0)
    speech, noise = (0.01 * random.standard_normal(n).astype(np.float32) for n in (16000, 5000))
    mixed = protocols.add_noise(speech, noise, 5, draw=3)
    added = mixed - speech
    assert 10 * np.log10(np.square(speech).mean() / np.square(added).mean()) == pytest.approx(5, abs=0.01)


def test_a_crop_is_the_start_and_short_ones_are_refused(samples):
    path = str(next((samples / "ivrvoice-ru").glob("*.flac")))
    treatment, load = protocols.clip(path, "u", protocols.Condition(1.5))
    assert treatment == "first 1.5 s"
    assert load()[0].shape == (24000,)
    with pytest.raises(AudioError, match="is shorter than 99 s"):
        protocols.clip(path, "u", protocols.Condition(99))[1]()


def test_a_list_that_is_not_the_published_one_is_refused(tmp_path):
    (tmp_path / "veri_test2.txt").write_text("1 a b\n")
    with pytest.raises(TrialError, match="1 trials, not the published 37,611"):
        protocols.load(protocols.find("voxceleb1-o"), tmp_path)


def test_a_protocol_that_is_not_there_says_where_it_was_looked_for(tmp_path):
    with pytest.raises(TrialError, match="needs librispeech/test-other.csv; looked in"):
        protocols.load(protocols.find("librispeech-mini"), tmp_path)


def place(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_voxceleb_folders_know_video_and_gender(tmp_path):
    place(tmp_path, "wav/id10001/vid/00001.wav", "wav/id10002/vid/00002.wav", "wav/id10003/vid/00001.wav")
    meta = "VoxCeleb1 ID\tVGGFace1 ID\tGender\tNationality\tSet\nid10001\tA\tm\tIreland\tdev\nid10002\tB\tf\tUSA\tdev\n"
    (tmp_path / "vox1_meta.csv").write_text(meta)
    rows = protocols.recordings(tmp_path / "wav").to_pylist()
    assert [row["utterance"] for row in rows] == [f"id1000{i}/vid/0000{n}.wav" for i, n in ((1, 1), (2, 2), (3, 1))]
    assert [row["gender"] for row in rows] == ["m", "f", ""]
    assert {row["session"] for row in rows} == {"vid"}


def test_other_folders_know_speaker_and_session(tmp_path):
    place(tmp_path, "ann/monday/a.flac", "bob/b.wav", "c.ogg", "notes.txt")
    rows = {row["utterance"]: (row["speaker"], row["session"]) for row in protocols.recordings(tmp_path).to_pylist()}
    assert rows == {"ann/monday/a.flac": ("ann", "ann/monday"), "bob/b.wav": ("bob", ""), "c.ogg": ("", "")}


def test_a_csv_of_recordings(tmp_path):
    place(tmp_path, "a.wav", "b.wav")
    (tmp_path / "list.csv").write_text("path,speaker,gender,locale\na.wav,ann,Female,en\nb.wav,bob,,\n")
    ann, bob = protocols.recordings(tmp_path / "list.csv").to_pylist()
    assert ann == {"utterance": "a.wav", "speaker": "ann", "path": str(tmp_path / "a.wav"), "session": "",
                   "gender": "f", "language": "en"}  # fmt: skip
    assert (bob["gender"], bob["language"]) == ("", "")
    assert protocols.recordings(tmp_path / "list.csv", wanted={"b.wav"})["speaker"].to_pylist() == ["bob"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "columns path and speaker; this one is empty"),
        ("path;speaker\na.wav;ann\n", "this one has 'path;speaker'"),
        ("path,speaker\n", "lists no recordings"),
        ("path,speaker\na.wav,ann\na.wav,bob\n", "a.wav is there twice"),
        ("path,speaker\na.wav,ann\nb.wav,bob\n", "1 of 2 files are not there, such as"),
    ],
)
def test_what_is_wrong_with_a_csv_of_recordings_is_told(tmp_path, text, problem):
    place(tmp_path, "a.wav")
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(TrialError) as found:
        protocols.recordings(tmp_path / "list.csv")
    assert str(found.value).startswith(f"{tmp_path / 'list.csv'}: ")
    assert problem in str(found.value)


def test_one_name_in_two_formats_is_told(tmp_path):
    place(tmp_path, "wav/id10001/vid/00001.wav", "m4a/id10001/vid/00001.m4a")
    with pytest.raises(TrialError, match=r"id10001/vid/00001\.wav is there twice, .*m4a and .*wav: leave one out"):
        protocols.recordings(tmp_path)


def test_folders_without_recordings_are_told(tmp_path):
    with pytest.raises(TrialError, match="no recordings in this folder"):
        protocols.recordings(tmp_path)
    with pytest.raises(TrialError, match="gone: no such file or folder"):
        protocols.recordings(tmp_path / "gone")


def test_data_is_looked_for_where_the_variable_says(tmp_path, monkeypatch):
    place(tmp_path, "second/librispeech/a.flac", "second/librispeech/b.flac")
    text = "path,speaker\nlibrispeech/a.flac,ann\nlibrispeech/b.flac,bob\n"
    (tmp_path / "second" / "librispeech" / "test-other.csv").write_text(text)
    monkeypatch.setenv(protocols.VARIABLE, f"{tmp_path / 'first'}{os.pathsep}{tmp_path / 'second'}")
    table, trials = protocols.load(protocols.find("librispeech-mini"))
    assert table["path"].to_pylist() == [str(tmp_path / "second" / "librispeech" / f"{n}.flac") for n in "ab"]
    assert (trials.utterances, trials.labels.tolist()) == (["librispeech/a.flac", "librispeech/b.flac"], [False])


def test_the_published_list_is_found_beside_the_recordings(tmp_path, monkeypatch):
    monkeypatch.setitem(protocols.PROTOCOLS, "tiny", protocols.Protocol("tiny", "", trial_list="veri_test2.txt"))
    place(tmp_path, "voxceleb1/wav/id10270/v/00001.wav", "voxceleb1/wav/id10270/v/00002.wav")
    (tmp_path / "voxceleb1" / "meta").mkdir()
    (tmp_path / "voxceleb1" / "meta" / "veri_test2.txt").write_text("1 id10270/v/00001.wav id10270/v/00003.wav\n")
    table, trials = protocols.load(protocols.find("tiny"), tmp_path)
    assert table["utterance"].to_pylist() == ["id10270/v/00001.wav"]  # only what the list needs
    assert len(trials) == 1


def test_the_nearest_protocol_is_named():
    with pytest.raises(ValueError, match="no protocol called 'voxceleb-h'; did you mean voxceleb1-h"):
        protocols.find("voxceleb-h")

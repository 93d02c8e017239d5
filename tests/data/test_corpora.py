import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from data.corpora_made_up import put, sound

from samevoice.data import corpora
from samevoice.data.corpora import CORPORA, CorpusError
from samevoice.data.corpora.corpus import recordings


def walked(name: str, folder, **options) -> dict:
    found = list(corpora.find(name).walk(folder, **options))
    assert len({item.utterance for item in found}) == len(found)
    return {item.utterance: item for item in found}


@pytest.mark.parametrize("name", CORPORA)
def test_every_corpus_in_the_table_is_there(name):
    corpus = corpora.find(name)
    assert corpus.layout
    assert all(part.utterances > 0 for part in corpus.published.values())


def test_published_counts():
    assert corpora.find("voxceleb2").published["dev"] == corpora.Published(5994, 1092009)
    assert list(corpora.find("voxceleb1").trials.values()) == [37611, 579818, 550894]
    one = corpora.find("voxceleb1").published
    assert (one["dev"].speakers or 0) + (one["test"].speakers or 0) == 1251
    assert one["dev"].utterances + one["test"].utterances == 153516


def test_voxceleb1(tmp_path):
    put(tmp_path / "vox1_dev_wav/wav", "id10001/1zcIwhmdeo4/00001.wav", "id10309x/a/00001.wav", "notes.wav")
    put(tmp_path / "vox1_test_wav/wav", "id10270/5r0dWxy17C8/00012.wav", "id10309/v/00001.wav", "id10310/v/00001.wav")
    (tmp_path / "vox1_meta.csv").write_text(
        "VoxCeleb1 ID\tVGGFace1 ID\tGender\tNationality\tSet\nid10001\tA\tf\tX\tdev\n"
    )
    found = walked("voxceleb1", tmp_path)
    assert {name: (item.split, item.session, item.gender) for name, item in found.items()} == {
        "id10001/1zcIwhmdeo4/00001.wav": ("dev", "1zcIwhmdeo4", "f"),
        "id10270/5r0dWxy17C8/00012.wav": ("test", "5r0dWxy17C8", ""),
        "id10309/v/00001.wav": ("test", "v", ""),
        "id10310/v/00001.wav": ("dev", "v", ""),
    }
    listed = corpora.find("voxceleb1").listed(tmp_path)
    assert (len(listed["dev"]), len(listed["test"])) == (1211, 40)


def test_voxceleb2(tmp_path):
    put(tmp_path, "dev/aac/id00012/21Uxsk56VDQ/00001.flac", "vox2_test_aac/aac/id00017/OLguY5ofUrY/00002.flac")
    put(tmp_path, "dev/aac/id00015/test-video/00001.flac")
    found = walked("voxceleb2", tmp_path)
    assert {name: item.split for name, item in found.items()} == {
        "id00012/21Uxsk56VDQ/00001.wav": "dev",
        "id00015/test-video/00001.wav": "dev",
        "id00017/OLguY5ofUrY/00002.wav": "test",
    }
    (tmp_path / "vox2_meta.csv").write_text(
        "VoxCeleb2 ID ,VGGFace2 ID ,Gender ,Set \nid00012 ,n000012 ,m ,test \nid00019 ,n ,f ,dev \n"
    )
    found = walked("voxceleb2", tmp_path)
    assert (found["id00012/21Uxsk56VDQ/00001.wav"].split, found["id00012/21Uxsk56VDQ/00001.wav"].gender) == (
        "test",
        "m",
    )
    assert corpora.find("voxceleb2").listed(tmp_path) == {"test": {"id00012"}, "dev": {"id00019"}}


def test_librispeech(tmp_path):
    put(
        tmp_path / "LibriSpeech",
        "train-clean-100/14/208/14-208-0000.flac",
        "test-other/367/130732/367-130732-0012.flac",
    )
    (tmp_path / "LibriSpeech" / "SPEAKERS.TXT").write_text(
        ";ID  |SEX| SUBSET           |MINUTES| NAME\n14   | F | train-clean-100  | 25.03 | A | B\n"
    )
    found = walked("librispeech", tmp_path / "LibriSpeech")
    first = found["14-208-0000"]
    assert (first.speaker, first.session, first.split, first.gender) == ("14", "14-208", "train-clean-100", "f")
    assert found["367-130732-0012"].split == "test-other"
    assert walked("librispeech", tmp_path / "LibriSpeech" / "test-other").keys() == {"367-130732-0012"}
    assert corpora.find("librispeech").listed(tmp_path / "LibriSpeech") == {"train-clean-100": {"14"}}


def test_cnceleb(tmp_path):
    put(tmp_path / "CN-Celeb_flac", "data/id00012/singing-01-002.flac", "data/id00800/interview-02-010.flac")
    put(tmp_path / "CN-Celeb_flac/eval", "enroll/id00800-enroll.flac", "test/id00939-speech-01-079.flac")
    put(tmp_path / "CN-Celeb2_flac", "data/id10001/live_broadcast-03-001.flac")
    found = walked("cnceleb", tmp_path)
    assert {name: (item.speaker, item.split, item.session) for name, item in found.items()} == {
        "id00012/singing-01-002": ("id00012", "cnceleb1-dev", "id00012/singing-01"),
        "id00800/interview-02-010": ("id00800", "eval-source", "id00800/interview-02"),
        "id00800-enroll": ("id00800", "eval-enroll", ""),
        "test/id00939-speech-01-079.wav": ("id00939", "eval-test", "id00939/speech-01"),
        "id10001/live_broadcast-03-001": ("id10001", "cnceleb2", "id10001/live_broadcast-03"),
    }


def test_musan_and_rirs(tmp_path):
    put(tmp_path / "musan", "music/fma/music-fma-0000.wav", "speech/librivox/speech-librivox-0000.wav")
    put(tmp_path / "musan", "noise/free-sound/noise-free-sound-0000.wav")
    found = walked("musan", tmp_path / "musan")
    assert {name: item.split for name, item in found.items()} == {
        "music-fma-0000": "music", "speech-librivox-0000": "speech", "noise-free-sound-0000": "noise"
    }  # fmt: skip
    place = put(tmp_path / "RIRS_NOISES", "simulated_rirs/smallroom/Room001/Room001-00001.wav")
    put(place, "simulated_rirs/largeroom/Room001/Room001-00001.wav", "pointsource_noises/noise-free-sound-0000.wav")
    put(
        place / "real_rirs_isotropic_noises", "RWCP_type1_rir_circle_ofc_imp_rev.wav", "RVB2014_type1_noise_room1_1.wav"
    )
    found = walked("rirs", place)
    assert sorted(item.split for item in found.values()) == ["noise", "noise", "rir", "rir", "rir"]
    assert len({item.speaker for item in found.values()}) == 5


def test_folder(tmp_path):
    put(tmp_path, "ann/a.wav", "ann/monday/b.flac", "bob/a.ogg", "nobody.wav")
    (tmp_path / "bob" / "notes.txt").write_text("x")
    found = walked("folder", tmp_path)
    assert {name: (item.speaker, item.session) for name, item in found.items()} == {
        "ann/a.wav": ("ann", ""),
        "ann/monday/b.flac": ("ann", "ann/monday"),
        "bob/a.ogg": ("bob", ""),
    }


def test_links_to_folders_are_followed_and_circles_are_not(tmp_path):
    put(tmp_path / "disk", "ann/a.wav")
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "ann").symlink_to(tmp_path / "disk" / "ann")
    (tmp_path / "disk" / "ann" / "up").symlink_to(tmp_path / "corpus")
    assert recordings(tmp_path / "corpus") == [str(tmp_path / "corpus" / "ann" / "a.wav")]


def test_csv(tmp_path):
    (tmp_path / "list.csv").write_text(
        "path,speaker,offset,duration,gender,locale\na.wav,ann,1.5,2,female_feminine,cy\nb.wav,bob,,,,\n,cid,,,,\nc.wav,dan,x,,,\n"
    )
    found = list(corpora.find("csv").walk(tmp_path / "list.csv"))
    assert (found[0].path, found[0].offset, found[0].duration) == (str(tmp_path / "a.wav"), 1.5, 2.0)
    assert (found[0].gender, found[0].language) == ("f", "cy")
    assert (found[1].offset, found[1].duration, found[1].problem) == (0.0, None, "")
    assert "line 4 has no path" in found[2].problem
    assert "line 5: the offset or the duration is not a number" in found[3].problem


def test_csv_of_common_voice_and_columns_of_your_own(tmp_path):
    (tmp_path / "validated.tsv").write_text("client_id\tpath\tsentence\nff0\tx.mp3\tHello, you\n")
    assert walked("csv", tmp_path / "validated.tsv", root=tmp_path / "clips")["x.mp3"].speaker == "ff0"
    (tmp_path / "own.csv").write_text("who,where,duration\nann,a.wav,3\n")
    with pytest.raises(CorpusError, match=r"has the path\? Say it with --path-column; there are who, where"):
        walked("csv", tmp_path / "own.csv")
    with pytest.raises(CorpusError, match="no column 'wher' for the path"):
        walked("csv", tmp_path / "own.csv", path_column="wher", speaker_column="who")
    found = walked("csv", tmp_path / "own.csv", path_column="where", speaker_column="who")
    assert found["a.wav"].duration is None  # how long the file is: no piece of it


def test_csv_that_is_none(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"\xff\xfe\x00\x01path")
    with pytest.raises(CorpusError, match="not a CSV"):
        walked("csv", tmp_path / "a.csv")


def test_kaldi(tmp_path):
    put(tmp_path, "audio/one.wav", "audio/two.flac")
    data = tmp_path / "data"
    data.mkdir()
    two = tmp_path / "audio" / "two.flac"
    one = tmp_path / "audio" / "one.wav"
    lines = [f"rec1 {one}", f"rec2 flac -c -d -s {two} |", "rec3 rm -rf /x | ", f"rec4 sox -m {two} {one} -t wav - |"]
    (data / "wav.scp").write_text("\n".join(lines))
    (data / "utt2spk").write_text("u1 ann\nu2 bob\nu3 bob\nu4 bob\nu5 bob\nu6 bob\n")
    (data / "segments").write_text("u1 rec1 0.01 0.05\nu2 rec2 0 -1\nu3 rec3 0 1\nu4 nowhere 0 1\nu6 rec4 0 1\n")
    (data / "spk2gender").write_text("ann f\n")
    found = walked("kaldi", data)
    assert (found["u1"].path, found["u1"].offset) == (str(one), 0.01)
    assert found["u1"].duration == pytest.approx(0.04)
    assert (found["u1"].gender, found["u1"].session) == ("f", "rec1")
    assert (found["u2"].path, found["u2"].duration, found["u2"].problem) == (str(two), None, "")
    assert "we run none: rm -rf /x" in found["u3"].problem
    assert "doesn't read one file" in found["u6"].problem
    assert found["u4"].problem == "nowhere is not in wav.scp"
    assert found["u5"].problem == "is not in segments"


def test_kaldi_without_segments_or_files(tmp_path):
    with pytest.raises(CorpusError, match=r"no wav\.scp"):
        walked("kaldi", tmp_path)
    put(tmp_path, "a.wav")
    (tmp_path / "wav.scp").write_text("u1 a.wav\n")
    (tmp_path / "utt2spk").write_text("u1 ann\n")
    assert walked("kaldi", tmp_path)["u1"].path == str(tmp_path / "a.wav")


def sound_column(*cells) -> pa.Array:
    return pa.array(cells, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))


def encoded() -> bytes:
    file = io.BytesIO()
    soundfile.write(file, sound(), 16000, format="FLAC")
    return file.getvalue()


def test_hf(tmp_path):
    folder = tmp_path / "set"
    (folder / "data").mkdir(parents=True)
    audio = sound_column({"bytes": encoded(), "path": "../../../evil.flac"}, {"bytes": encoded(), "path": None}, None)
    table = pa.table({"audio": audio, "speaker_id": [14, 15, 16], "gender": ["Male", None, "x"]})
    pq.write_table(table, folder / "data" / "train-00000-of-00001.parquet")
    found = list(corpora.find("hf").walk(folder, copies=tmp_path / "copies"))
    assert [item.speaker for item in found] == ["14", "15", "16"]
    assert [item.split for item in found] == ["train"] * 3
    assert [item.gender for item in found] == ["m", "", "x"]
    assert [item.problem for item in found] == ["", "", "its cell holds no sound"]
    written = sorted(path.relative_to(tmp_path / "copies").as_posix() for path in (tmp_path / "copies").rglob("*.flac"))
    assert written == ["data/train-00000-of-00001/000000.flac", "data/train-00000-of-00001/000001.flac"]
    assert soundfile.info(found[1].path).frames == 1600


def test_hf_saved_to_disk(tmp_path):
    (tmp_path / "set" / "test").mkdir(parents=True)
    table = pa.table({"audio": sound_column({"bytes": None, "path": "a.wav"}), "who": ["ann"]})
    with pa.ipc.new_stream(tmp_path / "set" / "test" / "data-00000-of-00001.arrow", table.schema) as file:
        file.write_table(table)
    with pytest.raises(CorpusError, match="the speaker; say it with --speaker-column; there are audio, who"):
        walked("hf", tmp_path / "set")
    found = list(walked("hf", tmp_path / "set", speaker_column="who").values())
    assert (found[0].speaker, found[0].split, found[0].path) == ("ann", "test", str(tmp_path / "set" / "a.wav"))


def test_hf_offline_touches_no_network(tmp_path, monkeypatch):
    asked = {}

    def snapshot_download(name, local_files_only, **_):
        asked[name] = local_files_only
        raise OSError("not in the cache")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    with pytest.raises(CorpusError, match="data set owner/a: not in the cache; download it and give its folder"):
        list(corpora.find("hf").walk(Path("owner/a"), offline=True))
    monkeypatch.setenv("SAMEVOICE_OFFLINE", "1")
    with pytest.raises(CorpusError):
        list(corpora.find("hf").walk(Path("owner/b")))
    assert asked == {"owner/a": True, "owner/b": True}


def test_hf_that_is_damaged_or_not_there(tmp_path):
    with pytest.raises(CorpusError, match="no such folder, and no OWNER/NAME"):
        walked("hf", tmp_path / "nothing")
    (tmp_path / "train.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(CorpusError, match="damaged"):
        walked("hf", tmp_path)

import json

import numpy as np
import pytest
from recordings import RATE, sound_bytes


@pytest.fixture
def folder(tmp_path, samples, speech):
    """Two good recordings, one of them below, and two bad ones."""
    folder = tmp_path / "calls"
    (folder / "below").mkdir(parents=True)
    (folder / "b.flac").write_bytes((samples / "carlo-flora-it" / "vm-newuser.flac").read_bytes())
    (folder / "below" / "a.wav").write_bytes(sound_bytes(speech))
    (folder / "notes.txt").write_text("not looked at")
    (folder / "empty.wav").touch()
    (folder / "silence.wav").write_bytes(sound_bytes(np.zeros(RATE)))
    return folder


def test_npz(command, folder, tiny, tiny_model, tmp_path):
    files = [str(folder / "b.flac"), str(folder / "below" / "a.wav")]
    ended = command("embed", *files, files[0], "-o", tmp_path / "new" / "out.npz", "--model", tiny_model)
    assert ended.status == 0
    assert "2 embeddings written to" in ended.out
    with np.load(tmp_path / "new" / "out.npz") as found:  # no pickle
        assert found["paths"].tolist() == files
        assert found["embeddings"].dtype == np.float32
        np.testing.assert_allclose(found["embeddings"], tiny.embed_many(files), atol=1e-6)
        assert found["speech_seconds"].shape == (2,)
        assert (found["speech_seconds"] > 4).all()
        assert str(found["model"]) == "tiny"


def test_parquet(command, folder, tiny, tiny_model, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    files = [str(folder / "b.flac"), str(folder / "below" / "a.wav")]
    assert command("embed", *files, "-o", tmp_path / "out.parquet", "--model", tiny_model).status == 0
    table = parquet.read_table(tmp_path / "out.parquet")
    assert table.column_names == [
        "path", "model", "seconds", "speech_seconds", "snr_db", "clipping", "bandwidth_hz", "embedding",
    ]  # fmt: skip
    assert str(table.schema.field("embedding").type) == "fixed_size_list<element: float>[16]"
    assert table["path"].to_pylist() == files
    np.testing.assert_allclose(np.array(table["embedding"].to_pylist()), tiny.embed_many(files), atol=1e-6)


@pytest.mark.parametrize("as_json", [False, True])
def test_a_folder_with_bad_files_embeds_the_good_and_lists_the_bad(as_json, command, folder, tiny_model, tmp_path):
    out = tmp_path / "out.npz"
    ended = command("embed", folder, "-o", out, "--model", tiny_model, *(["--json"] if as_json else []))
    assert ended.status == 2
    good = [str(folder / "b.flac"), str(folder / "below" / "a.wav")]
    bad = [str(folder / "empty.wav"), str(folder / "silence.wav")]
    with np.load(out) as found:
        assert found["paths"].tolist() == good
    lines = ended.err.splitlines()
    assert [line.split(": ")[:2] for line in lines[-3:-1]] == [["failed", name] for name in bad]
    assert "is empty (0 bytes)" in lines[-3]
    assert "digital silence" in lines[-2]
    assert lines[-1] == "2 of 4 recordings could not be embedded"
    if as_json:
        found = json.loads(ended.out)
        assert found.keys() == {"output", "model", "embedded", "failed"}
        assert (found["output"], found["model"]) == (str(out), "tiny")
        assert [row["path"] for row in found["embedded"]] == good
        assert found["embedded"][0]["quality"]["speech_seconds"] > 4
        assert [row["path"] for row in found["failed"]] == bad
        assert "is empty" in found["failed"][0]["problem"]


def test_only_bad_files_write_nothing(command, folder, tiny_model, tmp_path):
    out = tmp_path / "new" / "out.npz"
    ended = command("embed", folder / "empty.wav", folder / "missing.wav", "-o", out, "--model", tiny_model, "--json")
    assert ended.status == 2
    assert json.loads(ended.out)["output"] is None
    assert not out.parent.exists()


@pytest.mark.parametrize("name", ["out.csv", "out", "out.npz.txt"])
def test_another_ending_is_refused_before_any_work(name, command, folder, tmp_path):
    ended = command("embed", folder, "-o", tmp_path / name, "--model", "/no/such/model")
    assert ended.status == 2
    assert f"{name}: the ending must be one of .npz, .parquet" in ended.err
    assert not (tmp_path / name).exists()


def test_a_folder_without_recordings(command, tmp_path, tiny_model):
    (tmp_path / "notes.txt").touch()
    ended = command("embed", tmp_path, "-o", tmp_path / "out.npz", "--model", tiny_model)
    assert ended.status == 2
    assert "no recordings in this folder (looked for .aac" in ended.err


def test_an_output_that_is_a_folder_is_told(command, folder, tiny_model, tmp_path):
    (tmp_path / "out.npz").mkdir()
    ended = command("embed", folder / "b.flac", "-o", tmp_path / "out.npz", "--model", tiny_model)
    assert ended.status == 2
    assert "out.npz" in ended.err
    assert "Traceback" not in ended.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["calls", "out.npz"]


def test_a_failing_write_leaves_the_old_file(command, folder, tiny_model, tmp_path, monkeypatch):
    (tmp_path / "out.npz").write_bytes(b"old")

    def full(file, **_):
        file.write_bytes(b"half")
        raise OSError(28, "No space left on device", str(file))

    monkeypatch.setattr(np, "savez", full)
    ended = command("embed", folder / "b.flac", "-o", tmp_path / "out.npz", "--model", tiny_model)
    assert ended.status == 2
    assert "No space left on device" in ended.err
    assert (tmp_path / "out.npz").read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["calls", "out.npz"]


def test_an_interrupted_run_writes_what_is_finished(command, tiny_model, samples, tmp_path, monkeypatch):
    from samevoice.runtime import Verifier

    whole = Verifier.embed_each

    def interrupted(self, audios, batch_size=16):
        for number, result in enumerate(whole(self, audios, batch_size)):
            if number == 2:
                raise KeyboardInterrupt
            yield result

    monkeypatch.setattr(Verifier, "embed_each", interrupted)
    output = tmp_path / "out.npz"
    ended = command("embed", samples / "ivrvoice-ru", "-o", output, "--model", tiny_model)
    assert ended.status == 130
    assert "2 of 4 recordings were not reached" in ended.err
    assert np.load(output)["embeddings"].shape == (2, 16)

import json

import pytest

from samevoice.hub import cards


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("SAMEVOICE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_list(command, cache):
    ended = command("models", "list", "--json")
    rows = json.loads(ended.out)
    assert [row["name"] for row in rows] == cards.names()
    assert rows[0].keys() == {"name", "default", "architecture", "trained_on", "licence", "pulled", "calibrated"}
    assert [row["name"] for row in rows if row["default"]] == [cards.DEFAULT]
    assert [row["name"] for row in rows if row["pulled"]] == [cards.SHIPPED]
    shown = command("models", "list")
    assert shown.status == 0
    for name in cards.names():
        assert name in shown.out


def test_show(command):
    card = json.loads(command("models", "show", "default", "--json").out)
    assert card["name"] == cards.DEFAULT
    assert card["features"]["mels"] == 80
    assert card["sources"][0]["kind"] == "pypi"
    assert "name: campplus-zh-en" in command("models", "show", "campplus-zh-en").out
    ended = command("models", "show", "campplus-zh-em")
    assert ended.status == 2
    assert "did you mean campplus-zh-en" in ended.err


def test_pull(command, default):
    ended = command("models", "pull", "--json")  # it is in the cache
    assert ended.status == 0
    found = json.loads(ended.out)
    assert found["name"] == default.card.name
    assert found["path"].endswith(".onnx")
    assert "campplus-zh-en: " in command("models", "pull", "default", "--offline").out


def test_pull_offline_into_an_empty_cache(command, cache):
    ended = command("models", "pull", "--offline", "--json")
    assert ended.status == 2
    assert "skipped, offline" in json.loads(ended.out)["error"]
    assert not cache.exists()


def test_convert(command, tmp_path, samples):
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    from samevoice.models import create

    network = create("resnet34", channels=4, embedding_dim=8, blocks=[1, 1, 1, 1])
    torch.save(network.state_dict(), tmp_path / "a.ckpt")
    folder = tmp_path / "mine"
    source = ["--from", "3d-speaker", "--architecture", "resnet34"]
    for words, why in [
        (["blocks"], "blocks: configuration is written word=value"),
        (["blocks=[1"], "blocks=[1: the value is not YAML"),
        (["blocs=[1]"], "no setting 'blocs'"),
        ([], "missing layer1.1.conv1.weight"),
    ]:
        ended = command("models", "convert", tmp_path / "a.ckpt", *words, *source, "-o", folder)
        assert ended.status == 2
        assert why in ended.err
        assert not folder.exists()
    ended = command("models", "convert", tmp_path / "a.ckpt", "blocks=[1,1,1,1]", *source, "-o", folder, "--json")
    assert ended.status == 0, ended.err
    assert json.loads(ended.out)["card"]["config"]["blocks"] == [1, 1, 1, 1]
    recording = samples / "carlo-flora-it" / "vm-newuser.flac"
    assert command("verify", recording, recording, "--model", folder, "--threshold", "0.9").status == 0
    exported = command("export", folder, "-o", tmp_path / "again.onnx", "--json")
    found = json.loads(exported.out)
    assert found["output"] == str(tmp_path / "again.onnx")
    assert 0 <= found["largest_difference"] < 1e-4
    assert (tmp_path / "again.onnx").exists()


def test_without_torch_the_extra_is_named(command, tmp_path, monkeypatch):
    import sys

    (tmp_path / "a.pt").touch()
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    monkeypatch.setitem(sys.modules, "safetensors", None)
    options = ["--from", "wespeaker", "--architecture", "resnet34", "-o", tmp_path / "new"]
    ended = command("models", "convert", tmp_path / "a.pt", *options)
    assert ended.status == 2
    assert "pip install 'samevoice[train]'" in ended.err


@pytest.mark.parametrize("as_json", [False, True])
def test_calibrate(as_json, command, tiny_model, samples, tmp_path):
    pytest.importorskip("sklearn")
    (tmp_path / "data").mkdir()
    for voice in ("carlo-flora-it", "june-wallack-fr", "ivrvoice-ru"):
        (tmp_path / "data" / voice).symlink_to(samples / voice)
    table = tmp_path / "list.csv"
    files = [file for voice in (tmp_path / "data").iterdir() for file in sorted(voice.iterdir())]
    table.write_text("path,speaker\n" + "".join(f"{file},{file.parent.name}\n" for file in files) + "gone.wav,x\n")
    out = tmp_path / "card.yaml"
    ended = command(
        "models", "calibrate", tiny_model, table, "--data", "samples", "-o", out, *(["--json"] if as_json else [])
    )
    assert ended.status == 0, ended.err
    assert f"left out: {tmp_path}/gone.wav: no such file" in ended.err
    card = cards.read_card(out)
    assert card.name == "tiny"
    assert card.calibration.data == "samples: 12 recordings, 18 target and 48 nontarget pairs"
    assert card.calibration.operating_points == {}  # 48 pairs measure no false-alarm rate
    if as_json:
        found = json.loads(ended.out)
        assert found.keys() == {"output", "calibration", "left_out"}
        assert found["left_out"] == 1
        assert found["calibration"]["slope"] == card.calibration.slope


def test_calibrate_needs_both_kinds_of_pairs(command, tiny_model, samples, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "one").mkdir()
    file = samples / "carlo-flora-it" / "vm-newuser.flac"
    (tmp_path / "data" / "one" / "a.flac").write_bytes(file.read_bytes())
    ended = command("models", "calibrate", tiny_model, tmp_path / "data", "--data", "x", "-o", tmp_path / "card.yaml")
    assert ended.status == 2
    assert "0 pairs of one speaker and 0 of two: calibration needs both" in ended.err
    assert not (tmp_path / "card.yaml").exists()

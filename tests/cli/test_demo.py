import json

import pytest

from samevoice.cli import demo


def test_the_default_model_on_the_samples(command, default):
    ended = command("demo", "--json")
    assert ended.status == 0
    found = json.loads(ended.out)
    assert found.keys() == {"model", "threshold", "trials", "wrong", "eer"}
    assert found["model"] == default.card.name
    assert len(found["trials"]) == 24 * 23 // 2
    for trial in found["trials"]:
        assert trial.keys() == {"a", "b", "score", "llr", "same", "truth"}
        assert trial["same"] == (trial["score"] >= found["threshold"])
        assert (trial["llr"] >= 0) == trial["same"]  # the demo decides at even odds
    assert sum(trial["truth"] for trial in found["trials"]) == 28 + 4 * 6
    assert found["wrong"] == sum(trial["same"] != trial["truth"] for trial in found["trials"])
    assert found["wrong"] <= 0.06 * len(found["trials"])
    assert found["eer"] < 0.05


def test_what_people_see(command, tiny_model):
    ended = command("demo", "--model", tiny_model)
    assert ended.status == 0
    assert "24 recordings, 276 pairs; EER " in ended.out
    assert "model tiny, same voice from 0.600: even odds (llr = 0) on made-up trials [of nobody]" in ended.out
    assert "strangers accepted" in ended.out
    assert "samevoice verify" in ended.out
    voices = [line.split()[:2] for line in ended.out.splitlines() if line.lstrip().startswith("carlo-flora-it")]
    assert ["carlo-flora-it", "itself"] in voices


def test_one_person_in_two_languages_is_one_voice():
    assert demo.person("allison-smith-es/a.flac") == demo.person("allison-smith-en/b.flac") == "allison-smith"
    assert demo.voice("allison-smith-es/a.flac") != demo.voice("allison-smith-en/b.flac")


def test_a_model_without_calibration_is_told(command, tiny_model, tmp_path):
    (tmp_path / "card.yaml").write_text((tiny_model / "card.yaml").read_text().partition("calibration:")[0])
    (tmp_path / "model.onnx").write_bytes((tiny_model / "model.onnx").read_bytes())
    ended = command("demo", "--model", tmp_path)
    assert ended.status == 2
    assert "has not been calibrated" in ended.err


def test_without_the_samples_the_way_on_is_told(command, tiny_model, monkeypatch, tmp_path):
    monkeypatch.setattr(demo.samevoice, "__file__", str(tmp_path / "site" / "samevoice" / "__init__.py"))
    ended = command("demo", "--model", tiny_model)
    assert ended.status == 2
    assert "the sample recordings are not installed; name recordings of your own: samevoice verify A B" in ended.err


@pytest.mark.parametrize("name", ["README.md", "allison-smith-en"])
def test_the_samples_come_with_their_licence(name):
    assert (demo.samples() / name).exists()
    assert "CC BY" in (demo.samples() / "README.md").read_text()

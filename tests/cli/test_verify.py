import json

import pytest
from recordings import encode

QUALITY = {"seconds", "speech_seconds", "snr_db", "clipping", "bandwidth_hz"}


@pytest.fixture
def pair(samples) -> tuple[str, str]:
    return str(samples / "carlo-flora-it" / "vm-newuser.flac"), str(samples / "paola-dal-zot-it" / "vm-newuser.flac")


@pytest.mark.parametrize(("threshold", "status"), [("-1", 0), ("1", 1)])
def test_the_exit_status_is_the_decision(threshold, status, command, pair, tiny_model):
    ended = command("verify", *pair, "--model", tiny_model, "--threshold", threshold)
    assert ended.status == status
    assert ended.out.startswith("same voice" if status == 0 else "different voices")
    assert ended.err == ""


def test_what_people_see(command, pair, tiny, tiny_model):
    ended = command("verify", *pair, "-m", tiny_model)
    result = tiny.verify(*pair)
    assert f"{result.score:.3f}  (cosine; same from 0.600)" in ended.out
    assert f"{result.llr:+.1f}" in ended.out
    assert "even odds (llr = 0) on made-up trials [of nobody]" in ended.out  # no markup of rich's
    assert pair[0] in ended.out
    assert pair[1] in ended.out
    assert "warning: second: narrow-band: nothing above 3.9 kHz" in ended.out


@pytest.mark.parametrize("calibrated", [True, False])
def test_json(calibrated, command, pair, tiny, tiny_model, tmp_path):
    folder = tiny_model
    if not calibrated:
        folder = tmp_path
        (folder / "card.yaml").write_text((tiny_model / "card.yaml").read_text().partition("calibration:")[0])
        (folder / "model.onnx").write_bytes((tiny_model / "model.onnx").read_bytes())
    ended = command("verify", *pair, "--model", folder, "--threshold", "0.99", "--json")
    found = json.loads(ended.out)
    result = tiny.verify(*pair, threshold=0.99)
    assert found.keys() == {
        "score", "llr", "same", "threshold", "threshold_reason", "model", "a", "b", "warnings",
    }  # fmt: skip
    assert found["a"].keys() == found["b"].keys() == QUALITY
    assert found["score"] == pytest.approx(result.score, abs=1e-6)
    assert found["llr"] == (pytest.approx(result.llr, abs=1e-4) if calibrated else None)
    assert (found["same"], found["threshold"], found["model"]) == (False, 0.99, "tiny")
    assert found["threshold_reason"] == "given by the caller"
    assert found["warnings"] == result.warnings
    assert ended.status == 1


def test_an_operating_point_is_a_threshold(command, pair, tiny_model):
    ended = command("verify", *pair, "--model", tiny_model, "--operating-point", "far=0.1%", "--json")
    found = json.loads(ended.out)
    assert found["threshold"] == 0.9
    assert found["threshold_reason"].startswith("far=0.1% (misses 25.0% there)")


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--threshold", "2"], "a threshold is a cosine between -1 and 1, not 2"),
        (["--operating-point", "far=7%"], "tiny has no operating point 'far=7%'; valid: far=5%, far=0.1%"),
        (["--threshold", "0", "--operating-point", "far=5%"], "give a threshold or an operating point, not both"),
        (["--device", "tpu"], "unknown device 'tpu'; valid: cpu, cuda"),
        (["--model", "no-such-model"], "no model called 'no-such-model'"),
        (["--model", "/no/such/folder"], "/no/such/folder: no such folder"),
        (["--max-hours", "0.001"], "the limit of 0.001 hours"),
        (["--thresh", "1"], "No such option: --thresh"),
        (["--threshold", "high"], "Invalid value for '--threshold'"),
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_wrong_options_end_in_2(options, why, as_json, command, pair, tiny_model):
    model = [] if "--model" in options else ["--model", tiny_model]
    ended = command("verify", *pair, *model, *options, *(["--json"] if as_json else []))
    assert ended.status == 2
    assert why in " ".join(ended.err.split())
    if as_json and "--thresh" not in why:  # the parser's own messages are for people
        assert why in json.loads(ended.out)["error"]
    else:
        assert ended.out == ""


def test_offline_says_how_to_get_the_model(command, pair, monkeypatch, tmp_path):
    monkeypatch.setenv("SAMEVOICE_CACHE", str(tmp_path))
    ended = command("verify", *pair, "--offline", "--model", "campplus-zh-en")
    assert ended.status == 2
    assert "skipped, offline" in ended.err
    assert "samevoice models pull campplus-zh-en" in ended.err
    assert list(tmp_path.iterdir()) == []


def test_without_a_network_the_shipped_model_decides_and_says_so_once(command, samples, monkeypatch, tmp_path):
    monkeypatch.setenv("SAMEVOICE_CACHE", str(tmp_path))
    pair = samples / "allison-smith-en" / "vm-newuser.flac", samples / "allison-smith-en" / "vm-rec-unv.flac"
    ended = command("verify", *pair, "--offline")
    assert ended.status == 0
    assert "model      eres2net-mini" in ended.out
    assert ended.err.count("samevoice models pull") == 1
    assert command("verify", pair[0], samples / "carlo-flora-it" / "vm-newuser.flac", "--offline").status == 1
    assert list(tmp_path.iterdir()) == []


def test_the_default_model_on_a_phones_recording(command, default, samples, speech, tmp_path):
    recording = encode(tmp_path / "memo.m4a", speech, "aac")
    same = command("verify", samples / "allison-smith-es" / "vm-newuser.flac", recording, "--operating-point", "far=1%")
    assert same.status == 0
    other = command("verify", samples / "carlo-flora-it" / "vm-newuser.flac", recording, "--json")
    assert other.status == 1
    found = json.loads(other.out)
    assert found["model"] == "campplus-zh-en"
    assert found["llr"] < 0
    assert found["score"] < found["threshold"]


def test_a_crash_of_ours_is_no_decision(command, pair, tiny_model, monkeypatch):
    from samevoice.runtime import Verifier

    def crash(*_):
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(Verifier, "decide", crash)
    ended = command("verify", *pair, "--model", tiny_model)
    assert ended.status not in (0, 1, 2)
    assert "ZeroDivisionError: ours" in ended.err

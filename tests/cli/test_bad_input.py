import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from recordings import RATE, chords, silent_video, sound_bytes, wav_of_hours

BAD = {
    "missing.wav": "no such file; check the path",
    "folder": "is a folder; name the recordings in it",
    "empty.wav": "is empty (0 bytes)",
    "text.wav": "is not a recording we can read",
    "cut.flac": "is damaged or cut short",
    "nan.wav": "has samples that are NaN or infinite",
    "zeros.wav": "is digital silence",
    "music.wav": "has no speech in 8.0 s; a voice needs at least 0.5 s of it",
    "word.wav": "of speech in 2.2 s; a voice needs at least 0.5 s of it",
    "long.wav": "lasts 3.0 hours, more than the limit of 2 hours",
    "film.mp4": "has no sound track",
}


def write(name: str, folder: Path, speech: np.ndarray) -> Path:
    path = folder / name
    if name == "folder":
        path.mkdir()
    elif name == "empty.wav":
        path.touch()
    elif name == "text.wav":
        path.write_text("This is not sound.\n" * 100)
    elif name == "cut.flac":
        content = sound_bytes(speech, RATE, "FLAC")
        path.write_bytes(content[: len(content) * 2 // 3])
    elif name == "nan.wav":
        path.write_bytes(sound_bytes(np.append(speech, np.nan), subtype="FLOAT"))
    elif name == "zeros.wav":
        path.write_bytes(sound_bytes(np.zeros(5 * RATE)))
    elif name == "music.wav":
        path.write_bytes(sound_bytes(chords(8)))
    elif name == "word.wav":
        path.write_bytes(sound_bytes(np.pad(speech[RATE : RATE + RATE // 5], RATE)))
    elif name == "long.wav":
        wav_of_hours(path, 3)
        with path.open("r+b") as file:  # it does begin with speech
            file.seek(1000)
            file.write((speech * 32767).astype("<i2").tobytes())
    elif name == "film.mp4":
        silent_video(path)
    return path


def assert_told(ended, path: Path, why: str) -> None:
    assert ended.status == 2
    assert f"error: {path}: " in ended.err
    assert why in ended.err
    assert "Traceback" not in ended.err
    assert len(ended.err.strip().splitlines()) == 1


@pytest.mark.parametrize("place", ["first", "second"])
@pytest.mark.parametrize(("name", "why"), BAD.items())
def test_verify(name, why, place, command, tiny_model, samples, speech, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    bad, good = write(name, tmp_path, speech), samples / "carlo-flora-it" / "vm-newuser.flac"
    pair = (bad, good) if place == "first" else (good, bad)
    ended = command("verify", *pair, "--model", tiny_model)
    assert_told(ended, bad, why)
    assert ended.out == ""
    assert list((tmp_path / "here").iterdir()) == []


@pytest.mark.parametrize(("name", "why"), [item for item in BAD.items() if item[0] != "folder"])
def test_embed(name, why, command, tiny_model, speech, tmp_path):
    bad = write(name, tmp_path, speech)
    ended = command("embed", bad, "-o", tmp_path / "out.npz", "--model", tiny_model, "--json")
    assert ended.status == 2
    assert f"failed: {bad}: " in ended.err
    assert why in ended.err
    (row,) = json.loads(ended.out)["failed"]
    assert row["path"] == str(bad)
    assert why in row["problem"]
    assert not (tmp_path / "out.npz").exists()


def test_the_way_out_of_three_hours_is_one(command, tiny_model, samples, speech, tmp_path):
    long = write("long.wav", tmp_path, speech)
    ended = command("verify", long, long, "--model", tiny_model)
    assert "cut out the part with the speaker you mean, or raise the limit (--max-hours)" in ended.err
    minutes = wav_of_hours(tmp_path / "minutes.wav", 0.1)
    with minutes.open("r+b") as file:
        file.seek(1000)
        file.write((speech * 32767).astype("<i2").tobytes())
    assert command("verify", minutes, minutes, "--model", tiny_model, "--max-hours", "0.05").status == 2
    assert command("verify", minutes, minutes, "--model", tiny_model, "--max-hours", "0.2").status == 0


def test_no_permission(command, tiny_model, samples, tmp_path, monkeypatch):
    secret = tmp_path / "secret.wav"
    secret.write_bytes((samples / "carlo-flora-it" / "vm-newuser.flac").read_bytes())
    honest = Path.open

    def refuse(path, *arguments, **words):
        if path == secret:
            raise PermissionError(13, "Permission denied", str(path))
        return honest(path, *arguments, **words)

    monkeypatch.setattr(Path, "open", refuse)
    assert_told(command("verify", secret, secret, "--model", tiny_model), secret, "no permission to read it")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_no_permission_for_real(command, tiny_model, tmp_path):
    secret = tmp_path / "secret.wav"
    secret.write_bytes(b"x")
    secret.chmod(0)
    assert_told(command("verify", secret, secret, "--model", tiny_model), secret, "no permission to read it")


@pytest.mark.parametrize("name", ["missing.wav", "text.wav"])
def test_the_real_command(name, tiny_model, speech, tmp_path):
    bad = write(name, tmp_path, speech)
    command = [sys.executable, "-m", "samevoice", "verify", str(bad), str(bad), "--model", str(tiny_model), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert f"error: {bad}: {BAD[name]}" in done.stderr
    assert json.loads(done.stdout)["error"].startswith(f"{bad}: {BAD[name]}")


@pytest.mark.parametrize("arguments", [["nonsense"], ["verify", "one.wav"], ["embed"], ["models", "pul"]])
def test_wrong_usage(arguments, command):
    ended = command(*arguments)
    assert ended.status == 2
    assert ended.err.startswith("Usage: ")
    assert ended.out == ""

import io
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from recordings import RATE, encode, silent_video, sound_bytes, wav_of_hours

from samevoice.audio import AudioError, open_audio, read, resampled
from samevoice.audio.decode import Source

LOSSLESS = {  # format, subtype: the largest error of one sample
    ("WAV", "PCM_U8"): 1 / 128,
    ("WAV", "PCM_16"): 1 / 32768,
    ("WAV", "PCM_24"): 2.0**-23,
    ("WAV", "PCM_32"): 2.0**-23,
    ("WAV", "FLOAT"): 0,
    ("WAV", "DOUBLE"): 0,
    ("FLAC", "PCM_16"): 1 / 32768,
    ("AIFF", "PCM_16"): 1 / 32768,
}
LOSSY = ["a.mp3", "a.ogg", "a.opus", "a.m4a", "a.mp4", "a.webm", "a.aac"]
CODECS = {".m4a": "aac", ".mp4": "aac", ".aac": "aac", ".webm": "libopus"}


def lossy(path: Path, samples: np.ndarray) -> Path:
    if path.suffix in CODECS:
        rate = 48000 if path.suffix == ".webm" else RATE
        return encode(path, soxr.resample(samples, RATE, rate), CODECS[path.suffix], rate)
    kinds = {".mp3": ("MP3", None), ".ogg": ("OGG", "VORBIS"), ".opus": ("OGG", "OPUS")}
    path.write_bytes(sound_bytes(samples, RATE, *kinds[path.suffix]))
    return path


def likeness(a: np.ndarray, b: np.ndarray) -> float:
    """The cross-correlation at the best delay, 1 for equal signals."""
    size = len(a) + len(b)
    cross = np.fft.irfft(np.fft.rfft(a, size) * np.conj(np.fft.rfft(b, size)), size)
    return float(cross.max() / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.mark.parametrize(("kind", "error"), LOSSLESS.items(), ids=lambda value: str(value))
def test_lossless_formats_give_the_samples_back(kind, error, speech):
    found = read(sound_bytes(speech, RATE, *kind))
    assert found.dtype == np.float32
    assert found.shape == speech.shape
    assert np.abs(found - speech).max() <= error


@pytest.mark.parametrize("name", LOSSY)
def test_lossy_formats_give_the_speech_back(name, speech, tmp_path):
    found = read(lossy(tmp_path / name, speech))
    assert abs(len(found) - len(speech)) < 0.15 * RATE
    assert likeness(found, speech) > 0.97
    assert np.abs(found).max() == pytest.approx(np.abs(speech).max(), rel=0.2)


@pytest.mark.parametrize("name", ["a.flac", *LOSSY])
def test_path_bytes_and_file_objects_are_equal(name, speech, tmp_path):
    path = tmp_path / name
    if path.suffix == ".flac":
        soundfile.write(path, speech, RATE)
    else:
        lossy(path, speech)
    expected = read(path)
    content = path.read_bytes()
    with path.open("rb") as file:
        file.read(7)  # wherever it stands
        others = [read(str(path)), read(content), read(bytearray(content)), read(io.BytesIO(content)), read(file)]
        assert not file.closed
    for found in others:
        np.testing.assert_array_equal(found, expected)


def test_samples_with_a_rate_equal_the_file(speech):
    content = sound_bytes(speech, 22050, subtype="FLOAT")
    np.testing.assert_array_equal(read((speech, 22050)), read(content))


@pytest.mark.parametrize("channels", [1, 2, 3, 6, 8])
def test_channels_are_averaged(channels, speech):
    many = speech[: RATE * 2, None] * np.linspace(0.2, 1, channels, dtype=np.float32)
    expected = many.mean(axis=1)
    for audio in ((many, RATE), (many.T, RATE), sound_bytes(many, RATE, subtype="FLOAT")):
        np.testing.assert_allclose(read(audio), expected, atol=1e-6)


def test_channels_of_m4a_are_averaged(tmp_path, speech):
    import av

    path = tmp_path / "two.m4a"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("aac", rate=RATE, layout="stereo")
        frame = av.AudioFrame.from_ndarray(np.stack([speech, 0 * speech]), format="fltp", layout="stereo")
        frame.sample_rate = RATE
        for given in (frame, None):
            out.mux(stream.encode(given))
    found = read(path)
    assert likeness(found, speech) > 0.97
    assert np.abs(found).max() == pytest.approx(np.abs(speech).max() / 2, rel=0.2)


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 32000, 44100, 48000, 96000, 192000])
def test_any_rate_becomes_16_khz(rate):
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(rate * 2) / rate)
    found = read((tone, rate))
    assert abs(len(found) - 2 * RATE) <= 1
    middle = slice(RATE // 2, -RATE // 2)
    np.testing.assert_allclose(
        found[middle], 0.5 * np.sin(2 * np.pi * 440 * np.arange(len(found)) / RATE)[middle], atol=1e-3
    )


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        (np.array([-(2**15), 0, 2**14], np.int16), [-1, 0, 0.5]),
        (np.array([-(2**31), 0, 2**30], np.int32), [-1, 0, 0.5]),
        (np.array([-(2**63), 0, 2**62], np.int64), [-1, 0, 0.5]),
        (np.array([0, 128, 192], np.uint8), [-1, 0, 0.5]),
        (np.array([0, 2**15, 3 * 2**14], np.uint16), [-1, 0, 0.5]),
        (np.array([-1, 0, 0.5], np.float16), [-1, 0, 0.5]),
        (np.array([-1, 0, 0.5], np.float64), [-1, 0, 0.5]),
        ([-1.0, 0.0, 0.5], [-1, 0, 0.5]),
    ],
    ids=lambda value: str(getattr(value, "dtype", "list")),
)
def test_integers_are_scaled_by_their_range(samples, expected):
    assert read((samples, RATE)).tolist() == expected


@pytest.mark.parametrize("rate", [8000, 44100])
def test_block_borders_leave_no_trace(rate):
    random = np.random.default_rng(0)
    whole = random.standard_normal(rate * 3).astype(np.float32)
    cuts = np.sort(random.integers(0, len(whole), 40))
    found = np.concatenate(list(resampled(Source("noise", rate, iter(np.split(whole, cuts))))))
    np.testing.assert_allclose(found, soxr.resample(whole, rate, RATE, "HQ"), atol=1e-6)


def test_a_file_longer_than_a_block_equals_the_whole():
    noise = (0.1 * np.random.default_rng(0).standard_normal(44100 * 45)).astype(np.float32)
    found = read(sound_bytes(noise, 44100, subtype="FLOAT"))
    np.testing.assert_allclose(found, soxr.resample(noise, 44100, RATE, "HQ"), atol=1e-6)


HOUR = """
import resource, sys
import numpy as np
from samevoice.audio import open_audio, resampled
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # MiB
audio = (np.ones(8000, np.int16), 8000)
sum(len(block) for block in resampled(open_audio(audio)))
before = peak()
heard = 0
try:
    for block in resampled(open_audio(sys.argv[1])):
        heard += len(block)
except ValueError as error:
    assert "digital silence" in str(error), error
print(heard, peak() - before)
"""


def test_an_hour_needs_no_more_memory_than_a_minute(tmp_path):
    path = wav_of_hours(tmp_path / "hour.wav", 1)
    done = subprocess.run([sys.executable, "-c", HOUR, str(path)], capture_output=True, text=True, check=True)
    heard, mebibytes = map(float, done.stdout.split())
    assert heard == pytest.approx(3600 * RATE, abs=RATE)  # silence is told before the resampler gives its last samples
    assert mebibytes < 30  # the whole hour would be 220


def bad_recordings(folder: Path, speech: np.ndarray) -> dict[str, tuple[object, str]]:
    """Every kind of bad recording: (audio, what the message must say)."""
    flac = sound_bytes(speech, RATE, "FLAC")
    nan = speech.copy()
    nan[5000] = np.nan
    (folder / "folder").mkdir()
    (folder / "empty.wav").touch()
    (folder / "text.wav").write_text("This is not sound.\n" * 100)
    (folder / "cut.flac").write_bytes(flac[: len(flac) // 2])
    (folder / "nan.wav").write_bytes(sound_bytes(nan, RATE, subtype="FLOAT"))
    (folder / "zeros.wav").write_bytes(sound_bytes(np.zeros(RATE), RATE))
    (folder / "nothing.wav").write_bytes(sound_bytes(np.zeros(0), RATE))
    (folder / "wav.raw").write_bytes((speech * 32767).astype("<i2").tobytes())
    return {
        "missing": (folder / "missing.wav", "no such file"),
        "folder": (folder / "folder", "is a folder"),
        "name too long": (folder / ("a" * 300), "can't be opened: File name too long"),
        "empty": (folder / "empty.wav", r"is empty \(0 bytes\)"),
        "text": (folder / "text.wav", "not a recording we can read"),
        "raw": (folder / "wav.raw", "not a recording we can read|has no sound track"),
        "cut flac": (folder / "cut.flac", "damaged or cut short"),
        "NaN": (folder / "nan.wav", "NaN or infinite"),
        "zeros": (folder / "zeros.wav", "digital silence"),
        "no samples": (folder / "nothing.wav", "no audio samples"),
        "film": (silent_video(folder / "film.mp4"), "no sound track"),
        "3 hours": (wav_of_hours(folder / "long.wav", 3), r"lasts 3\.0 hours, .* the limit of 2 hours.*--max-hours"),
        "infinite samples": ((np.array([0.1, np.inf]), RATE), "NaN or infinite"),
        "no samples at all": ((np.zeros((0, 2)), RATE), "no audio samples"),
        "three axes": ((np.zeros((2, 2, 2)), RATE), "must have one axis"),
        "booleans": ((np.ones(8, bool), RATE), "integers or floats, not bool"),
        "no rate": ((speech, 0), "positive whole number of hertz, not 0"),
        "half a hertz": ((speech, 0.5), "positive whole number of hertz"),
        "a word for a rate": ((speech, "16 kHz"), "positive whole number of hertz"),
        "too many samples": ((np.ones(3 * 3600 * 100, np.int8), 100), "longer than the limit of 2 hours"),
    }


BAD = [
    "missing", "folder", "name too long", "empty", "text", "raw", "cut flac", "NaN", "zeros", "no samples", "film",
    "3 hours", "infinite samples", "no samples at all", "three axes", "booleans", "no rate", "half a hertz",
    "a word for a rate", "too many samples",
]  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_bad_recordings_are_told_by_name(kind, speech, tmp_path):
    made = bad_recordings(tmp_path, speech)
    assert list(made) == BAD
    audio, problem = made[kind]
    with pytest.raises(AudioError, match=problem) as error:
        read(audio)
    assert error.value.name == ("samples" if isinstance(audio, tuple) else str(audio))


def test_long_recordings_without_a_length_in_the_header_stop_at_the_limit(tmp_path, speech):
    with pytest.raises(AudioError, match=r"longer than the limit of 0\.001 hours"):
        read(encode(tmp_path / "a.m4a", speech, "aac"), max_hours=0.001)


def test_no_permission(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(AudioError, match="no permission to read it"):
        read(tmp_path / "secret.wav")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_told_and_not_a_traceback(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=lambda: (tmp_path / "pipe").open("wb").close())
    writer.start()
    with pytest.raises(AudioError, match="is a pipe"):
        read(tmp_path / "pipe")
    writer.join()


def test_what_is_no_audio_at_all_is_a_type_error():
    with pytest.raises(TypeError, match="not int"):
        read(5)


def test_streamed_wav_and_flac_have_no_length_in_their_headers(speech):
    wav = bytearray(sound_bytes(speech, RATE, subtype="PCM_16"))
    at = wav.index(b"data")
    wav[at + 4 : at + 8] = b"\xff\xff\xff\xff"
    flac = bytearray(sound_bytes(speech, RATE, "FLAC"))
    flac[21] &= 0xF0  # the 36 bits of STREAMINFO's number of samples
    flac[22:26] = bytes(4)
    for content in (wav, flac):
        np.testing.assert_allclose(read(bytes(content)), speech, atol=1 / 32768)


def test_raw_g722_is_known_by_its_ending(tmp_path, speech):
    found = read(encode(tmp_path / "a.g722", speech, "g722"))
    assert likeness(found, speech) > 0.97


def test_a_playlist_does_not_open_other_files(tmp_path, speech, monkeypatch):
    monkeypatch.chdir(tmp_path)
    soundfile.write("secret.wav", speech, RATE)
    playlist = b"ffconcat version 1.0\nfile 'secret.wav'\n"
    Path("list.wav").write_bytes(playlist)
    for audio in (playlist, "list.wav"):
        with pytest.raises(AudioError, match="not a recording"):
            read(audio)


@pytest.mark.parametrize("name", ["bytes", "other.m4a"])
def test_a_file_of_the_same_name_is_not_read_instead(name, tmp_path, speech, monkeypatch):
    monkeypatch.chdir(tmp_path)
    encode(Path("mine.m4a"), speech, "aac")
    encode(Path("wrong.m4a"), speech[: len(speech) // 4], "aac").rename(name)
    content = Path("mine.m4a").read_bytes()
    file = io.BytesIO(content)
    file.name = name
    assert len(read(content)) == len(read(file)) == len(read("mine.m4a"))


def test_aac_that_changes_its_rate_is_refused(tmp_path, speech):
    first = encode(tmp_path / "a.aac", speech, "aac").read_bytes()
    second = encode(tmp_path / "b.aac", speech, "aac", rate=44100).read_bytes()
    with pytest.raises(AudioError, match="changes its sample rate from 16000 to 44100 Hz"):
        read(first + second)


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_files_are_closed(samples):
    files = Path("/proc/self/fd")
    if not files.is_dir():
        pytest.skip("no /proc here")
    before = len(list(files.iterdir()))
    source = open_audio(samples / "carlo-flora-it" / "vm-newuser.flac")
    assert len(list(files.iterdir())) == before + 1
    for _ in source.blocks:
        pass
    assert len(list(files.iterdir())) == before

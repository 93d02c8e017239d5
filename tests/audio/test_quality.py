import dataclasses

import numpy as np
import pytest
import soxr
from recordings import RATE

from samevoice.audio import read
from samevoice.audio.quality import Quality, QualityMeter
from samevoice.audio.vad import CHUNK, SpeechDetector

VOICES = ["allison-smith-en/queue-periodic-announce", "carlo-flora-it/vm-newuser", "june-wallack-fr/vm-rec-unv"]


def measure(samples: np.ndarray, cuts: tuple[int, ...] = ()) -> Quality:
    meter = QualityMeter()
    for block in np.split(samples.astype(np.float32), cuts):
        meter.hear_native(block)
        meter.hear(block)
    meter.finish()
    return meter.quality()


@pytest.mark.parametrize("snr", [0, 5, 10, 15, 20])
@pytest.mark.parametrize("voice", VOICES)
def test_snr_is_what_was_mixed(voice, snr, samples):
    voice = np.pad(read(samples / f"{voice}.flac"), RATE)
    chunks = voice[: len(voice) // CHUNK * CHUNK].reshape(-1, CHUNK)
    power = np.square(chunks[SpeechDetector()(chunks) > 0.5]).mean()
    noise = np.random.default_rng(0).standard_normal(len(voice)) * np.sqrt(power / 10 ** (snr / 10))
    assert measure(voice + noise).snr_db == pytest.approx(snr, abs=2)


def test_without_pauses_there_is_no_snr(speech):
    meter = QualityMeter()
    meter.hear_native(speech[:RATE])
    meter.hear(speech[8000:24000])
    meter.finish()
    assert meter.quality().snr_db is None


@pytest.mark.parametrize(("gain", "limit"), [(8, 1.0), (4, 0.5)], ids=["full scale", "half scale"])
def test_clipping(gain, limit, speech):
    assert measure(speech).clipping < 1e-4
    clipped = measure(np.clip(speech * gain, -limit, limit))
    expected = (np.abs(speech * gain) >= limit).mean()
    assert clipping_close(clipped.clipping, expected)
    assert any("clipped" in warning for warning in clipped.warnings)


def clipping_close(found: float, expected: float) -> bool:
    return expected <= found <= 1.2 * expected


def test_bandwidth_tells_telephone_from_wide_band(samples):
    wide = read(samples / "carlo-flora-it" / "vm-newuser.flac")
    assert measure(wide).bandwidth_hz > 6500
    narrow = measure(soxr.resample(soxr.resample(wide, RATE, 8000), 8000, RATE))
    assert 3300 < narrow.bandwidth_hz < 4200
    assert any("narrow-band: nothing above" in warning for warning in narrow.warnings)
    telephone = read(samples / "paola-dal-zot-it" / "vm-newuser.flac")  # recorded at 8 kHz
    assert measure(telephone).bandwidth_hz < 4200


def test_seconds_and_speech_seconds(speech):
    heard = measure(np.pad(speech, 3 * RATE))
    assert heard.seconds == pytest.approx(len(speech) / RATE + 6)
    assert heard.speech_seconds == pytest.approx(measure(speech).speech_seconds, abs=0.5)
    assert 0.8 * len(speech) / RATE < heard.speech_seconds < len(speech) / RATE


def test_quiet_recordings_are_heard_too(speech):
    assert measure(speech / 100).speech_seconds == pytest.approx(measure(speech).speech_seconds, abs=0.7)


def test_blocks_of_any_size_make_the_same_record(speech):
    # All but the first at the recording's full level: the detector's gain follows the loudest so far.
    whole, cut = measure(speech), measure(speech, (40000, 40100, 40101, 90000))
    assert dataclasses.replace(cut, snr_db=None, bandwidth_hz=0) == dataclasses.replace(
        whole, snr_db=None, bandwidth_hz=0
    )
    assert cut.snr_db == pytest.approx(whole.snr_db, abs=0.1)
    assert cut.bandwidth_hz == pytest.approx(whole.bandwidth_hz, abs=70)


def test_nothing_but_silence_has_no_speech():
    heard = measure(np.zeros(RATE * 2))
    assert (heard.speech_seconds, heard.snr_db, heard.clipping) == (0, None, 0)


def test_warnings_in_words():
    good = Quality(seconds=9, speech_seconds=8, snr_db=30, clipping=0, bandwidth_hz=8000)
    assert good.warnings == []
    assert dataclasses.replace(good, snr_db=None).warnings == []
    bad = Quality(seconds=9, speech_seconds=1.25, snr_db=4.4, clipping=0.05, bandwidth_hz=3400)
    assert bad.warnings == [
        "only 1.2 s of speech: 2 s or more decide better",
        "noisy: 4 dB signal-to-noise ratio",
        "clipped: 5.0% of samples at the limit",
        "narrow-band: nothing above 3.4 kHz (telephone?)",
    ]

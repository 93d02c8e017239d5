import numpy as np
import pytest
from recordings import chords

from samevoice.audio import read
from samevoice.audio.vad import CHUNK, SpeechDetector


def in_chunks(samples: np.ndarray) -> np.ndarray:
    return samples[: len(samples) // CHUNK * CHUNK].reshape(-1, CHUNK)


@pytest.mark.parametrize("voice", ["allison-smith-en", "carlo-flora-it", "june-wallack-fr", "ivrvoice-ru"])
def test_speech_is_found(voice, samples):
    probability = SpeechDetector()(in_chunks(read(samples / voice / "vm-newuser.flac")))
    assert (probability > 0.5).mean() > 0.8


@pytest.mark.parametrize(
    "samples",
    [
        np.zeros(64000, np.float32),
        0.1 * np.random.default_rng(0).standard_normal(64000).astype(np.float32),
        chords(4),
    ],
    ids=["silence", "noise", "music"],
)
def test_what_is_not_speech_is_not_taken_for_it(samples):
    assert not (SpeechDetector()(in_chunks(samples)) > 0.5).any()


def test_speech_between_silences_is_placed(speech):
    silence = np.zeros(32000, np.float32)
    probability = SpeechDetector()(in_chunks(np.concatenate([silence, speech, silence])))
    found = np.flatnonzero(probability > 0.5)
    assert abs(found[0] - 32000 / CHUNK) < 12  # 0.4 s
    assert abs(found[-1] - (32000 + len(speech)) / CHUNK) < 24


def test_the_same_from_run_to_run_and_however_the_chunks_arrive(speech):
    chunks = in_chunks(speech)
    whole = SpeechDetector()(chunks)
    detector = SpeechDetector()
    np.testing.assert_array_equal(np.concatenate([detector(chunks[:7]), detector(chunks[7:])]), whole)
    np.testing.assert_array_equal(SpeechDetector()(chunks), whole)  # nothing of the last recording is remembered
    assert SpeechDetector()(chunks[:0]).shape == (0,)

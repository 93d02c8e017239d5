from threading import Event

import numpy as np
import pytest
from recordings import RATE

from samevoice.audio import AudioError
from samevoice.audio.fbank import FbankSettings, fbank
from samevoice.runtime.pieces import PIECE, SHORTEST, Recording, _cut

SETTINGS = FbankSettings()


@pytest.mark.parametrize("seconds", [0.5, 30, 60, 69.9, 70, 70.1, 125, 130, 190])
@pytest.mark.parametrize("block", [7777, 320000, 10**7])
def test_pieces_hold_every_sample_once(seconds, block):
    samples = np.arange(int(seconds * RATE), dtype=np.float32)
    pieces = list(_cut(samples[start : start + block] for start in range(0, len(samples), block)))
    np.testing.assert_array_equal(np.concatenate(pieces), samples)
    assert all(len(piece) == PIECE for piece in pieces[:-1])
    assert len(pieces[-1]) < PIECE + SHORTEST
    assert len(pieces) == 1 or len(pieces[-1]) >= SHORTEST


def test_a_short_recording_is_one_piece_of_filter_banks(speech):
    recording = Recording((speech, RATE), SETTINGS, 2.0, Event())
    (piece,) = recording
    np.testing.assert_array_equal(piece.features, fbank(speech, SETTINGS))
    assert piece.speech_seconds == recording.quality.speech_seconds
    assert recording.quality.seconds == len(speech) / RATE


def test_a_long_recording_is_cut_and_minutes_without_speech_left_out(speech):
    minute = np.resize(speech, PIECE)
    samples = np.concatenate([minute, np.zeros(PIECE, np.float32), minute[: PIECE // 2]])
    recording = Recording((samples, RATE), SETTINGS, 2.0, Event())
    first, last = recording
    assert recording.quality.seconds == 150
    assert first.speech_seconds + last.speech_seconds == pytest.approx(recording.quality.speech_seconds, abs=0.1)
    assert first.speech_seconds == pytest.approx(2 * last.speech_seconds, rel=0.05)
    np.testing.assert_array_equal(first.features, fbank(minute, SETTINGS))


@pytest.mark.parametrize(
    ("seconds", "why"),
    [(0, r"has no speech in 3\.0 s; a voice needs at least 0\.5 s of it"), (0.2, r"only 0\.\d\d s of")],
)
def test_too_little_speech_is_told(seconds, why, speech):
    word = speech[RATE : RATE + int(seconds * RATE)]
    samples = np.concatenate([word, 1e-4 * np.random.default_rng(0).standard_normal(3 * RATE - len(word))])
    with pytest.raises(AudioError, match=why):
        list(Recording((samples, RATE), SETTINGS, 2.0, Event()))

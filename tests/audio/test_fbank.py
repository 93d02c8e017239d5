import numpy as np
import pytest

from samevoice.audio.fbank import FbankSettings, fbank

PLAIN = FbankSettings(subtract_mean=False)


def tones() -> np.ndarray:
    """Half a second of three tones: the same samples on every machine."""
    time = np.arange(8000) / 16000
    return sum(0.1 * np.sin(2 * np.pi * hertz * time) for hertz in (220.0, 1000.0, 5000.0)).astype(np.float32)


def by_the_book(samples: np.ndarray, frame: int, mels: int, window: str) -> np.ndarray:
    """One frame of Kaldi's compute-fbank-feats, written out in float64."""
    x = samples[frame * 160 : frame * 160 + 400].astype(np.float64)
    x = x - x.mean()
    x = x - 0.97 * np.concatenate([x[:1], x[:-1]])
    phase = 2 * np.pi * np.arange(400) / 399
    x *= (0.5 - 0.5 * np.cos(phase)) ** 0.85 if window == "povey" else 0.54 - 0.46 * np.cos(phase)
    power = np.abs(np.fft.rfft(x, 512)[:256]) ** 2
    mel = 1127 * np.log(1 + np.array([20.0, 8000.0]) / 700)
    edges = np.linspace(*mel, mels + 2)
    bins = 1127 * np.log(1 + np.arange(256) * 16000 / 512 / 700)
    energies = []
    for low, centre, high in zip(edges[:-2], edges[1:-1], edges[2:], strict=True):
        energies.append(
            power @ np.clip(np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre)), 0, None)
        )
    return np.log(np.maximum(energies, np.finfo(np.float32).eps))


@pytest.mark.parametrize("window", ["povey", "hamming"])
@pytest.mark.parametrize("mels", [40, 80])
def test_a_frame_by_the_book(mels, window, speech):
    found = fbank(speech, FbankSettings(mels, window, 32768.0, subtract_mean=False))
    for frame in (0, 100, len(found) - 1):
        expected = by_the_book(speech * 32768.0, frame, mels, window)
        np.testing.assert_allclose(found[frame], expected, atol=2e-3)


def test_pinned_numbers():
    features = fbank(tones(), PLAIN)
    assert features.shape == (48, 80)
    assert features.dtype == np.float32
    found = [features[0, 5], features[0, 27], features[20, 27], features[20, 64], features[47, 79]]
    np.testing.assert_allclose(found, PINNED, atol=1e-3)


PINNED = [-2.624, 3.041, 3.041, -7.347, -15.942]


@pytest.mark.parametrize(("samples", "frames"), [(0, 0), (399, 0), (400, 1), (559, 1), (560, 2), (16000, 98)])
def test_edges_are_snipped(samples, frames):
    noise = np.random.default_rng(0).standard_normal(samples).astype(np.float32)
    assert fbank(noise, PLAIN).shape == (frames, 80)


def test_the_mean_over_the_utterance_is_subtracted(speech):
    plain = fbank(speech, PLAIN)
    np.testing.assert_allclose(fbank(speech, FbankSettings()), plain - plain.mean(0), atol=1e-5)


def test_the_scale_multiplies_the_samples(speech):
    loud = fbank(speech[:16000], FbankSettings(scale=32768.0, subtract_mean=False))
    noise = 0.1 * np.random.default_rng(0).standard_normal(4000).astype(np.float32)
    quiet = fbank(noise, PLAIN)
    np.testing.assert_allclose(
        fbank(noise, FbankSettings(scale=32768.0, subtract_mean=False)) - quiet, 2 * np.log(32768), atol=1e-3
    )
    assert loud.min() > np.log(np.finfo(np.float32).eps) + 1  # 16-bit numbers never meet the floor in speech


def test_silence_meets_the_floor_and_stays_finite():
    assert np.unique(fbank(np.zeros(1600, np.float32), PLAIN)) == np.log(np.finfo(np.float32).eps)

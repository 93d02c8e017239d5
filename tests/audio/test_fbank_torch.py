import numpy as np
import pytest

from samevoice.audio import read
from samevoice.audio.fbank import FbankSettings, fbank

torch = pytest.importorskip("torch")
from samevoice.audio.fbank_torch import Fbank, mel_filters  # noqa: E402

SETTINGS = [
    FbankSettings(),
    FbankSettings(scale=32768.0, window="hamming"),
    FbankSettings(mels=40, subtract_mean=False),
    FbankSettings(mels=23, window="hamming", subtract_mean=False),
    FbankSettings(mels=60, scale=32768.0, subtract_mean=False),
    FbankSettings(mels=100, scale=32768.0),
]
LENGTHS = [400, 401, 559, 560, 4000, 15999, 16000, 16001, 48123]


def assert_equal(settings: FbankSettings, samples: np.ndarray, least_compared: float) -> None:
    """Both agree within 1e-3 wherever a filter lies less than 80 dB under its frame's strongest one."""
    expected = fbank(samples, FbankSettings(settings.mels, settings.window, settings.scale, subtract_mean=False))
    found = Fbank(settings)(torch.from_numpy(samples)[None])[0].numpy()
    assert found.shape == expected.shape
    compared = expected > expected.max(1, keepdims=True) - 80 / 10 * np.log(10)
    assert compared.mean() >= least_compared
    if settings.subtract_mean:
        expected = expected - expected.mean(0)
    assert np.abs(found - expected)[compared].max() < 1e-3


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("length", LENGTHS)
def test_equal_to_kaldis_on_noise(settings, length):
    noise = (0.1 * np.random.default_rng(length).standard_normal(length)).astype(np.float32)
    assert_equal(settings, noise, 0.999)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_equal_to_kaldis_on_real_speech(settings, samples):
    for voice in ("allison-smith-es", "carlo-flora-it", "ivrvoice-ru"):
        assert_equal(settings, read(samples / voice / "vm-newuser.flac"), 0.99)


def test_rows_of_a_batch_do_not_touch_each_other():
    noise = torch.randn(5, 8000, generator=torch.Generator().manual_seed(0))
    front_end = Fbank(FbankSettings())
    batch = front_end(noise)
    assert batch.shape == (5, 48, 80)
    for row, alone in zip(batch, noise, strict=True):
        torch.testing.assert_close(row, front_end(alone[None])[0], atol=1e-5, rtol=0)


def test_too_short_is_told():
    with pytest.raises(ValueError, match="399 samples is shorter than one frame"):
        Fbank(FbankSettings())(torch.zeros(1, 399))


def test_filters_are_triangles_that_sum_to_one_between_the_first_and_last_centre():
    filters = mel_filters(40)
    assert filters.shape == (257, 40)
    assert filters.max() <= 1
    assert not filters[-1].any()
    first, last = filters[:, 0].argmax(), filters[:, -1].argmax()
    torch.testing.assert_close(filters[first + 1 : last].sum(1), torch.ones(int(last - first) - 1), atol=1e-5, rtol=0)
    assert (filters[1:] != 0).sum(0).min() >= 1

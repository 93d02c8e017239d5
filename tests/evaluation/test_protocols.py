import numpy as np
import pytest

from samevoice.audio import AudioError
from samevoice.evaluation import protocols
from samevoice.evaluation.trials import TrialError


def test_noise_has_the_ratio_asked_for():
    random = np.random.default_rng(0)
    speech, noise = (0.01 * random.standard_normal(n).astype(np.float32) for n in (16000, 5000))
    mixed = protocols.add_noise(speech, noise, 5, draw=3)
    added = mixed - speech
    assert 10 * np.log10(np.square(speech).mean() / np.square(added).mean()) == pytest.approx(5, abs=0.01)


def test_a_crop_is_the_start_and_short_ones_are_refused(samples):
    path = str(next((samples / "ivrvoice-ru").glob("*.flac")))
    treatment, load = protocols.clip(path, "u", protocols.Condition(1.5))
    assert treatment == "first 1.5 s"
    assert load()[0].shape == (24000,)
    with pytest.raises(AudioError, match="is shorter than 99 s"):
        protocols.clip(path, "u", protocols.Condition(99))[1]()


def test_a_list_that_is_not_the_published_one_is_refused(tmp_path):
    (tmp_path / "veri_test2.txt").write_text("1 a b\n")
    with pytest.raises(TrialError, match="1 trials, not the published 37,611"):
        protocols.load(protocols.find("voxceleb1-o"), tmp_path)


def test_a_protocol_that_is_not_there_says_where_it_was_looked_for(tmp_path):
    with pytest.raises(TrialError, match="needs librispeech/test-other.csv; looked in"):
        protocols.load(protocols.find("librispeech-mini"), tmp_path)

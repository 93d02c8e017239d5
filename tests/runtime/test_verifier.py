import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from recordings import RATE, sound_bytes

import samevoice
from samevoice.audio import AudioError, read
from samevoice.audio.fbank import fbank
from samevoice.audio.formats import in_folder
from samevoice.evaluation.metrics import eer
from samevoice.hub import HubError
from samevoice.runtime import Embedded, Verification
from samevoice.runtime.pieces import PIECE
from samevoice.runtime.verifier import cosine


@pytest.fixture(scope="session")
def recordings(samples, speech) -> list:
    """Recordings of unequal and of equal lengths, in every form that audio may have."""
    files = in_folder(samples)[1::5]
    equal = [(np.roll(speech, 1000 * shift), RATE) for shift in range(4)]
    return [files[0], Path(files[1]), *equal[:2], Path(files[2]).read_bytes(), *files[3:], *equal[2:]]


def test_embed_runs_the_network_on_the_cards_features(tiny, speech):
    found = tiny.embed((speech, RATE))
    assert found.dtype == np.float32
    assert found.shape == (16,)
    np.testing.assert_array_equal(found, tiny._network(fbank(speech, tiny.card.features)[None])[0])


def test_every_form_of_audio_gives_the_same_embedding(tiny, samples):
    path = samples / "carlo-flora-it" / "vm-newuser.flac"
    expected = tiny.embed(str(path))
    with path.open("rb") as file:
        for audio in (path, path.read_bytes(), io.BytesIO(path.read_bytes()), file, (read(path), RATE)):
            np.testing.assert_array_equal(tiny.embed(audio), expected)


@pytest.mark.parametrize("batch_size", [1, 2, 16])
def test_many_are_each_as_alone_in_any_order(batch_size, tiny, recordings):
    alone = np.stack([tiny.embed(audio) for audio in recordings])
    for order in (np.arange(len(recordings)), np.random.default_rng(0).permutation(len(recordings))):
        found = tiny.embed_many([recordings[i] for i in order], batch_size=batch_size)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, alone[order], atol=1e-5 * np.abs(alone).max())
    assert len(np.unique(alone.round(4), axis=0)) == len(recordings)  # none could be taken for another


def test_more_recordings_than_are_read_ahead(tiny, speech):
    many = [(speech[: RATE + 160 * (i % 7)] * 0.9, RATE) for i in range(70)]
    found = tiny.embed_many(many)
    np.testing.assert_allclose(found[66], tiny.embed(many[66]), atol=1e-5)
    assert len(found) == 70


def test_none_at_all_is_told(tiny):
    with pytest.raises(ValueError, match="no recordings to embed"):
        tiny.embed_many([])


def test_each_goes_on_where_many_stops(tiny, recordings, tmp_path):
    (tmp_path / "bad.wav").write_text("text")
    given = [recordings[0], tmp_path / "bad.wav", (np.zeros(RATE), RATE), recordings[2]]
    found = dict(tiny.embed_each(given))
    assert sorted(found) == [0, 1, 2, 3]
    assert isinstance(found[1], AudioError)
    assert found[1].name == str(tmp_path / "bad.wav")
    assert "digital silence" in str(found[2])
    assert isinstance(found[3], Embedded)
    np.testing.assert_allclose(found[0].embedding, tiny.embed(recordings[0]), atol=1e-6)
    with pytest.raises(AudioError):
        tiny.embed_many(given)


def test_giving_up_does_not_read_a_long_recording_to_its_end(tiny, speech, tmp_path):
    long = io.BytesIO(sound_bytes(np.resize(speech, 30 * PIECE)))
    results = tiny.embed_each([tmp_path / "none.wav", long])
    assert isinstance(next(results)[1], AudioError)
    results.close()  # as Ctrl-C does
    assert long.tell() < len(long.getvalue()) / 2


def test_long_recordings_are_averaged_by_seconds_of_speech(tiny, speech, samples):
    other = read(samples / "carlo-flora-it" / "vm-newuser.flac")
    first = np.resize(speech, PIECE)
    second = np.resize(np.concatenate([other, np.zeros(5 * RATE, np.float32)]), PIECE)
    last = np.resize(other, PIECE // 2)
    results = dict(tiny.embed_each([(part, RATE) for part in (first, second, last)]))
    expected = np.zeros(16)
    lengths, seconds = [], []
    for part in results.values():
        lengths.append(np.linalg.norm(part.embedding))
        seconds.append(part.quality.speech_seconds)
        expected += part.embedding / lengths[-1] * seconds[-1]
    found = tiny.embed((np.concatenate([first, second, last]), RATE))
    assert np.linalg.norm(found) == pytest.approx(np.average(lengths, weights=seconds), rel=1e-3)
    assert cosine(found, expected) > 0.9999
    assert cosine(found, results[0].embedding) < 0.999


def test_verification_has_the_contracts_fields(tiny, samples):
    a, b = samples / "carlo-flora-it" / "vm-newuser.flac", samples / "paola-dal-zot-it" / "vm-newuser.flac"
    result = tiny.verify(a, b)
    assert isinstance(result, Verification)
    assert result.score == pytest.approx(cosine(tiny.embed(a), tiny.embed(b)), abs=1e-6)
    assert result.llr == pytest.approx(10 * result.score - 6)
    assert result.same == (result.score >= result.threshold)
    assert result.threshold == pytest.approx(0.6)
    assert result.threshold_reason == "even odds (llr = 0) on made-up trials [of nobody]"
    assert result.model == "tiny"
    assert result.a.seconds == pytest.approx(len(read(a)) / RATE)
    assert result.warnings == [w for w in result.warnings if w.startswith("second: narrow-band")]
    assert len(result.warnings) == 1
    swapped = tiny.verify(b, a)
    assert (swapped.score, swapped.a, swapped.b) == (result.score, result.b, result.a)


def test_the_score_is_the_raw_cosine():
    assert cosine(np.array([1, 0]), np.array([-2, 0])) == -1
    assert cosine(np.array([1, 0]), np.array([0, 3])) == 0
    vector = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    assert 1 - 1e-6 < cosine(vector, 3 * vector) <= 1


@pytest.mark.parametrize(
    ("words", "threshold", "reason"),
    [
        ({}, 0.6, "even odds (llr = 0) on made-up trials [of nobody]"),
        ({"threshold": 0.25}, 0.25, "given by the caller"),
        ({"threshold": -1}, -1, "given by the caller"),
        ({"operating_point": "far=0.1%"}, 0.9, "far=0.1% (misses 25.0% there) on made-up trials [of nobody]"),
        ({"operating_point": "5%"}, 0.5, "5% (misses 1.0% there) on made-up trials [of nobody]"),
    ],
)
def test_thresholds_and_their_reasons(words, threshold, reason, tiny):
    assert tiny.threshold(**words) == (pytest.approx(threshold), reason)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ({"threshold": 1.5}, r"cosine between -1 and 1, not 1\.5"),
        ({"threshold": float("nan")}, "cosine between -1 and 1, not nan"),
        ({"operating_point": "far=2%"}, "tiny has no operating point 'far=2%'; valid: far=5%, far=0.1%"),
        ({"threshold": 0.5, "operating_point": "far=5%"}, "not both"),
    ],
)
def test_impossible_thresholds_are_told_before_any_work(words, why, tiny):
    with pytest.raises(ValueError, match=why):
        tiny.verify("no-such-file.wav", "nor-this.wav", **words)


def test_without_calibration_only_a_threshold_of_ones_own_decides(tiny_model, tmp_path, samples):
    card = (tiny_model / "card.yaml").read_text().partition("calibration:")[0]
    (tmp_path / "card.yaml").write_text(card)
    (tmp_path / "model.onnx").write_bytes((tiny_model / "model.onnx").read_bytes())
    verifier = samevoice.load(tmp_path)
    a = samples / "carlo-flora-it" / "vm-newuser.flac"
    with pytest.raises(ValueError, match="has not been calibrated.*--threshold.*models calibrate"):
        verifier.verify(a, a)
    assert verifier.verify(a, a, threshold=0.99).llr is None


def test_bad_recordings_raise(tiny, tiny_model, speech):
    with pytest.raises(AudioError, match=r"no-such-file\.wav: no such file"):
        tiny.verify((speech, RATE), "no-such-file.wav")
    with pytest.raises(AudioError, match=r"limit of 0\.001 hours"):
        samevoice.load(tiny_model, max_hours=0.001).embed((speech, RATE))


@pytest.mark.parametrize(
    ("model", "why"),
    [
        ("campplus-zh", "did you mean campplus-zh-en"),
        ("/no/such/folder", "no such folder; a model's folder holds card.yaml and model.onnx"),
        ("./nothing-here", "no such folder"),
    ],
)
def test_models_that_are_not_there(model, why):
    with pytest.raises(HubError, match=why):
        samevoice.load(model, offline=True)


def test_a_folder_without_its_files(tmp_path, tiny_model, monkeypatch):
    with pytest.raises(HubError, match=r"card\.yaml is missing"):
        samevoice.load(tmp_path)
    (tmp_path / "card.yaml").write_bytes((tiny_model / "card.yaml").read_bytes())
    with pytest.raises(HubError, match=r"model\.onnx is missing"):
        samevoice.load(tmp_path)
    (tmp_path / "model.onnx").write_bytes((tiny_model / "model.onnx").read_bytes())
    monkeypatch.setenv("HOME", str(tmp_path.parent))
    assert samevoice.load(f"~/{tmp_path.name}").card.name == "tiny"


RUN = """
import sys, samevoice
print(samevoice.load(sys.argv[1]).embed_many(sys.argv[2:]).tobytes().hex())
"""


def runs(model, files: list[str]) -> set[str]:
    command = [sys.executable, "-c", RUN, str(model), *files]
    return {subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in range(2)}


def test_embeddings_are_identical_from_run_to_run(tiny, tiny_model, samples):
    files = in_folder(samples)[:3]
    assert runs(tiny_model, files) == {tiny.embed_many(files).tobytes().hex() + "\n"}


def test_the_default_model_knows_voices_across_languages(default, samples):
    files = in_folder(samples)
    embeddings = default.embed_many(files)
    people = [Path(file).parent.name.rsplit("-", 1)[0] for file in files]
    pairs = [(i, j) for i in range(len(files)) for j in range(i)]
    scores = [cosine(embeddings[i], embeddings[j]) for i, j in pairs]
    truth = [people[i] == people[j] for i, j in pairs]
    assert sum(truth) == 28 + 4 * 6
    assert eer(scores, truth) < 0.05


def test_the_default_model_decides(default, samples, speech):
    english, spanish = (samples / f"allison-smith-{language}" / "vm-newuser.flac" for language in ("en", "es"))
    french = samples / "june-wallack-fr" / "vm-newuser.flac"
    threshold = None if default.card.calibration else 0.4
    assert default.verify(english, spanish, threshold).same
    assert not default.verify(english, french, threshold).same
    np.testing.assert_allclose(
        default.embed_many([english, french, (speech, RATE), (speech[::-1].copy(), RATE)], batch_size=2)[2],
        default.embed(sound_bytes(speech, subtype="FLOAT")),
        atol=1e-4,
    )


def test_the_default_models_embeddings_are_pinned(default, samples):
    found = default.embed(samples / "carlo-flora-it" / "vm-newuser.flac")
    assert found.shape == (192,)
    np.testing.assert_allclose(found[:4], PINNED, atol=2e-3)


PINNED = [-0.0305, -0.0453, 0.9653, -0.4129]


def test_the_default_model_is_identical_from_run_to_run(default, samples):
    files = in_folder(samples)[:2]
    assert len(runs("default", files)) == 1


HOUR = """
import resource, sys
import numpy as np, samevoice
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # MiB
verifier = samevoice.load(sys.argv[1])
speech = samevoice.audio.read(sys.argv[2])
hour = np.resize((speech * 32767).astype(np.int16), 3600 * 16000)
verifier.embed((hour[: 180 * 16000], 16000))
before = peak()
embedding = verifier.embed((hour, 16000))
print(peak() - before)
"""


@pytest.mark.slow
def test_an_hour_needs_no_more_memory_than_three_minutes(tiny_model, samples):
    recording = samples / "carlo-flora-it" / "vm-newuser.flac"
    command = [sys.executable, "-c", HOUR, str(tiny_model), str(recording)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 20  # as float32 the hour is 220

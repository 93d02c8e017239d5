import shutil

import numpy as np
import pytest

from samevoice.audio import AudioError
from samevoice.hub import find_model
from samevoice.runtime.embedding_cache import CacheError, Clip, EmbeddingCache, embed_all, model_key


class Counting:
    """A verifier that notes what it is asked for, and may be interrupted."""

    def __init__(self, verifier, stop_after: int | None = None):
        self.verifier, self.asked, self.given, self.stop_after = verifier, [], 0, stop_after

    def embed_each(self, audios, batch_size):
        self.asked += audios
        for result in self.verifier.embed_each(audios, batch_size):
            if self.given == self.stop_after:
                raise KeyboardInterrupt
            self.given += 1
            yield result


@pytest.fixture
def recordings(samples, tmp_path):
    files = sorted((samples / "allison-smith-en").glob("*.flac")) + sorted((samples / "ivrvoice-ru").glob("*.flac"))
    return [shutil.copy(file, tmp_path / f"{i}.flac") for i, file in enumerate(files)]


def clips(paths) -> list[Clip]:
    return [Clip(str(path)) for path in paths]


def test_the_second_time_nothing_is_embedded(tiny, recordings, tmp_path):
    with EmbeddingCache(tmp_path / "c.sqlite", "m") as cache:
        first = embed_all(cache, Counting(tiny), clips(recordings))
        assert len(cache) == len(recordings)
    with EmbeddingCache(tmp_path / "c.sqlite", "m") as cache:
        again = Counting(tiny)
        second = embed_all(cache, again, clips(recordings))
    assert again.asked == []
    for a, b, direct in zip(first, second, tiny.embed_many(recordings), strict=True):
        np.testing.assert_array_equal(a.embedding, b.embedding)
        np.testing.assert_array_equal(a.embedding, direct)
        assert a.quality == b.quality


def test_a_moved_file_is_known_and_a_changed_one_is_not(tiny, recordings, tmp_path):
    with EmbeddingCache(tmp_path / "c.sqlite", "m") as cache:
        embed_all(cache, Counting(tiny), clips(recordings[:2]))
        moved = shutil.move(recordings[0], tmp_path / "elsewhere.flac")
        shutil.copy(recordings[2], recordings[1])
        counting = Counting(tiny)
        results = embed_all(cache, counting, clips([moved, recordings[1]]))
    assert counting.asked == [str(recordings[1])]
    np.testing.assert_array_equal(results[1].embedding, tiny.embed(recordings[2]))


def test_models_and_treatments_are_kept_apart(tiny, recordings, tmp_path):
    samples = (np.random.default_rng(0).standard_normal(8000).astype(np.float32), 16000)
    calls = []

    def load():
        calls.append(1)
        raise AudioError("x", "is noise")

    treated = [Clip(str(recordings[0]), "noise", load)]
    with EmbeddingCache(tmp_path / "c.sqlite", "m") as cache:
        plain = embed_all(cache, tiny, clips(recordings[:1]))[0]
        assert isinstance(embed_all(cache, tiny, treated)[0], AudioError)
        kept = embed_all(cache, tiny, treated)[0]
        assert isinstance(kept, AudioError)
        assert kept.problem == "is noise"
        assert len(calls) == 1
        other = [Clip(str(recordings[0]), "other noise", lambda: samples)]
        assert isinstance(embed_all(cache, tiny, other)[0], AudioError)  # no speech
    with EmbeddingCache(tmp_path / "c.sqlite", "another model") as cache:
        counting = Counting(tiny)
        np.testing.assert_array_equal(embed_all(cache, counting, clips(recordings[:1]))[0].embedding, plain.embedding)
        assert len(counting.asked) == 1


def test_the_same_content_twice_is_embedded_once(tiny, recordings, tmp_path):
    copy = shutil.copy(recordings[0], tmp_path / "copy.flac")
    counting = Counting(tiny)
    with EmbeddingCache(tmp_path / "c.sqlite", "m") as cache:
        a, b = embed_all(cache, counting, clips([recordings[0], copy]))
    assert len(counting.asked) == 1
    np.testing.assert_array_equal(a.embedding, b.embedding)


def test_an_interrupted_run_goes_on(tiny, recordings, tmp_path, monkeypatch):
    monkeypatch.setattr("samevoice.runtime.embedding_cache._WINDOW", 2)
    with EmbeddingCache(tmp_path / "c.sqlite", "m") as cache, pytest.raises(KeyboardInterrupt):
        embed_all(cache, Counting(tiny, stop_after=3), clips(recordings))
    with EmbeddingCache(tmp_path / "c.sqlite", "m") as cache:
        assert len(cache) == 2
        rest = Counting(tiny)
        assert len(embed_all(cache, rest, clips(recordings))) == len(recordings)
    assert len(rest.asked) == len(recordings) - 2


def test_a_missing_file_is_told_and_not_remembered(tiny, recordings, tmp_path):
    gone = tmp_path / "gone.flac"
    with EmbeddingCache(tmp_path / "c.sqlite", "m") as cache:
        result = embed_all(cache, tiny, clips([gone]))[0]
        assert isinstance(result, AudioError)
        assert "No such file" in result.problem
        shutil.copy(recordings[0], gone)
        assert not isinstance(embed_all(cache, tiny, clips([gone]))[0], AudioError)


def test_another_kind_of_file_is_refused(tmp_path):
    (tmp_path / "c.sqlite").write_text("not a database, but long enough to be looked at by SQLite" * 20)
    with pytest.raises(CacheError, match="not a cache of embeddings"):
        EmbeddingCache(tmp_path / "c.sqlite", "m")


def test_the_key_follows_the_models_content(tiny_model, tmp_path):
    card, path = find_model(tiny_model)
    other = tmp_path / "model.onnx"
    shutil.copy(path, other)
    assert model_key(card, other) == model_key(card, path)
    with other.open("ab") as file:
        file.write(b"\0")
    assert model_key(card, other) != model_key(card, path)

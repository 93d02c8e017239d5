import dataclasses
from pathlib import Path

from samevoice.hub import cache as store
from samevoice.hub import cards
from samevoice.hub.cards import Source


def test_where_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.setenv("SAMEVOICE_CACHE", str(tmp_path))
    assert store.folder() == tmp_path
    monkeypatch.setenv("SAMEVOICE_CACHE", "~/elsewhere")
    assert store.folder() == Path.home() / "elsewhere"
    monkeypatch.delenv("SAMEVOICE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert store.folder() == tmp_path / "xdg" / "samevoice"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("LOCALAPPDATA", raising=False)
    assert store.folder() == Path.home() / ".cache" / "samevoice"


def test_another_hash_is_another_file(cache):
    card = cards.find("default")
    changed = dataclasses.replace(card, sources=(dataclasses.replace(card.sources[0], sha256="f" * 64),))
    assert store.model_path(card) != store.model_path(changed)
    unknown = dataclasses.replace(card, sources=(Source("file", "a.pt"),))
    assert store.model_path(unknown) == cache / "models" / f"{card.name}.onnx"


def test_first_hashes_are_kept_for_each_source(cache):
    card = cards.find("default")
    first, second = Source("modelscope", "a.pt", "x"), Source("modelscope", "b.pt", "x")
    assert store.recorded_hash(card, first) is None
    store.record_hash(card, first, "1")
    store.record_hash(card, second, "2")
    assert store.recorded_hash(card, first) == "1"
    assert store.recorded_hash(card, second) == "2"
    assert store.recorded_hash(card, dataclasses.replace(first, revision="v2")) is None

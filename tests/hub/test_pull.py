import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from samevoice.hub import HubError, graphs
from samevoice.hub import pull as module
from samevoice.hub.cards import Source
from samevoice.hub.pull import pull


@pytest.fixture(autouse=True)
def shipped_graph(published, monkeypatch):
    monkeypatch.setattr(graphs, "FOLDER", published.graphs)


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_checkpoint_becomes_a_model_once(published, cache, tmp_path):
    copy = tmp_path / "copy.pt"
    copy.write_bytes(published.checkpoint.read_bytes())
    said = []
    card = published.card(Source("file", str(copy), sha256=sha256(copy)))
    path = pull(card, say=said.append)
    published.assert_same(path)
    assert path.is_relative_to(cache)
    assert said == [f"fetching tiny-xvector from file {copy}"]
    copy.unlink()
    assert pull(card, say=said.append) == path  # from the cache
    assert len(said) == 1
    assert files(cache) == [str(path.relative_to(cache))]


def test_sources_are_tried_in_order_and_every_failure_is_told(published, cache, tmp_path):
    (tmp_path / "text.pt").write_text("text")
    bad = [Source("file", str(tmp_path / "none.pt")), Source("file", str(tmp_path / "text.pt")), Source("ftp", "x")]
    said = []
    pull(published.card(*bad, Source("file", str(published.checkpoint))), say=said.append)
    assert [line.split()[0] for line in said] == [
        "fetching",
        "failed:",
        "fetching",
        "failed:",
        "fetching",
        "failed:",
        "fetching",
    ]
    with pytest.raises(HubError) as error:
        pull(published.card(*bad, name="other"))
    lines = str(error.value).splitlines()
    assert lines[0] == "other is not in the cache and could not be fetched:"
    assert "none.pt: no such file" in lines[1]
    assert "not a checkpoint in PyTorch's zip format" in lines[2]
    assert "unknown kind of source 'ftp'" in lines[3]
    assert lines[4] == "try again with a network: samevoice models pull other"


def test_a_wrong_hash_is_refused_and_nothing_kept(published, cache):
    with pytest.raises(HubError, match=r"the file's sha256 is [0-9a-f]{64}, expected 0000"):
        pull(published.card(Source("file", str(published.checkpoint), sha256="0" * 64)))
    assert not cache.exists() or files(cache) == []


def test_the_first_downloads_hash_is_kept_and_later_ones_held_to_it(published, cache, tmp_path):
    import torch

    copy = tmp_path / "copy.pt"
    copy.write_bytes(published.checkpoint.read_bytes())
    card = published.card(Source("file", str(copy)))
    path = pull(card)
    assert list(json.loads((cache / "hashes.json").read_text()).values()) == [sha256(copy)]
    path.unlink()
    pull(card).unlink()  # the same again is fine
    weights = torch.load(copy, weights_only=True)
    torch.save({name: value + 1 for name, value in weights.items()}, copy)
    with pytest.raises(HubError, match="damaged, or not the file it was"):
        pull(card)
    assert files(cache) == ["hashes.json"]


def test_a_first_download_that_makes_no_model_is_not_held_against_the_next(published, cache, tmp_path):
    copy = tmp_path / "copy.pt"
    copy.write_bytes(published.checkpoint.read_bytes()[:-100])
    card = published.card(Source("file", str(copy)))
    with pytest.raises(HubError, match="damaged or cut short"):
        pull(card)
    copy.write_bytes(published.checkpoint.read_bytes())
    published.assert_same(pull(card))


@pytest.mark.parametrize("changes", [{"convention": "3d-speaker"}, {"architecture": "resnet34"}])
def test_weights_of_another_network_are_refused(changes, published, cache):
    with pytest.raises(HubError, match="could not be fetched"):
        pull(published.card(**changes))
    assert not cache.exists() or files(cache) == []


def test_two_of_their_names_for_one_of_ours_lead_to_the_next_source(published, cache, tmp_path):
    import torch

    weights = torch.load(published.checkpoint, weights_only=True)
    weights["frame.0.conv.weight"] = weights["frame_1.conv_1d.weight"]
    torch.save(weights, tmp_path / "twice.pt")
    good = Source("file", str(published.checkpoint))
    published.assert_same(pull(published.card(Source("file", str(tmp_path / "twice.pt")), good)))


def test_a_failure_in_the_middle_leaves_nothing(published, cache, monkeypatch):
    def half(graph, weights, target):
        target.write_bytes(b"half")
        raise HubError("the disk is full")

    monkeypatch.setattr(graphs, "fill", half)
    with pytest.raises(HubError, match="the disk is full"):
        pull(published.card())
    assert files(cache) == []


@pytest.mark.parametrize("by_environment", [False, True])
def test_offline_touches_no_network(by_environment, published, cache, no_network, monkeypatch):
    if by_environment:
        monkeypatch.setenv("SAMEVOICE_OFFLINE", "1")
    far = [Source("pypi", "a.pt", "x==1"), Source("modelscope", "a.pt", "x"), Source("huggingface", "a.pt", "x/y")]
    with pytest.raises(HubError) as error:
        pull(published.card(*far), offline=not by_environment)
    assert str(error.value).count("skipped, offline") == 3
    assert "pull it once with a network: samevoice models pull tiny-xvector" in str(error.value)
    card = published.card(*far, Source("file", str(published.checkpoint)))
    path = pull(card, offline=not by_environment)
    assert pull(card, offline=not by_environment) == path


def test_a_published_onnx_file_is_kept_as_it_is(published, cache, tiny_model):
    model = tiny_model / "model.onnx"
    pulled = pull(published.card(Source("file", str(model)), graph=None, convention=None))
    assert pulled.read_bytes() == model.read_bytes()


def test_a_published_file_that_is_no_onnx_is_not_kept(published, cache, tmp_path):
    page = tmp_path / "a.onnx"
    page.write_bytes(b"<html>not found</html>")
    with pytest.raises(HubError, match="not an ONNX model"):
        pull(published.card(Source("file", str(page)), graph=None, convention=None))
    assert not list(cache.rglob("*.onnx"))
    assert not list(cache.rglob("hashes.json"))


def test_a_card_without_sources_says_so(published, cache):
    with pytest.raises(HubError, match="its card names no source"):
        pull(published.card(sources=()))


PULL = """
import sys
from pathlib import Path
from samevoice.audio.fbank import FbankSettings
from samevoice.hub import graphs
from samevoice.hub.cards import Card, Source
from samevoice.hub.pull import pull
checkpoint, graphs.FOLDER = sys.argv[1], Path(sys.argv[2])
sources = (Source("file", checkpoint),)
card = Card("tiny-xvector", "xvector", {}, FbankSettings(), "", "", sources, "wespeaker", "tiny-xvector")
print("ready", flush=True)
sys.stdin.readline()
print(pull(card))
"""


def test_processes_may_pull_at_once(published, cache):
    command = [sys.executable, "-c", PULL, str(published.checkpoint), str(published.graphs)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    running = [subprocess.Popen(command, env=os.environ, **pipes) for _ in range(3)]
    for process in running:
        assert process.stdout.readline() == "ready\n"
    for process in running:  # all imports are done: now at once
        process.stdin.write("\n")
        process.stdin.flush()
    paths = set()
    for process in running:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        paths.add(out.strip())
    assert len(paths) == 1
    published.assert_same(Path(paths.pop()))
    assert files(cache) == ["hashes.json", "models/tiny-xvector.onnx"]


def test_the_default_model_pulls_from_the_package_index(default):
    assert default.card.name == "campplus-zh-en"
    assert module.pull(default.card, offline=True).exists()

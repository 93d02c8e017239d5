import dataclasses
import shutil

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

import samevoice  # noqa: E402
from samevoice.hub import HubError, cards, graphs, pull  # noqa: E402
from samevoice.hub.cards import Source  # noqa: E402
from samevoice.hub.torch_weights import torch_network  # noqa: E402


@pytest.fixture
def shipped(published, cache, monkeypatch):
    """`shipped(card)`: this card comes with the package."""
    monkeypatch.setattr(graphs, "FOLDER", published.graphs)

    def ship(card):
        folder = cache.parent / "cards"
        cards.write_card(card, folder / f"{card.name}.yaml")
        monkeypatch.setattr(cards, "FOLDER", folder)
        cards._shipped.cache_clear()
        return card

    yield ship
    cards._shipped.cache_clear()


def assert_state(network, expected):
    state = network.state_dict()
    assert set(state) == set(expected.state_dict())
    for name, value in expected.state_dict().items():
        torch.testing.assert_close(state[name], value, rtol=0, atol=0)


def test_a_pulled_card_is_the_network_that_was_published(published, shipped):
    said = []
    shipped(published.card())
    card, network = torch_network("tiny-xvector", say=said.append)
    assert card.name == "tiny-xvector"
    assert not network.training
    assert_state(network, published.network)
    assert len(said) == 1  # only when the ONNX file is made


def test_weights_that_were_folded_are_fetched_again(published, shipped, monkeypatch):
    card = shipped(published.card())
    _without(pull.pull(card), "frame.0.conv.weight")
    said = []
    _, network = torch_network("tiny-xvector", say=said.append)
    assert said == [f"fetching tiny-xvector from file {published.checkpoint}"]
    assert_state(network, published.network)
    monkeypatch.setattr(pull, "fetch", no_network)
    with pytest.raises(HubError, match="tiny-xvector is not in the cache and could not be fetched:\n.*: no network"):
        torch_network("tiny-xvector")


def test_a_card_that_is_published_as_onnx_and_has_other_names_says_so(published, shipped, tmp_path):
    made = pull.pull(shipped(published.card()))
    _without(made, "frame.0.conv.weight")
    copied = tmp_path / "published.onnx"
    shutil.copyfile(made, copied)
    shipped(published.card(Source("file", str(copied)), name="other", graph=None, convention=None))
    with pytest.raises(HubError, match="other can't be trained: its weights are published as an ONNX file.*convert"):
        torch_network("other")


def test_a_model_without_a_network_of_ours_says_so(tiny_model):
    with pytest.raises(HubError, match="tiny can't be trained: unknown architecture 'none'"):
        torch_network(tiny_model)


def test_a_folder_has_its_weights_beside(published, tmp_path):
    from safetensors.torch import save_file

    cards.write_card(dataclasses.replace(published.card(), name="mine"), tmp_path / "card.yaml")
    (tmp_path / "model.onnx").write_bytes(b"not looked at")
    save_file(published.network.state_dict(), tmp_path / "model.safetensors")
    card, network = torch_network(tmp_path)
    assert card.name == "mine"
    assert_state(network, published.network)


def test_embeddings_of_the_default_model_are_those_of_its_onnx_file(default):
    assert_embeddings_are_the_onnx_files(default)


def test_embeddings_of_the_shipped_model_are_those_of_its_onnx_file():
    assert_embeddings_are_the_onnx_files(samevoice.load(cards.SHIPPED))  # whose weights are float16


def assert_embeddings_are_the_onnx_files(verifier):
    card, network = torch_network(verifier.card.name, offline=True)
    given = torch.randn(2, 120, card.features.mels, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        found = network(given).numpy()
    expected = verifier._network(given.numpy())
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())
    assert card.name == verifier.card.name


def no_network(*_):
    raise HubError("no network")


def _without(path, name):
    """Give a weight of this ONNX file another name, as folding does."""
    import onnx

    model = onnx.load(path)
    (tensor,) = [tensor for tensor in model.graph.initializer if tensor.name == name]
    tensor.name = f"ConvBnFusion_W_{name}"
    for node in model.graph.node:
        node.input[:] = [tensor.name if given == name else given for given in node.input]
    onnx.save(model, path)

import pytest

from samevoice.hub import cards
from samevoice.hub.errors import HubError
from samevoice.hub.size import initializers, parameters


def test_the_weights_of_an_onnx_file(tiny_model):
    found = dict(initializers(tiny_model / "model.onnx"))
    assert found == {"hidden": [80, 32], "out": [32, 16]}  # the axis of the mean is no weight
    card = cards.read_card(tiny_model / "card.yaml")
    assert parameters(card, tiny_model / "model.onnx") == 80 * 32 + 32 * 16


def test_a_card_with_a_graph_counts_what_torch_counts(tmp_path):
    models = pytest.importorskip("samevoice.models", exc_type=ImportError)
    pytest.importorskip("torch")
    card = cards.find("campplus-zh-en")
    network = models.create(card.architecture, **card.config)
    assert parameters(card, tmp_path) == sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize("cut", [1, 20, -100])
def test_a_file_that_is_cut_off(tiny_model, tmp_path, cut):
    (tmp_path / "cut.onnx").write_bytes((tiny_model / "model.onnx").read_bytes()[:cut])
    with pytest.raises(HubError, match=r"cut.onnx: not an ONNX model"):
        list(initializers(tmp_path / "cut.onnx"))

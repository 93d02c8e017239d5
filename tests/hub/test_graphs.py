import numpy as np
import pytest

from samevoice.hub import HubError, graphs
from samevoice.hub.checkpoint import read_checkpoint
from samevoice.hub.conventions import convention


@pytest.fixture
def weights(published, monkeypatch):
    monkeypatch.setattr(graphs, "FOLDER", published.graphs)
    return convention("wespeaker", "xvector").rename(read_checkpoint(published.checkpoint))


def test_the_filled_graph_is_the_network(published, weights, tmp_path):
    assert any(name.endswith("num_batches_tracked") for name in weights)
    graphs.fill("tiny-xvector", weights, tmp_path / "a.onnx")
    published.assert_same(tmp_path / "a.onnx")


def test_other_float_types_are_converted(published, weights, tmp_path):
    doubles = {name: value.astype(np.float64) for name, value in weights.items()}
    graphs.fill("tiny-xvector", doubles, tmp_path / "a.onnx")
    published.assert_same(tmp_path / "a.onnx")


def test_every_difference_is_listed_and_nothing_written(weights, tmp_path):
    del weights["seg_1.weight"]
    weights["seg_3.weight"] = np.zeros((2, 3), np.float32)
    weights["seg_2.weight"] = weights["seg_2.weight"][:-1]
    with pytest.raises(HubError) as error:
        graphs.fill("tiny-xvector", weights, tmp_path / "a.onnx")
    lines = str(error.value).splitlines()[1:]
    assert [line.strip() for line in lines] == [
        "missing seg_1.weight (6, 24)",
        "unknown seg_3.weight (2, 3)",
        "seg_2.weight is (5, 6), expected (6, 6)",
    ]
    assert list(tmp_path.iterdir()) == []


def test_the_graph_is_shipped_without_weights(published):
    sizes = [path.stat().st_size for path in published.graphs.glob("tiny-xvector.*")]
    assert len(sizes) == 2
    assert sum(sizes) < 10_000

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="exports torch networks")
pytest.importorskip("onnxscript")

from samevoice.hub import HubError, export  # noqa: E402
from samevoice.models.base import SpeakerNetwork  # noqa: E402
from samevoice.runtime.session import Session  # noqa: E402


def test_batch_and_length_are_free(published, tmp_path):
    import onnx

    difference = export.export(published.network, tmp_path / "sub" / "a.onnx")
    assert 0 <= difference < 1e-4
    published.assert_same(tmp_path / "sub" / "a.onnx")
    graph = onnx.load(tmp_path / "sub" / "a.onnx").graph
    assert [(i.name, o.name) for i, o in zip(graph.input, graph.output, strict=True)] == [
        ("input", "speaker_embedding")
    ]
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["a.onnx"]


def test_networks_on_hidden_states_export_too(tmp_path):
    from samevoice.models import create

    network = create("superb_xvector", layers=3, hidden=12, channels=8, embedding_dim=6).eval()
    assert export.export(network, tmp_path / "a.onnx") < 1e-4


def test_half_precision_is_of_the_weights_alone(published, tmp_path):
    import onnx
    from onnx import numpy_helper

    whole, half = tmp_path / "whole.onnx", tmp_path / "half.onnx"
    export.export(published.network, whole)
    before = {name: value.clone() for name, value in published.network.state_dict().items()}
    assert export.export(published.network, half, half=True) < 1e-4  # of the network with rounded weights
    assert half.stat().st_size < 0.7 * whole.stat().st_size
    kept = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(half).graph.initializer}
    for name, value in published.network.named_parameters():  # by their own names: to be trained on
        assert kept[name].dtype == (np.float16 if value.ndim > 1 else np.float32)
        np.testing.assert_allclose(kept[name], value.detach(), rtol=5e-4, atol=1e-7)
    assert all(torch.equal(value, before[name]) for name, value in published.network.state_dict().items())
    features = np.random.default_rng(0).standard_normal((2, 150, published.network.config["mels"])).astype(np.float32)
    found, expected = Session(half)(features), Session(whole)(features)
    assert 0 < np.abs(found - expected).max() < 0.01 * np.abs(expected).max()


def test_weights_too_large_for_half_precision_are_refused(published, tmp_path):
    weight = next(value for value in published.network.parameters() if value.ndim > 1)
    old = weight.data.clone()
    try:
        weight.data.view(-1)[0] = 1e5
        with pytest.raises(HubError, match="has values that float16 can't hold"):
            export.export(published.network, tmp_path / "a.onnx", half=True)
    finally:
        weight.data.copy_(old)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("spoil", ["other weights", "NaN"])
def test_the_gate_lets_no_other_network_pass(spoil, published, tmp_path, monkeypatch):
    honest = export._write

    def wrong(network, path):
        kept = {name: value.clone() for name, value in network.state_dict().items()}
        with torch.no_grad():
            network.seg_2.bias[0] += 1e-3 if spoil == "other weights" else float("nan")
        honest(network, path)
        network.load_state_dict(kept)

    monkeypatch.setattr(export, "_write", wrong)
    target = tmp_path / "a.onnx"
    target.write_bytes(b"old")
    with pytest.raises(HubError, match="ONNX and torch differ by .* not written"):
        export.export(published.network, target)
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


class Frozen(SpeakerNetwork):
    """Keeps the length it was traced with: the error that only other lengths show."""

    def __init__(self):
        super().__init__()
        self.config = {"mels": 8}

    def forward(self, x):
        return x.sum(1) / 200


def test_the_gate_tries_several_lengths():
    assert len({frames for _, frames in export.GATE}) >= 3
    assert len({batch for batch, _ in export.GATE}) >= 2


def test_a_length_that_was_traced_in_fails(tmp_path, monkeypatch):
    program = export._program

    class Mean(Frozen):
        def forward(self, x):
            return x.mean(1)

    monkeypatch.setattr(export, "_program", lambda _: program(Frozen()))
    with pytest.raises(HubError, match="differ"):
        export.export(Mean(), tmp_path / "a.onnx")
    assert list(tmp_path.iterdir()) == []


def test_examples_are_of_the_networks_kind_and_always_the_same(published):
    given = export.example(published.network, 2, 50)
    assert given.shape == (2, 50, 80)
    np.testing.assert_array_equal(given, export.example(published.network, 2, 50))

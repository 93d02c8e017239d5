import dataclasses

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="converts to torch networks")
pytest.importorskip("onnxscript")
safetensors = pytest.importorskip("safetensors")

from hub.conftest import settle, wespeaker_names  # noqa: E402

import samevoice  # noqa: E402
from samevoice.audio import read  # noqa: E402
from samevoice.audio.fbank import FbankSettings, fbank  # noqa: E402
from samevoice.hub import HubError, cards  # noqa: E402
from samevoice.hub.convert import convert, load_network  # noqa: E402
from samevoice.models import create  # noqa: E402


def three_d_speaker(path):
    """A ResNet34 as 3D-Speaker's training saves it: its names are ours."""
    network = settle(create("resnet34", channels=4, embedding_dim=8, pooling_eps=1e-8, blocks=[1, 1, 1, 1]))
    torch.save(network.state_dict(), path)
    return network, "3d-speaker", "resnet34", FbankSettings(window="povey", scale=1.0)


def wespeaker(path):
    """An x-vector on 40 filters as WeSpeaker's training saves it, with its loss's class centres."""
    network = settle(create("xvector", mels=40, channels=8, stats_channels=12, embedding_dim=6))
    state = wespeaker_names(network.state_dict()) | {"projection.weight": torch.zeros(10, 6)}
    torch.save(state, path)
    return network, "wespeaker", "xvector", FbankSettings(mels=40, window="hamming", scale=32768.0)


@pytest.mark.parametrize("toolkit", [three_d_speaker, wespeaker])
def test_a_converted_checkpoint_verifies_with_torchs_embeddings(toolkit, tmp_path, samples):
    torch.manual_seed(0)
    network, source, architecture, features = toolkit(tmp_path / "model.ckpt")
    folder = tmp_path / "converted"
    words = {"blocks": [1, 1, 1, 1]} if architecture == "resnet34" else {}  # what the weights don't tell
    card = convert(tmp_path / "model.ckpt", source, architecture, folder, **words)
    assert card.features == features
    written = cards.read_card(folder / "card.yaml")  # its tuples are lists
    assert dataclasses.replace(written, config=card.config) == card
    assert sorted(path.name for path in folder.iterdir()) == ["card.yaml", "model.onnx", "model.safetensors"]

    recording = samples / "carlo-flora-it" / "vm-newuser.flac"
    verifier = samevoice.load(folder, offline=True)
    given = torch.from_numpy(fbank(read(recording), features))[None]
    for same in (network, load_network(folder)):
        with torch.inference_mode():
            expected = same(given)[0].numpy()
        np.testing.assert_allclose(verifier.embed(recording), expected, atol=1e-4 * np.abs(expected).max())
    result = verifier.verify(recording, recording, threshold=0.9)
    assert result.same
    assert result.llr is None
    assert result.model == "converted"


def test_wrong_requests_write_nothing(tmp_path):
    three_d_speaker(tmp_path / "model.ckpt")
    checkpoint = tmp_path / "model.ckpt"
    (tmp_path / "there").mkdir()
    for arguments, why in [
        ((checkpoint, "lap", "lap_astp", tmp_path / "new"), "can't convert from 'lap'; valid: 3d-speaker, wespeaker"),
        ((tmp_path / "none.pt", "wespeaker", "resnet34", tmp_path / "new"), "no such file"),
        ((checkpoint, "wespeaker", "resnet34", tmp_path / "there"), "there exists; name a new folder"),
        (
            (checkpoint, "3d-speaker", "eres2net", tmp_path / "new"),
            r"(?s)model\.ckpt: .*missing .*unknown ",
        ),
        ((checkpoint, "3d-speaker", "resnet43", tmp_path / "new"), "has no 'resnet43' that we know; valid: .*resnet34"),
    ]:
        with pytest.raises(HubError, match=why):
            convert(*arguments)
    with pytest.raises(HubError, match="has no setting 'chanels'.*channels"):
        convert(checkpoint, "3d-speaker", "resnet34", tmp_path / "new", chanels=4)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.ckpt", "there"]


def test_a_failing_export_leaves_no_folder(tmp_path, monkeypatch):
    from samevoice.hub import export

    def fail(*_):
        raise HubError("ONNX and torch differ")

    three_d_speaker(tmp_path / "model.ckpt")
    monkeypatch.setattr(export, "export", fail)
    with pytest.raises(HubError, match="differ"):
        convert(tmp_path / "model.ckpt", "3d-speaker", "resnet34", tmp_path / "new", blocks=[1, 1, 1, 1])
    assert [path.name for path in tmp_path.iterdir()] == ["model.ckpt"]


def test_folders_that_hold_no_network_are_told(tmp_path, tiny_model):
    with pytest.raises(HubError, match=r"card\.yaml: no such file"):
        load_network(tmp_path)
    (tmp_path / "card.yaml").write_bytes((tiny_model / "card.yaml").read_bytes())
    with pytest.raises(HubError, match=r"model\.safetensors: no such file"):
        load_network(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(HubError, match="unknown architecture 'none'"):
        load_network(tmp_path)
    text = (tmp_path / "card.yaml").read_text().replace("architecture: none", "architecture: xvector")
    (tmp_path / "card.yaml").write_text(text)
    with pytest.raises(HubError, match="(?i)header"):
        load_network(tmp_path)
    import safetensors.torch

    safetensors.torch.save_file({"a": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(HubError, match="(?s)missing .*unknown a"):
        load_network(tmp_path)

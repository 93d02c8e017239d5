from typing import Any

import pytest

torch = pytest.importorskip("torch")
import trainings  # noqa: E402

from samevoice.audio.fbank import FbankSettings  # noqa: E402
from samevoice.training import network  # noqa: E402
from samevoice.training.errors import TrainingError  # noqa: E402
from samevoice.training.model import write_model  # noqa: E402
from samevoice.training.recipe import Network, validated  # noqa: E402


def build(**words) -> Any:
    return network.build(Network(**words))


def wavlm() -> Any:
    return build(**trainings.WAVLM)


def trained(made):
    return {name for name, parameter in made.named_parameters() if parameter.requires_grad}


def test_parts_are_frozen_by_path():
    made = build(**trainings.ERES2NET)
    everything = trained(made)
    network.freeze(made, ["layer1", "layer2.0"])
    assert everything - trained(made) == {n for n in everything if n.startswith(("layer1.", "layer2.0."))}
    assert not made.layer1.training
    assert not any(module.training for module in made.layer2[0].modules())
    assert made.layer3.training
    network.freeze(made, [])
    assert trained(made) == everything
    assert all(module.training for module in made.modules())


@pytest.mark.parametrize(("channels", "last"), [(4, False), (8, True)])
def test_channels_come_last_where_torch_survives_it(channels, last):
    """ERes2Net's shortcuts with a stride read twice the channels."""
    made = build(name="eres2net", config={"channels": channels, "mels": 16, "embedding_dim": 8})
    network.lay_out(made)
    assert made.layer3[0].shortcut[0].stride == (2, 2)
    assert made.layer2[0].convs[0].weight.is_contiguous(memory_format=torch.channels_last) == last
    made(torch.randn(2, 198, 16)).sum().backward()


def test_a_front_end_is_frozen_whole_or_its_convolutions():
    made = wavlm()
    network.freeze(made, ["front_end"])
    assert {name.partition(".")[0] for name in trained(made)} == {"head"}
    assert not made.front_end.model.training
    network.freeze(made, ["front_end.convolutions"])
    assert made.front_end.model.training
    convolutions = [name for name in trained(made) if "feature_extractor" in name]
    assert not convolutions
    assert any("encoder.layers" in name for name in trained(made))


def test_checkpointing_is_switched_on_and_off():
    made = wavlm()
    for on in (True, False):
        network.freeze(made, [], checkpointing=on)
        assert made.front_end.model.is_gradient_checkpointing == on


def test_a_part_that_is_not_there():
    with pytest.raises(TrainingError, match="frozen: the network has no part 'layer9'; it has .*layer1"):
        network.freeze(build(**trainings.ERES2NET), ["layer9"])


def test_filter_banks_are_the_networks():
    values = trainings.recipe("x", {"a": {}}, features={"window": "hamming", "scale": 32768})
    recipe = validated(values, "recipe")
    made = network.build(recipe.network)
    assert network.features(recipe, made) == FbankSettings(mels=16, window="hamming", scale=32768.0)
    assert network.features(recipe, wavlm()) is None


def test_a_head_alone_is_refused():
    recipe = validated(trainings.recipe("x", {"a": {}}, network={"name": "lap_astp"}), "recipe")
    with pytest.raises(TrainingError, match="lap_astp is a head; train a whole system"):
        network.features(recipe, network.build(recipe.network))


def published(folder, **changes: Any):
    """A tiny WavLM as transformers publishes one, and its weights."""
    from transformers import WavLMConfig, WavLMModel

    torch.manual_seed(5)
    model = WavLMModel(WavLMConfig(**{**trainings.WAVLM["config"]["front_end_config"], **changes}))
    model.save_pretrained(folder)
    return model.state_dict()


def test_a_front_end_starts_from_published_weights(tmp_path):
    weights = published(tmp_path)
    wanted = Network(**trainings.WAVLM, front_end=str(tmp_path))
    found = network.build(wanted).front_end.model.state_dict()
    for name, value in found.items():
        assert torch.equal(value, weights[name]), name
    tried = network.build(wanted, made_up=True).front_end.model.state_dict()
    assert not torch.equal(tried["feature_projection.projection.weight"], found["feature_projection.projection.weight"])


def test_other_weights_than_the_front_ends_are_refused(tmp_path):
    published(tmp_path / "deeper", num_hidden_layers=3)
    published(tmp_path / "wider", intermediate_size=32)
    for name in ("deeper", "wider"):
        with pytest.raises(TrainingError, match=f"{name}: not the weights of wavlm_base"):
            build(**trainings.WAVLM, front_end=str(tmp_path / name))


def test_weights_that_cannot_be_had(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(TrainingError, match=r"these weights can't be loaded.*network.front_end=FOLDER"):
        build(**trainings.WAVLM, front_end=str(tmp_path / "nothing"))


def test_a_start_from_a_models_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("samevoice.hub.export.export", lambda network, path: None)
    values = trainings.recipe("x", {"a": {}})
    recipe = validated(values, "recipe")
    first = network.build(recipe.network)
    write_model(first, FbankSettings(mels=16), recipe, tmp_path / "model")
    again = build(**trainings.ERES2NET, start=str(tmp_path / "model"))
    for name, value in first.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
    other = {"name": "eres2net", "config": {**trainings.ERES2NET["config"], "channels": 8}}
    with pytest.raises(TrainingError, match="not the weights of eres2net as configured"):
        build(**other, start=str(tmp_path / "model"))

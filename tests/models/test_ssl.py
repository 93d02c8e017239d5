import hidden
import pytest
import torch
from transformers import AutoModel, BertConfig, SeamlessM4TFeatureExtractor, Wav2Vec2FeatureExtractor

from samevoice.models.ssl import PRESETS, SSLFrontEnd

NO_DROPOUT = dict.fromkeys(["hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout"], 0.0)
LAYER_NORM = ["wavlm_large", "hubert_large", "wav2vec2_large", "w2v_bert_2"]
GROUP_NORM = sorted(set(PRESETS) - set(LAYER_NORM))


def front_end(preset: str = "wavlm_base", spec_augment: bool = False, **config) -> SSLFrontEnd:
    torch.manual_seed(0)
    return SSLFrontEnd(preset, {**hidden.FRONT_END, **config}, spec_augment).eval()


def audio(rows: int = 2, samples: int = 8000) -> torch.Tensor:
    torch.manual_seed(1)
    return 0.1 * torch.randn(rows, samples) + 0.02


@pytest.mark.parametrize("preset", PRESETS)
def test_every_hidden_state_in_one_contiguous_stack(preset):
    network, given = front_end(preset), audio()
    states, lengths = network(given)
    assert lengths is None
    assert states.shape[:2] == (2, network.layers) == (2, 4)
    assert states.shape[2:] == (24, network.hidden)
    assert states.is_contiguous()
    inputs = network._normalized(given, None) if network.fbank is None else network._stacked_fbank(given, None)[0]
    torch.testing.assert_close(states[:, -1], network.model(inputs).last_hidden_state)
    assert (states[:, 0] - states[:, 1]).abs().max() > 1e-3


@pytest.mark.parametrize("preset", LAYER_NORM)
def test_a_padded_row_has_the_states_it_has_alone(preset):
    network, given = front_end(preset), audio(3, 9000)
    lengths = torch.tensor([9000, 7003, 5120])
    assert network.takes_lengths
    batched, frames = network(given, lengths)
    for row, samples, count in zip(range(3), lengths, frames, strict=True):
        alone, _ = network(given[row : row + 1, :samples])
        assert alone.shape[2] == count
        torch.testing.assert_close(batched[row : row + 1, :, :count], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("preset", GROUP_NORM)
def test_models_that_normalise_over_padding_refuse_lengths(preset):
    network = front_end(preset)
    assert not network.takes_lengths
    with pytest.raises(ValueError, match="equal length"):
        network(audio(), torch.tensor([8000, 4000]))


def test_audio_is_normalised_where_the_extractor_asks(tmp_path):
    given = audio()
    assert front_end("wavlm_base")._normalized(given, None) is given
    normal = front_end("wavlm_large")._normalized(given, torch.tensor([8000, 5000]))
    expected = Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True)(
        [given[0].numpy(), given[1, :5000].numpy()], sampling_rate=16000, padding=True, return_tensors="pt"
    )
    torch.testing.assert_close(normal, expected.input_values, rtol=1e-4, atol=1e-5)
    front_end("wavlm_base").model.save_pretrained(tmp_path)
    assert not SSLFrontEnd(str(tmp_path)).normalize  # no extractor beside it: as models of its kind were trained
    Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(tmp_path)
    assert SSLFrontEnd(str(tmp_path)).normalize


@pytest.mark.parametrize("preset", ["wavlm_large", "hubert_base", "w2v_bert_2"])
def test_weights_come_from_a_local_folder(tmp_path, preset):
    saved = front_end(preset)
    saved.model.save_pretrained(tmp_path)
    if preset == "hubert_base":
        Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(tmp_path)
    loaded = SSLFrontEnd(str(tmp_path)).eval()
    assert (loaded.normalize, loaded.layers, loaded.hidden) == (saved.normalize, saved.layers, saved.hidden)
    torch.testing.assert_close(loaded(audio())[0], saved(audio())[0])


def test_what_cannot_be_a_front_end_says_so(tmp_path):
    with pytest.raises(ValueError, match="comes with its weights"):
        SSLFrontEnd(str(tmp_path), {"hidden_size": 8})
    BertConfig().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="is a bert model"):
        SSLFrontEnd(str(tmp_path))


def test_wavlm_s_attention_is_transformers_own():
    network, given = front_end("wavlm_large"), audio()
    theirs = AutoModel.from_config(network.config).eval()
    theirs.load_state_dict(network.model.state_dict(), strict=False)
    lengths = torch.tensor([8000, 5000])
    mask = (torch.arange(8000) < lengths[:, None]).long()
    expected = theirs(network._normalized(given, lengths), attention_mask=mask, output_hidden_states=True)
    states, (_, frames) = network(given, lengths)
    torch.testing.assert_close(states[0, 2], expected.hidden_states[2][0])
    torch.testing.assert_close(states[1, -1, :frames], expected.last_hidden_state[1, :frames])


@pytest.mark.parametrize("samples", [8000, 8161])  # 48 and 49 frames of filter banks, the last of which is left over
def test_w2v_bert_s_input_is_transformers_own(samples):
    given = audio(1, samples)
    features, _ = front_end("w2v_bert_2")._stacked_fbank(given, None)
    extractor = SeamlessM4TFeatureExtractor(feature_size=80, num_mel_bins=80, stride=2)
    expected = extractor(given[0].numpy(), sampling_rate=16000, return_tensors="pt")
    assert features.shape[1] == expected.attention_mask.sum()
    torch.testing.assert_close(features, expected.input_features[:, : features.shape[1]], rtol=1e-3, atol=1e-3)


def trained(network: SSLFrontEnd) -> set[str]:
    return {name.split(".")[1] for name, parameter in network.named_parameters() if parameter.requires_grad}


def test_freezing_and_unfreezing():
    network, given = front_end(hidden_dropout=0.5).train(), audio()
    assert trained(network) == {"feature_extractor", "feature_projection", "encoder"}
    assert not torch.equal(network(given)[0], network(given)[0])  # dropout
    network.freeze()
    assert network.train().training
    assert trained(network) == set()
    states, _ = network(given)
    assert not states.requires_grad
    assert torch.equal(states, network(given)[0])  # as at inference
    network.freeze_convolutions()
    assert trained(network) == {"feature_projection", "encoder"}
    network(given)[0].square().sum().backward()
    assert network.model.feature_extractor.conv_layers[0].conv.weight.grad is None
    network.unfreeze()
    network(given)[0].square().sum().backward()
    assert network.model.feature_extractor.conv_layers[0].conv.weight.grad.any()
    with pytest.raises(ValueError, match="no convolutional encoder"):
        front_end("w2v_bert_2").freeze_convolutions()


@pytest.mark.parametrize("preset", ["wavlm_base", "w2v_bert_2"])
def test_spec_augment_masks_in_training_only_and_layers_are_never_dropped(preset):
    config = {
        **NO_DROPOUT,
        "layerdrop": 0.9,
        "mask_time_prob": 0.5,
        "mask_time_length": 2,
        "conformer_conv_dropout": 0.0,
    }
    plain, masked = front_end(preset, **config), front_end(preset, spec_augment=True, **config)
    masked.load_state_dict(plain.state_dict(), strict=False)
    expected, _ = plain(audio())
    torch.testing.assert_close(masked(audio())[0], expected)
    torch.testing.assert_close(plain.train()(audio())[0], expected)
    assert not torch.allclose(masked.train()(audio())[0], expected, rtol=1e-2)
    assert plain.model.masked_spec_embed is None
    masked(audio())[0].square().sum().backward()
    assert masked.model.masked_spec_embed.grad.any()


def test_checkpointing_changes_no_gradient():
    gradients = []
    for on in (False, True):
        network = front_end(**NO_DROPOUT).train()
        network.gradient_checkpointing(on)
        network(audio())[0].square().sum().backward()
        gradients.append([parameter.grad for parameter in network.parameters()])
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("preset", ["wavlm_base", "wav2vec2_base", "w2v_bert_2"])
def test_lora_learns_and_merges(preset):
    network, given = front_end(preset), audio()
    published, (before, _) = set(network.state_dict()), network(given)
    network.add_lora(rank=2)
    torch.testing.assert_close(network(given)[0], before)
    low_rank = {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert len(low_rank) == 3 * 2 * 2  # layers, targets, factors
    assert all("lora_" in name for name in low_rank)
    network.train()(given)[0].square().sum().backward()
    assert all(parameter.grad.any() for name, parameter in low_rank.items() if "lora_B" in name)
    with torch.no_grad():
        for parameter in low_rank.values():
            parameter.add_(0.1 * torch.randn_like(parameter))
    learnt, _ = network.eval()(given)
    assert not torch.allclose(learnt, before, rtol=1e-2)
    network.merge_lora()
    torch.testing.assert_close(network(given)[0], learnt, rtol=1e-3, atol=1e-5)
    assert set(network.state_dict()) == published
    assert trained(network) == set()
    with pytest.raises(ValueError, match="no LoRA"):
        network.merge_lora()


def test_lora_takes_other_targets():
    network = front_end()
    network.add_lora(rank=3, targets=["out_proj"], alpha=3)
    shapes = {tuple(p.shape) for p in network.parameters() if p.requires_grad}
    assert shapes == {(3, 48), (48, 3)}

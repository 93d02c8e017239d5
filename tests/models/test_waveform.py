import hidden
import pytest
import torch

from samevoice.models import create
from samevoice.models.registry import ARCHITECTURES

SYSTEMS = [name for name, (module, _, _) in ARCHITECTURES.items() if module == "waveform"]

# LAP paper, Table 1: millions of parameters in the front end and in the speaker model, as printed and as ours.
# DBE is in test_dbe.py.
TABLE_1 = {
    "wavlm_base_xvector": ("94.4", 6.4, 6.38),
    "wavlm_base_ecapa_tdnn": ("94.4", 8.0, 7.95),
    "wavlm_base_mhfa": ("94.4", 0.4, 0.46),
    "wavlm_base_lap_astp": ("94.4", 1.7, 1.71),
    "wavlm_base_plus_xvector": ("94.4", 6.4, 6.38),
    "wavlm_base_plus_ecapa_tdnn": ("94.4", 8.0, 7.95),
    "wavlm_base_plus_mhfa": ("94.4", 2.2, 2.30),  # as the authors of MHFA have it
    "wavlm_base_plus_lap_astp": ("94.4", 1.7, 1.71),
    "wavlm_large_xvector": ("315.5", 7.0, 7.03),
    "wavlm_large_ecapa_tdnn": ("315.5", 8.6, 8.61),
    "wavlm_large_mhfa": ("315.5", 2.2, 2.37),  # the paper's footnote
    "wavlm_large_lap_astp": ("315.5", 2.3, 2.31),
}


def system(name: str, **words):
    torch.manual_seed(0)
    return create(name, front_end_config=hidden.FRONT_END, **words).eval()


@pytest.mark.parametrize("name", TABLE_1)
def test_parameters_of_table_1(name):
    front_end, printed, ours = TABLE_1[name]
    with torch.device("meta"):
        network = create(name)
    assert f"{hidden.parameters(network.front_end) / 1e6:.1f}" == front_end
    assert hidden.parameters(network.head) / 1e6 == pytest.approx(ours, abs=0.005)
    assert ours == pytest.approx(printed, abs=0.175)


def test_every_front_end_of_table_2_has_every_layer_pooling():
    for front_end in ("wav2vec2_base", "hubert_base", "wavlm_base", "wavlm_base_plus", "wavlm_large"):
        assert {f"{front_end}_{head}" for head in ("superb_astp", "lap_softmax_sum_astp", "lap_astp")} <= set(SYSTEMS)


@pytest.mark.parametrize("name", SYSTEMS)
def test_the_head_is_given_the_states_of_every_layer(name):
    network, given = system(name, embedding_dim=6), 0.1 * torch.randn(2, 8000)
    assert network.head.embedding_dim == network.embedding_dim == 6
    assert network(given).shape == (2, 6)
    assert network.takes_lengths == network.front_end.takes_lengths == ("large" in name or "w2v_bert" in name)


def test_words_for_the_head_reach_it():
    network = system("wavlm_large_lap_astp", channels=10, heads=3)
    assert network.head.layer_aggregation.heads == 3
    assert network.head.layer_aggregation.out_weight.out_features == 10
    assert system("wavlm_large_lap_astp").head.layer_aggregation.heads == 16
    with pytest.raises(ValueError, match="superb_astp has no setting 'heads'"):
        system("wavlm_base_superb_astp", heads=3)


def test_lengths_are_refused_where_they_cannot_be_kept_apart():
    with pytest.raises(ValueError, match="equal length"):
        system("wavlm_base_lap_astp")(torch.randn(2, 8000), torch.tensor([8000, 4000]))


def test_dbe_s_filter_banks_do_not_hear_the_level_of_padding():
    network = create(
        "wavlm_base_plus_dbe", front_end="wavlm_large", front_end_config=hidden.FRONT_END, embedding_dim=6
    ).eval()
    given, lengths = 0.1 * torch.randn(2, 8000), torch.tensor([8000, 5000])
    alone = network(given[1:, :5000])
    torch.testing.assert_close(network(given, lengths)[1:], alone, rtol=1e-4, atol=1e-5)
    # Louder audio moves every filter alike, and the mean over time takes that away again
    fbank = network.fbank(given)
    torch.testing.assert_close(network.fbank(2 * given) - fbank, torch.full_like(fbank, 4.0).log())
    heard = []
    network.head.register_forward_pre_hook(lambda _, inputs: heard.append(inputs[1]))
    network(given)
    torch.testing.assert_close(heard[0].mean(1), torch.zeros(2, 80), rtol=0, atol=1e-4)


def test_layer_usage_of_a_recording():
    usage = system("wavlm_base_lap_astp").layer_usage(0.1 * torch.randn(1, 8000))
    assert usage.weights.shape == (1, 12, 4, 24)
    assert usage.winners.shape == (1, 48, 24)

import hidden
import pytest
import reference
import torch

from samevoice.models import create
from samevoice.models.mhfa import MHFA


@pytest.mark.parametrize(
    ("architecture", "prefix"),
    [
        ("superb_astp", "superb_astp"),
        ("superb_xvector", "superb_xvector"),
        ("superb_ecapa_tdnn", "superb_ecapa"),
        ("superb_mhfa", "superb_mhfa"),
    ],
)
def test_fixtures(architecture, prefix):
    for fixture in reference.fixture_names(prefix):
        if not isinstance(fixture, str):
            pytest.skip("no reference outputs beside the checkout")
        hidden.check_fixture(architecture, fixture)


@pytest.mark.parametrize(
    ("architecture", "config", "parameters"),
    [
        ("superb_astp", {}, 1_480_141),
        ("superb_xvector", {}, 6_378_913),  # the paper's 6.4M
        ("superb_xvector", {"layers": 25, "hidden": 1024}, 7_034_285),  # 7.0M
        ("superb_ecapa_tdnn", {}, 7_952_013),  # 8.0M
        ("superb_ecapa_tdnn", {"layers": 25, "hidden": 1024}, 8_607_385),  # 8.6M
        ("superb_mhfa", {}, 2_302_554),  # 2.2M in the paper
        ("superb_mhfa", {"heads": 8}, 460_322),  # 0.4M in the paper
        ("superb_mhfa", {"layers": 25, "hidden": 1024}, 2_368_114),  # 2.37M, as the paper's footnote counts it
    ],
)
def test_parameters(architecture, config, parameters):
    assert hidden.parameters(create(architecture, **config)) == parameters


@pytest.mark.parametrize(
    ("architecture", "config", "expected"),
    [
        ("superb_astp", {}, [-0.429944, 0.0731639, 0.167376, -0.136232]),
        ("superb_xvector", {"channels": 16, "stats_channels": 24}, [0.475123, -0.108501, 0.0860514, 0.220839]),
        ("superb_ecapa_tdnn", {"channels": 16, "mfa_channels": 24}, [-0.737789, -0.108518, -0.721802, -0.15256]),
        ("superb_mhfa", {"channels": 8, "heads": 4}, [0.23767, 0.232231, 0.219712, 0.0915446]),
    ],
)
def test_pinned(architecture, config, expected):
    network = create(architecture, layers=4, hidden=24, embedding_dim=8, **config)
    hidden.check_pinned(network, expected, (1, 4, 30, 24))


def test_mhfa_averages_the_values_where_its_heads_look():
    network = MHFA(layers=2, hidden=3, embedding_dim=4, channels=2, heads=2).eval()
    torch.nn.init.zeros_(network.att_head.weight)  # no head prefers any frame
    torch.nn.init.eye_(network.pooling_fc.weight)
    x = hidden.states(1, 2, 5, 3)
    mean = network.cmp_linear_v(x.mean((1, 2)))
    torch.testing.assert_close(network(x), torch.cat([mean, mean], 1) + network.pooling_fc.bias)


def test_mhfa_s_layer_usage_is_static_and_two_fold():
    usage = MHFA(layers=4, hidden=8).layer_usage(hidden.states(2, 4, 6, 8))
    torch.testing.assert_close(usage.weights, torch.full((2, 2, 4, 6), 0.25))
    assert usage.winners is None

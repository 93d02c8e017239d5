import examples
import pytest
import torch
from reference import fixture_names
from torch import nn

from samevoice.models import create
from samevoice.models.eres2net import AddingBlock, AttentionalFeatureFusion, ERes2Net, FusingBlock

V2_WIDE = {"base_width": 24, "scale": 4, "expansion": 4}  # the other published configuration


@pytest.mark.parametrize("fixture", fixture_names("3dspeaker_eres2net_"))
def test_eres2net_matches_3d_speaker(fixture):
    examples.check_fixture("3d-speaker", "eres2net", fixture)


@pytest.mark.parametrize("fixture", fixture_names("wespeaker_eres2net"))
def test_eres2net_matches_wespeaker(fixture):
    examples.check_fixture("wespeaker", "eres2net", fixture)


@pytest.mark.parametrize("fixture", fixture_names("3dspeaker_eres2netv2"))
def test_eres2netv2_matches_3d_speaker(fixture):
    examples.check_fixture("3d-speaker", "eres2netv2", fixture)


def test_parameter_counts_are_the_published_ones():
    assert examples.parameters("eres2net") == 6_610_688
    assert examples.parameters("res2net_lff") == 4_800_992
    assert examples.parameters("res2net_gff") == 5_843_296
    assert examples.parameters("eres2netv2") == 17_859_632
    assert examples.parameters("eres2netv2", **V2_WIDE) == 53_513_632
    embedding_layer = 10_240 * 192 + 192
    assert round((examples.parameters("eres2net") - embedding_layer) / 1e6, 2) == 4.64  # the paper's Table 4


def test_the_four_rows_of_table_3():
    local, both = examples.narrow("res2net_lff")[0], examples.narrow("eres2net")[0]
    shared = local.state_dict()
    assert all(
        name.startswith(("layer1_d", "layer2_d", "layer3_d", "fuse_mode")) for name in both.state_dict().keys() - shared
    )
    assert not shared.keys() - both.state_dict().keys()

    baseline, glob = examples.narrow("res2net")[0], examples.narrow("res2net_gff")[0]
    assert both.state_dict().keys() - shared.keys() == glob.state_dict().keys() - baseline.state_dict().keys()
    assert not baseline.state_dict().keys() - glob.state_dict().keys()
    assert any("fuse_models" in name for name in shared)
    assert not any("fuse_models" in name for name in glob.state_dict())


def test_neither_fusion_is_res2net():
    baseline, configuration = examples.narrow("res2net")
    neither = create(
        "eres2net", local_fusion=False, global_fusion=False, mels=16, channels=8, embedding_dim=16, blocks=(2, 1, 1, 1)
    )
    neither.load_state_dict(baseline.state_dict())
    x = examples.features(baseline, configuration, rows=2)
    torch.testing.assert_close(neither.eval()(x), baseline.eval()(x))


@pytest.mark.parametrize(("bias", "x_share", "y_share"), [(0, 1, 1), (50, 2, 0), (-50, 0, 2)])
def test_fusion_moves_weight_between_its_inputs(bias, x_share, y_share):
    """(1 + U) x + (1 - U) y with U = tanh(bias) everywhere."""
    fusion = AttentionalFeatureFusion(8).eval()
    nn.init.zeros_(fusion.local_att[-1].weight)
    nn.init.constant_(fusion.local_att[-1].bias, bias)
    x, y = torch.randn(2, 1, 8, 5, 5)
    torch.testing.assert_close(fusion(x, y), x_share * x + y_share * y)


@pytest.mark.parametrize("block", [AddingBlock, FusingBlock])
def test_every_group_is_convolved(block):
    """Equation 2 with convolutions that change nothing and fusions without a preference."""
    block = block(8, 16, base_width=32, scale=4).eval()
    for conv in block.convs:
        nn.init.dirac_(conv.weight)
    for fusion in getattr(block, "fuse_models", []):
        nn.init.zeros_(fusion.local_att[-1].weight)
    groups = [torch.full((1, 4, 3, 3), float(value)) for value in (1, 2, 4, 7)]
    results = [group.mean().item() for group in block.convolve(groups)]
    assert results == pytest.approx([1, 3, 7, 14], rel=1e-4)


def test_local_fusion_is_in_the_last_two_stages():
    network = ERes2Net(channels=8, blocks=(1, 1, 1, 1))
    stages = (network.layer1, network.layer2, network.layer3, network.layer4)
    assert [type(stage[0]) for stage in stages] == [AddingBlock, AddingBlock, FusingBlock, FusingBlock]


@pytest.mark.parametrize(
    ("name", "words", "expected"),
    [
        ("eres2net", {}, [18.8518, 14.5234, 18.8862, -12.2873, 1.45192]),
        ("res2net_lff", {"channels": 16}, [3.14214, -1.30611, 4.66083, -2.84193, 2.3599]),
        ("res2net_gff", {"channels": 16}, [7.32829, -1.26828, 1.85004, 3.07484, 3.33628]),
        ("eres2netv2", {}, [1.5601, 5.40596, 0.767371, -1.82582, -5.16441]),
        (
            "eres2netv2",
            {**V2_WIDE, "channels": 32, "blocks": (1, 1, 1, 1)},
            [0.719109, 0.814461, 0.217769, -0.448705, -0.293009],
        ),
    ],
)
def test_pinned(name, words, expected):
    examples.check_pinned(name, expected, **words)

import examples
import pytest
import torch
from reference import fixture_names

from samevoice.models import create
from samevoice.models.resnet import BasicBlock, BottleneckBlock


@pytest.mark.parametrize("fixture", fixture_names("wespeaker_resnet"))
def test_matches_wespeaker(fixture):
    examples.check_fixture("wespeaker", fixture.split("_")[1], fixture)


def test_parameter_counts_are_the_published_ones():
    assert examples.parameters("resnet34") == 6_634_336
    assert examples.parameters("resnet152") == 19_814_880
    assert examples.parameters("resnet221") == 23_792_224  # WeSpeaker's table says 23.79M
    assert examples.parameters("resnet293") == 28_626_016  # and 28.62M, not rounded up


@pytest.mark.parametrize("block", [BasicBlock, BottleneckBlock])
def test_a_block_whose_branch_is_silent_is_its_shortcut(block):
    same = block(8, 8).eval()
    last = same.bn3 if block is BottleneckBlock else same.bn2
    torch.nn.init.zeros_(last.weight)
    x = torch.randn(2, 8, 6, 7)
    torch.testing.assert_close(same(x), x.relu())
    assert block(8, 16, stride=2)(x).shape == (2, 16, 3, 4)


@pytest.mark.parametrize(("frames", "mels"), [(64, 80), (65, 80), (100, 20)])
def test_three_strides_of_two_over_both_axes(frames, mels):
    network = create("resnet34", channels=4, mels=mels).eval()
    x = torch.randn(1, frames, mels)
    assert network.feature_map(x).shape == (1, 32, -(-mels // 8), -(-frames // 8))
    assert network(x).shape == (1, 256)


def test_pinned():
    examples.check_pinned("resnet34", [0.892842, -4.56142, 3.81284, -2.65659, 4.39964])


def test_pinned_bottleneck():
    expected = [0.881707, 0.684859, -0.00902531, -1.31753, 0.588788]
    examples.check_pinned("resnet152", expected, blocks=(1, 2, 2, 1), channels=16)

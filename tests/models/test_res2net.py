import examples
import pytest
import torch
from reference import fixture_names
from torch import nn

from samevoice.models.res2net import Res2NetBlock, clamped_relu


@pytest.mark.parametrize("fixture", fixture_names("3dspeaker_res2net"))
def test_matches_3d_speaker(fixture):
    examples.check_fixture("3d-speaker", "res2net", fixture)


def test_parameter_count_is_the_published_one():
    assert examples.parameters("res2net") == 4_033_600


def test_the_activation_is_clamped_at_20():
    assert clamped_relu(torch.tensor([-1.0, 3.0, 21.0])).tolist() == [0, 3, 20]


def test_groups_join_by_addition_and_the_last_passes():
    """Equation 1 with convolutions that change nothing."""
    block = Res2NetBlock(8, 16, base_width=32, scale=4).eval()
    assert len(block.convs) == 3
    for conv in block.convs:
        nn.init.dirac_(conv.weight)
    groups = [torch.full((1, 4, 3, 3), float(value)) for value in (1, 2, 4, 7)]
    results = [group.mean().item() for group in block.convolve(groups)]
    assert results == pytest.approx([1, 3, 7, 7], rel=1e-4)


def test_pinned():
    examples.check_pinned("res2net", [9.1176, 2.28884, 2.76561, -4.60815, 2.59549])

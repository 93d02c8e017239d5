import examples
import pytest
import torch
import torch.nn.functional as F
from reference import fixture_names
from torch import nn

from samevoice.models import create
from samevoice.models.campplus import ContextAwareMask, segment_means


@pytest.mark.parametrize("fixture", fixture_names("3dspeaker_campplus"))
def test_matches_3d_speaker(fixture):
    examples.check_fixture("3d-speaker", "campplus", fixture)


@pytest.mark.parametrize("fixture", fixture_names("wespeaker_campplus"))
def test_matches_wespeaker(fixture):
    examples.check_fixture("wespeaker", "campplus", fixture)


def test_parameter_counts_are_the_published_ones():
    assert examples.parameters("campplus") == 7_176_224
    assert examples.parameters("campplus", embedding_dim=192) == 7_176_224 - 320 * 1024


@pytest.mark.parametrize("frames", [1, 37, 99, 100, 101, 199, 200, 201, 330])
def test_segment_means_are_a_pooling_in_ceil_mode(frames):
    x = torch.randn(2, 3, frames)
    expected = F.avg_pool1d(x, 100, 100, ceil_mode=True)
    torch.testing.assert_close(segment_means(x, 100), expected)
    torch.testing.assert_close(segment_means(x, 100)[..., -1], x[..., (frames - 1) // 100 * 100 :].mean(-1))


def test_the_mask_is_constant_within_a_segment():
    layer = ContextAwareMask(16, 4, dilation=2)
    x = torch.randn(1, 16, 230)
    mask = layer(x) / layer.linear_local(x)
    segments = mask.split(100, -1)
    assert [segment.shape[-1] for segment in segments] == [100, 100, 30]
    for segment in segments:
        torch.testing.assert_close(segment, segment[..., :1].expand_as(segment), rtol=1e-3, atol=1e-3)
    assert (segments[0][..., 0] - segments[1][..., 0]).abs().max() > 1e-3


def test_the_mask_sees_the_whole_utterance():
    layer = ContextAwareMask(16, 4, dilation=1)
    x = torch.randn(1, 16, 250)
    moved = x.clone()
    moved[..., 200:] += 5
    assert (layer(x)[..., :100] - layer(moved)[..., :100]).abs().max() > 1e-3


def test_a_mask_without_context_halves():
    layer = ContextAwareMask(16, 4, dilation=1)
    nn.init.zeros_(layer.linear2.weight)
    nn.init.zeros_(layer.linear2.bias)
    x = torch.randn(2, 16, 130)
    torch.testing.assert_close(layer(x), layer.linear_local(x) / 2)


def test_half_the_frame_rate_and_an_eighth_of_the_mels():
    network = create("campplus", mels=20).eval()
    x = torch.randn(1, 51, 20)
    x = network.head(x)
    assert x.shape == (1, 32 * 3, 51)
    assert network.xvector.tdnn(x).shape == (1, 128, 26)


def test_pinned():
    examples.check_pinned("campplus", [0.0934478, 0.133177, -0.154116, -0.254702, 0.162895])


def test_pinned_with_the_epsilon_of_wespeaker():
    expected = [0.0932408, 0.133107, -0.154227, -0.254837, 0.162811]
    examples.check_pinned("campplus", expected, embedding_dim=192, pooling_eps=1e-7)

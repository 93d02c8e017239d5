import examples
import pytest
import torch
from reference import fixture_names

from samevoice.hub import from_reference
from samevoice.models import create
from samevoice.models.xvector import PaddedXVector


@pytest.mark.parametrize("fixture", fixture_names("wespeaker_xvec"))
def test_matches_wespeaker(fixture):
    examples.check_fixture("wespeaker", "xvector", fixture)


def test_parameter_counts_are_the_published_ones():
    assert examples.parameters("xvector") == 4_610_524  # 4.61M
    with torch.device("meta"):
        on_hidden_states = PaddedXVector()
    assert sum(parameter.numel() for parameter in on_hidden_states.parameters()) == 6_378_913 - 13  # 6.38M


def wespeaker_names(state):
    renamed = {}
    for name, value in state.items():
        kind, *rest = name.split(".")
        if kind == "frame":
            index, part, parameter = rest
            name = f"frame_{int(index) + 1}.{'conv_1d' if part == 'conv' else part}.{parameter}"
        renamed[name] = value
    return renamed


def test_the_shapes_tell_every_width():
    state = create("xvector", mels=40, channels=16, stats_channels=24, embedding_dim=12).state_dict()
    network = from_reference("wespeaker", "xvector", wespeaker_names(state))
    x = torch.randn(2, 30, 40)
    assert network(x).shape == (2, 12)
    with pytest.raises(ValueError, match=r"missing seg_2\.weight"):
        from_reference("wespeaker", "xvector", {k: v for k, v in wespeaker_names(state).items() if k != "seg_2.weight"})


@pytest.mark.parametrize(("network_class", "kept"), [("xvector", 30 - 14), (PaddedXVector, 30 - 6)])
def test_frames_that_reach_the_pooling(network_class, kept):
    words = {"mels": 4, "channels": 6, "stats_channels": 5}
    network = create(network_class, **words) if isinstance(network_class, str) else network_class(**words)
    seen = []
    network.pool.register_forward_hook(lambda module, given, output: seen.append(given))
    network.eval()(torch.randn(2, 30, 4), torch.tensor([30, 22]))
    assert seen[0][0].shape == (2, 5, kept)
    assert seen[0][1].tolist() == [kept, kept - 8]


def test_padded_x_vector_alone_and_in_a_batch():
    torch.manual_seed(0)
    network = PaddedXVector(mels=8, channels=16, stats_channels=24, embedding_dim=12)
    x = torch.randn(2, 30, 8)
    examples.settled(network, x)
    batched, alone = network(x, torch.tensor([30, 19]))[1], network(x[1:, :19])[0]
    torch.testing.assert_close(batched, alone, rtol=1e-4, atol=1e-5)


def test_padded_x_vector_embeds_before_the_layer_that_training_adds():
    network = PaddedXVector(mels=8, channels=16, stats_channels=24, embedding_dim=12)
    x = torch.randn(4, 30, 8)
    network.train()(x).square().sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    before = network.eval()(x)
    network.seg_2.weight.data += 1
    torch.testing.assert_close(network(x), before)


def test_pinned():
    examples.check_pinned("xvector", [0.112372, -0.239137, 0.199555, -0.185344])

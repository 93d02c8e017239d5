import examples
import pytest
import torch
from reference import fixture_names

from samevoice.hub import from_reference
from samevoice.models import create
from samevoice.models.nexttdnn import GlobalResponseNorm


@pytest.mark.parametrize("fixture", fixture_names("nexttdnn_c256_b3"))
def test_matches_the_authors_code(fixture):
    examples.check_fixture("nexttdnn", "nexttdnn", fixture)


def test_parameter_counts_are_the_published_ones():
    assert examples.parameters("nexttdnn") == 7_144_544  # 7.14M
    assert examples.parameters("nexttdnn_c128_b3") == 1_913_680  # 1.9M
    assert examples.parameters("nexttdnn_light") == 6_027_104  # 6.0M
    assert examples.parameters("nexttdnn_light_c128_b3") == 1_649_872  # 1.6M


THEIRS = {
    "stem.": "model.stem.0.0.",
    "stem_norm.": "model.stem.0.1.",
    "stages.": "model.stages.",
    "mfa.": "model.MFA.0.",
    "mfa_norm.": "model.MFA.1.",
    "pool.linear1.": "aggregation.conv_1.",
    "pool.activation.0.": "aggregation.bn1.",
    "pool.linear2.": "aggregation.conv_2.",
    "bn": "aggregation.bn",
    "fc.": "aggregation.fc.",
}


def authors_names(state):
    renamed = {}
    for name, value in state.items():
        ours = next(prefix for prefix in THEIRS if name.startswith(prefix))
        renamed[THEIRS[ours] + name.removeprefix(ours)] = value[..., None] if name == "mfa.weight" else value
    return renamed


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nexttdnn", {"depth": 2, "kernels": (3, 5, 9)}),
        ("nexttdnn_c384_b1", {"depth": 3}),
        ("nexttdnn_light", {"depth": 1, "kernel": 9}),
        ("nexttdnn_light_c128_b3", {"depth": 2}),
    ],
)
def test_the_shapes_tell_every_width(name, words):
    ours = create(name, mels=24, channels=48, embedding_dim=12, **words).eval()
    network = from_reference("nexttdnn", name, authors_names(ours.state_dict()))
    x = torch.randn(2, 30, 24)
    assert network(x).shape == (2, 12)
    torch.testing.assert_close(network(x), ours(x))


def test_kernel_sizes_share_the_channels():
    network = create("nexttdnn", channels=12, depth=1, kernels=(3, 5, 7))
    convolutions = network.stages[0][0].mscconv
    assert [tuple(conv.weight.shape) for conv in convolutions] == [(4, 1, 3), (4, 1, 5), (4, 1, 7)]
    with pytest.raises(ValueError, match="10 channels do not divide into 3"):
        create("nexttdnn", channels=10, kernels=(3, 5, 7))


def test_response_normalisation_by_hand():
    norm = GlobalResponseNorm(2)
    norm.gamma.data.fill_(1.0)
    norm.beta.data.fill_(0.5)
    x = torch.tensor([[[3.0, 0.0], [4.0, 1.0], [7.0, 7.0]]])  # energies of the first two frames 5 and 1, their mean 3
    expected = torch.tensor([[3 + 3 * 5 / 3 + 0.5, 0.5], [4 + 4 * 5 / 3 + 0.5, 1 + 1 / 3 + 0.5]])
    torch.testing.assert_close(norm(x[:, :2])[0], expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(norm(x, torch.tensor([2]))[0, :2], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("words", [{"kernels": (7, 65)}, {"kernels": (3, 5)}])
def test_padding_is_not_seen(words):
    torch.manual_seed(0)
    network = create("nexttdnn", mels=8, channels=16, depth=2, embedding_dim=12, **words)
    x = torch.randn(3, 50, 8)
    examples.settled(network, x)
    for module in network.modules():
        if isinstance(module, GlobalResponseNorm):  # starts as the identity
            torch.nn.init.normal_(module.gamma)
    lengths = torch.tensor([50, 31, 12])
    with torch.inference_mode():
        alone = torch.cat([network(row[None, :length]) for row, length in zip(x, lengths.tolist(), strict=True)])
        torch.testing.assert_close(network(x, lengths), alone, rtol=1e-4, atol=1e-5)


def test_pinned():
    examples.check_pinned("nexttdnn_c192_b1", [1.01799, 0.678325, -0.51835, -1.68641])
    examples.check_pinned("nexttdnn_light_c192_b1", [0.414722, 0.804373, 0.0494278, -1.78729])

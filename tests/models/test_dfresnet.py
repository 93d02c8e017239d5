import examples
import pytest
import torch
from reference import fixture_names
from torch import nn

from samevoice.models import create
from samevoice.models.dfresnet import InvertedBottleneck


@pytest.mark.parametrize("fixture", fixture_names("wespeaker_gemini"))
def test_matches_wespeaker(fixture):
    examples.check_fixture("wespeaker", fixture.removeprefix("wespeaker_"), fixture)


def test_parameter_counts():
    assert examples.parameters("gemini_dfresnet60") == 4_047_840
    assert examples.parameters("gemini_dfresnet114") == 6_531_552
    assert round(examples.parameters("dfresnet56") / 1e6, 2) == 4.49  # the paper's


@pytest.mark.parametrize(
    ("name", "layers", "counted"),
    [("dfresnet56", 56, "stages"), ("gemini_dfresnet60", 60, ""), ("gemini_dfresnet114", 114, "")],
)
def test_a_name_counts_the_layers(name, layers, counted):
    """Gemini's names count the downsampling layers, the older one does not; stem and embedding layer always count."""
    convolutions = [key for key, module in create(name, channels=4).named_modules() if isinstance(module, nn.Conv2d)]
    stem_and_embedding = 1 if counted == "" else 2  # the stem is a convolution outside `stages`
    assert sum(key.startswith(counted) for key in convolutions) + stem_and_embedding == layers


def test_a_silent_bottleneck_is_the_identity_of_what_a_relu_left():
    block = InvertedBottleneck(4).eval()
    nn.init.zeros_(block.bn3.weight)
    x = torch.randn(1, 4, 5, 6)
    torch.testing.assert_close(block(x), x.relu())


@pytest.mark.parametrize(
    ("name", "mels_and_frames"),
    [
        ("dfresnet56", [(80, 50), (40, 25), (20, 12), (10, 6)]),
        ("gemini_dfresnet60", [(40, 50), (20, 25), (10, 25), (5, 25)]),
    ],
)
def test_resolution_changes_before_the_stages(name, mels_and_frames):
    network = create(name, channels=4, blocks=(1, 1, 1, 1)).eval()
    seen = []
    for stage in network.stages:
        stage.register_forward_hook(lambda module, given, made: seen.append(tuple(made.shape[2:])))
    network(torch.randn(1, 50, 80))
    assert seen == mels_and_frames


def test_pinned():
    examples.check_pinned("gemini_dfresnet60", [2.17956, 1.54102, -0.397275, 0.099915], channels=8)
    examples.check_pinned("dfresnet56", [4.72245, 4.04582, 1.00407, 1.06803], channels=8)

import re

import examples
import numpy as np
import pytest
import reference
import torch
from reference import fixture_names

from samevoice.hub import from_reference
from samevoice.models import create
from samevoice.models.simam_resnet import MomentPooling, SimAMBlock, simam

TO_WESPEAKER = (
    (r"^pool\.linear1\.", "pooling.attention.0."),
    (r"^pool\.activation\.1\.", "pooling.attention.2."),
    (r"^pool\.linear2\.", "pooling.attention.3."),
    (r"^seg_1\.", "bottleneck."),
    (r"\.shortcut\.", ".downsample."),
    (r"^(conv1|bn1|layer)", r"front.\1"),
)


@pytest.mark.parametrize("fixture", fixture_names("wespeaker_simam"))
def test_matches_wespeaker(fixture):
    examples.check_fixture("wespeaker", fixture.removeprefix("wespeaker_"), fixture)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("simam_resnet34", [0.119476, -0.586333, -1.3626, 1.42668]),
        ("simam_resnet100", [12.486, 51.6553, -54.5118, 104.818]),
    ],
)
def test_matches_numbers_that_wespeaker_gave(name, expected):
    """Its SimAM_ResNet34_ASP and 100 with in_planes=8 and embed_dim=16, the fixtures' weights, 40 frames of 80 mels."""
    theirs = {}
    for key, value in create(name, channels=8, embedding_dim=16).state_dict().items():
        for pattern, replacement in TO_WESPEAKER:
            key = re.sub(pattern, replacement, key)
        theirs[key] = examples._weight(key, tuple(value.shape))
    network = from_reference("wespeaker", name, theirs)
    given = torch.from_numpy(np.random.RandomState(0).standard_normal((1, 40, 80)).astype(np.float32))
    with torch.inference_mode():
        ours = network(given)[0, : len(expected)].numpy()
    reference.assert_close(ours, np.array(expected, np.float32))


def test_parameter_counts_are_wespeakers():
    assert examples.parameters("simam_resnet34") == 25_213_760
    assert examples.parameters("simam_resnet100") == 50_232_896


def test_simam_by_hand():
    x = torch.tensor([0.0, 0.0, 0.0, 4.0]).reshape(1, 1, 2, 2)
    # mean 1, squared deviations 1, 1, 1, 9, variance 12 / 3 = 4
    weight = torch.sigmoid(torch.tensor(9 / (4 * (4 + 1e-4)) + 0.5))
    torch.testing.assert_close(simam(x), x * weight)


def test_a_block_whose_branch_is_silent_is_its_shortcut():
    block = SimAMBlock(4, 4).eval()
    torch.nn.init.zeros_(block.bn2.weight)
    x = torch.randn(2, 4, 6, 7)
    torch.testing.assert_close(block(x), x.relu())


def test_pooling_without_attention_is_mean_and_deviation():
    pool = MomentPooling(3, 2)
    torch.nn.init.zeros_(pool.linear2.weight)
    x = torch.randn(2, 3, 50)
    torch.testing.assert_close(pool(x), torch.cat([x.mean(2), x.std(2, unbiased=False)], 1))

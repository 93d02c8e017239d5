import examples
import numpy as np
import pytest
import reference
import torch
from torch import nn

from samevoice.models import create
from samevoice.models.redimnet import (
    ConvNeXtBlock1d,
    ConvNeXtBlock2d,
    ExcitedResNetBlock2d,
    ImageHead,
    PooledStage,
    ResNetBlock2d,
    Stage,
    TransformerLayer,
    WeightedSum,
    to_image,
    to_sequence,
)
from samevoice.models.registry import words

COUNTS = {  # ours; WeSpeaker's code has as many plus the parameters that it never trains and less the last BatchNorm
    "redimnet_b0": 1_004_250,
    "redimnet_b1": 2_126_936,
    "redimnet_b2": 5_067_056,
    "redimnet_b3": 3_225_020,
    "redimnet_b4": 6_441_520,
    "redimnet_b5": 7_659_760,
    "redimnet_b6": 15_015_472,
    "redimnet2_b0": 1_114_356,
    "redimnet2_b1": 2_160_336,
    "redimnet2_b2": 3_676_320,
    "redimnet2_b3": 4_179_848,
    "redimnet2_b4": 6_657_440,
    "redimnet2_b5": 8_955_816,
    "redimnet2_b6": 12_390_176,
}
REDIMNET2_PAPER = (1.1, 2.1, 3.6, 4.1, 6.6, 8.9, 12.3)


@pytest.mark.parametrize(("name", "count"), COUNTS.items())
def test_parameter_counts(name, count):
    assert examples.parameters(name) == count


def test_parameter_counts_of_the_papers():
    assert round(COUNTS["redimnet_b0"] / 1e6, 1) == 1.0
    assert round(COUNTS["redimnet_b6"] / 1e6, 1) == 15.0
    assert tuple(COUNTS[f"redimnet2_b{i}"] // 100_000 / 10 for i in range(7)) == REDIMNET2_PAPER


def test_the_released_b5_holds_as_many_tensors_and_values():
    with torch.device("meta"):
        state = create("redimnet_b5").state_dict()
    # Theirs has a weight of one value for the sum of one sequence, and the front end: filters, window, pre-emphasis.
    assert len(state) + 1 + 3 == 1_052
    assert sum(value.numel() for value in state.values()) + 1 + 257 * 72 + 400 + 2 == 7_709_351


def test_sequences_hold_the_channels_of_one_mel_together():
    image = torch.arange(6.0).reshape(1, 2, 3, 1)  # two channels of three mels: 0 1 2, 3 4 5
    assert to_sequence(image).flatten().tolist() == [0, 3, 1, 4, 2, 5]
    torch.testing.assert_close(to_image(to_sequence(image), channels=2), image)


def test_a_fresh_weighted_sum_is_the_mean_and_its_weights_choose_per_channel():
    maps = [torch.full((1, 2, 3), value) for value in (1.0, 2.0, 6.0)]
    collect = WeightedSum(3, 2)
    torch.testing.assert_close(collect(maps), torch.full((1, 2, 3), 3.0))
    collect.w.data[0, 0], collect.w.data[2, 1] = 50, 50
    torch.testing.assert_close(collect(maps), torch.tensor([[[1.0] * 3, [6.0] * 3]]))


@pytest.mark.parametrize(
    ("block", "silent", "shape"),
    [
        (ConvNeXtBlock1d(8, 7), "pwconv", (2, 8, 9)),
        (ConvNeXtBlock2d(8, 5, 4), "pwconv", (2, 8, 5, 9)),
        (ResNetBlock2d(8, 5, 4), "bn2", (2, 8, 5, 9)),
        (ExcitedResNetBlock2d(8, 5, 1), "bn2", (2, 8, 5, 9)),
    ],
)
def test_a_block_whose_branch_is_silent_is_its_shortcut(block, silent, shape):
    nn.init.zeros_(getattr(block, silent).weight)
    nn.init.zeros_(getattr(block, silent).bias)
    x = torch.rand(shape)
    torch.testing.assert_close(block.eval()(x), x)


def test_excitation_weighs_the_mels():
    block = ExcitedResNetBlock2d(4, 3, 1)
    nn.init.zeros_(block.se.excitation.weight)
    block.se.excitation.bias.data = torch.tensor([-50.0, 0.0, 50.0])
    weighed = block.se(torch.ones(1, 4, 3, 2))
    torch.testing.assert_close(weighed, torch.tensor([0.0, 0.5, 1.0])[None, None, :, None].expand_as(weighed))


def test_the_transformer_layer_is_torchs_own():
    ours = TransformerLayer(16)
    theirs = nn.TransformerEncoderLayer(
        16, 4, 16, dropout=0, activation=nn.GELU("tanh"), layer_norm_eps=1e-6, batch_first=True
    )
    projections = [ours.q_proj, ours.k_proj, ours.v_proj]
    theirs.self_attn.in_proj_weight.data = torch.cat([layer.weight for layer in projections]).detach()
    theirs.self_attn.in_proj_bias.data = torch.cat([layer.bias for layer in projections]).detach()
    theirs.self_attn.out_proj.load_state_dict(ours.out_proj.state_dict())
    theirs.linear1.load_state_dict(ours.intermediate_dense.state_dict())
    theirs.linear2.load_state_dict(ours.output_dense.state_dict())
    x = torch.randn(2, 16, 11)
    torch.testing.assert_close(ours(x), theirs(x.transpose(1, 2)).transpose(1, 2))


def test_a_pooled_stage_repeats_what_it_makes_of_its_window():
    stage = PooledStage(Stage(2, 1, 1, None, 4), 1, channels=4, mels=6, block=ConvNeXtBlock2d, group=1).eval()
    made = stage([torch.randn(1, 24, 12)])
    assert made.shape == (1, 24, 12)
    windows = made.unflatten(2, (3, 4))
    torch.testing.assert_close(windows, windows[..., :1].expand_as(windows))
    assert (windows[:, :, 0] - windows[:, :, 1]).abs().max() > 0


def test_an_image_head_keeps_mels_apart():
    head = ImageHead(2, 3)
    sequence = torch.zeros(1, 8, 5)  # four mels of two channels
    before = head(sequence).unflatten(1, (3, 4))
    sequence[:, 4] = 1  # third mel, first channel
    changed = (head(sequence).unflatten(1, (3, 4)) - before).abs().amax((0, 1, 3)) > 0
    assert changed.tolist() == [False, False, True, False]


def test_redimnet2_leaves_out_what_does_not_fill_its_stride():
    network = create("redimnet2_b0").eval()
    x = torch.randn(1, 43, 72)
    torch.testing.assert_close(network(x), network(x[:, :40]))
    assert not torch.allclose(network(x), network(x[:, :36]))


def test_bad_sizes_say_what_is_wrong():
    with pytest.raises(ValueError, match="80 mels cannot be divided by 12"):
        create("redimnet_b6", mels=80)
    with pytest.raises(ValueError, match="26 channels of a 1-D block cannot be shared by 4 heads"):
        create("redimnet_b0", mels=80)
    with pytest.raises(ValueError, match="unknown size 'b7'; valid: b0, b1"):
        create("redimnet_b0", size="b7")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("redimnet_b0", [0.247607, -0.609886, 0.232028, 0.250619]),
        ("redimnet_b1", [-0.0282239, -1.15026, -0.484455, -0.885227]),
        ("redimnet_b3", [-0.00942592, 0.060927, 0.254758, -0.672793]),
        ("redimnet2_b0", [-0.820985, -0.482459, -0.954756, -0.585571]),
        ("redimnet2_b1", [-0.231094, -0.0770044, 0.187772, -0.238279]),
    ],
)
def test_pinned(name, expected):
    """Computed when all sizes agreed with WeSpeaker's ReDimNet and ReDimNet2 to 1e-6."""
    network = create(name).eval()
    state = {key: examples._weight(key, tuple(value.shape)) for key, value in network.state_dict().items()}
    network.load_state_dict(state)
    given = np.random.RandomState(0).standard_normal((1, 40, words(name)["mels"])).astype(np.float32)
    with torch.inference_mode():
        ours = network(torch.from_numpy(given))[0, : len(expected)].numpy()
    reference.assert_close(ours, np.array(expected, np.float32))

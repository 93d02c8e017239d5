import pytest
import torch
import torch.nn.functional as F
from torch import nn

from samevoice.models.pooling import AttentiveStatisticsPooling, StatisticsPooling, frame_mask, frame_mean, zero_padding
from samevoice.models.tdnn import TDNNLayer, TimeConv1d, reflect

LENGTHS = torch.tensor([20, 13, 7])


@pytest.fixture
def x():
    return torch.randn(3, 8, 20, generator=torch.Generator().manual_seed(0))


def spoilt(x):
    """x with what no result may depend on past each row's length."""
    return x.masked_fill(~frame_mask(LENGTHS, x.shape[-1])[:, None], float("nan"))


def one_by_one(layer, x):
    return torch.cat([layer(row[None, :, :length]) for row, length in zip(x, LENGTHS.tolist(), strict=True)])


def check_padding_is_not_seen(layer, x):
    torch.testing.assert_close(layer(spoilt(x), LENGTHS), one_by_one(layer, x), rtol=1e-4, atol=1e-5)


def test_mean_and_padding_by_hand():
    x = torch.tensor([[[1.0, 2.0, 6.0]], [[4.0, 8.0, 9.0]]])
    lengths = torch.tensor([3, 2])
    assert frame_mean(x).tolist() == [[3.0], [7.0]]
    assert frame_mean(x, lengths).tolist() == [[3.0], [6.0]]
    assert zero_padding(x, lengths).tolist() == [[[1.0, 2.0, 6.0]], [[4.0, 8.0, 0.0]]]
    assert zero_padding(x, None) is x


@pytest.mark.parametrize(("unbiased", "variance"), [(True, 8.0), (False, 6.0)])
def test_statistics_by_hand(unbiased, variance):
    pool = StatisticsPooling(eps=1.0, unbiased=unbiased)
    row = torch.tensor([[[1.0, 1.0, 4.0, 7.0, 2.0]]])  # the first four: mean 3.25, squares 4 * 6.1875
    x = torch.tensor([[[1.0, 3.0, 1.0, 7.0, 99.0]]])  # the first four: mean 3, squares 4 + 0 + 4 + 16 = 24
    expected = [[3.0, (variance + 1.0) ** 0.5]]
    torch.testing.assert_close(pool(x, torch.tensor([4])), torch.tensor(expected))
    torch.testing.assert_close(pool(x[..., :4]), torch.tensor(expected))
    assert pool(row).shape == (1, 2)


def test_statistics_of_images_merge_mels_into_channels():
    x = torch.randn(2, 3, 5, 11)
    torch.testing.assert_close(StatisticsPooling()(x)[:, :15], x.mean(-1).flatten(1))


@pytest.mark.parametrize("unbiased", [True, False])
def test_statistics_do_not_see_padding(x, unbiased):
    check_padding_is_not_seen(StatisticsPooling(unbiased=unbiased), x)


def attention(**words):
    torch.manual_seed(0)
    return AttentiveStatisticsPooling(8, bottleneck=4, **words).eval()


@pytest.mark.parametrize("context", [None, StatisticsPooling(), StatisticsPooling(unbiased=False)])
def test_attention_does_not_see_padding(x, context):
    check_padding_is_not_seen(attention(context=context), x)


def test_attention_is_the_equations_as_written(x):
    """Concatenate mean and deviation to every frame, score, weigh: the shared context is only multiplied once."""
    pool = attention(context=StatisticsPooling(eps=1e-7))
    context = torch.cat([x.mean(-1), (x.var(-1) + 1e-7).sqrt()], 1)[..., None].expand(-1, -1, 20)
    weights = pool.linear2(torch.tanh(pool.linear1(torch.cat([x, context], 1)))).softmax(-1)
    mean = (weights * x).sum(-1)
    deviation = ((weights * x.square()).sum(-1) - mean.square()).sqrt()
    torch.testing.assert_close(pool(x), torch.cat([mean, deviation], 1), rtol=1e-4, atol=1e-4)


def test_equal_scores_are_plain_statistics(x):
    pool = attention()
    nn.init.zeros_(pool.linear2.weight)
    torch.testing.assert_close(pool(x), torch.cat([x.mean(-1), x.std(-1, unbiased=False)], 1))


def test_one_high_score_picks_its_frame_and_the_floor_holds(x):
    pool = attention(floor=0.25)
    scores = torch.zeros(3, 8, 20)
    scores[..., 5] = 1e4
    pool.scores = lambda x, lengths: scores
    torch.testing.assert_close(pool(x), torch.cat([x[..., 5], torch.full((3, 8), 0.5)], 1))


def test_attention_takes_what_stands_between_its_layers(x):
    pool = attention(activation=nn.Sequential(nn.BatchNorm1d(4), nn.Tanh()))
    before = pool(x)
    pool.activation[0].bias.data += 1
    assert (pool(x) - before).abs().max() > 1e-3


def test_dropout_leaves_whole_frames_out_in_training_only():
    pool = AttentiveStatisticsPooling(2, bottleneck=4, dropout=0.5)
    nn.init.zeros_(pool.linear2.weight)
    nn.init.zeros_(pool.linear2.bias)
    x = torch.ones(1, 2, 1000)
    scores = pool.train().scores(x, None)
    left_out = scores == torch.finfo(scores.dtype).min
    assert 400 < left_out[0, 0].sum() < 600
    assert (left_out[0, 0] == left_out[0, 1]).all()
    assert not pool.eval().scores(x, None).any()


@pytest.mark.parametrize("mode", ["zeros", "reflect"])
@pytest.mark.parametrize(("kernel", "dilation", "padding"), [(3, 1, 1), (3, 2, 2), (5, 1, 2), (3, 3, 1), (4, 1, 0)])
def test_convolutions_do_not_see_padding(x, mode, kernel, dilation, padding):
    conv = TimeConv1d(8, 5, kernel, dilation=dilation, padding=padding, padding_mode=mode)
    batched = conv(spoilt(x), LENGTHS)
    assert batched.shape[-1] == 20 - conv.lost_frames
    for i, length in enumerate(LENGTHS.tolist()):
        alone = F.conv1d(
            F.pad(x[i : i + 1, :, :length], (padding, padding), mode.replace("zeros", "constant")),
            conv.weight,
            conv.bias,
            dilation=dilation,
        )
        assert alone.shape[-1] == length - conv.lost_frames
        torch.testing.assert_close(batched[i : i + 1, :, : alone.shape[-1]], alone, rtol=1e-4, atol=1e-5)


def test_a_row_shorter_than_what_it_mirrors_stays_inside_itself():
    x = torch.tensor([[[1.0, 2.0, 50.0, 60.0]]])
    assert set(reflect(x, torch.tensor([2]), 3)[..., :5].flatten().tolist()) <= {1.0, 2.0}


def test_a_time_delay_layer_normalises_after_its_relu(x):
    layer = TDNNLayer(8, 6).eval()
    layer.bn.running_mean.fill_(0.5)
    torch.testing.assert_close(layer(x), (F.relu(layer.conv(x)) - 0.5) / (1 + 1e-5) ** 0.5 + 0.0)
    assert (layer(x) < 0).any()

import examples
import torch

from samevoice.models.d_tdnn import DenseTimeDelayBlock


def test_parameter_counts():
    assert examples.parameters("d_tdnn") == 3_999_360  # 4.00M, the ERes2Net paper's Table 4
    # D-TDNN as its own paper has it, on 30 cepstra: the 2.8M of its table
    assert examples.parameters("d_tdnn", layers=(6, 12), embedding_dim=512, mels=30) == 2_822_400


def test_a_dense_block_hands_on_its_input_and_adds_growth_channels():
    block = DenseTimeDelayBlock(3, inputs=8, growth=4, dilation=1).eval()
    x = torch.randn(2, 8, 20)
    output = block(x)
    assert output.shape == (2, 8 + 3 * 4, 20)
    torch.testing.assert_close(output[:, :8], x)


def test_how_far_a_dense_block_sees():
    torch.manual_seed(0)
    block = DenseTimeDelayBlock(2, inputs=8, growth=32, dilation=3)
    x = torch.randn(1, 8, 41, requires_grad=True)
    block.eval()(x)[0, :, 20].square().sum().backward()
    seen = x.grad.abs().sum((0, 1)).nonzero().flatten().tolist()  # two layers of three frames, 3 apart
    assert seen == [14, 17, 20, 23, 26]


def test_a_dense_block_does_not_see_padding():
    torch.manual_seed(0)
    block = DenseTimeDelayBlock(2, inputs=8, growth=4, dilation=3)
    x = torch.randn(2, 8, 30)
    examples.settled(block, x)
    torch.testing.assert_close(block(x, torch.tensor([30, 19]))[1:, :, :19], block(x[1:, :, :19]))


def test_pinned():
    examples.check_pinned("d_tdnn", [-0.0796832, -0.512542, 0.173984, -0.198772])
    expected = [-0.0155975, 0.132507, -0.315237, -0.125313]
    examples.check_pinned("d_tdnn", expected, layers=(6, 12), embedding_dim=512)

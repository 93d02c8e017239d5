import hidden
import torch

from samevoice.models.dbe import DBE


def small() -> DBE:
    torch.manual_seed(0)
    return DBE(layers=5, hidden=24, mels=16, embedding_dim=8, channels=16, mfa_channels=24).eval()


def test_parameters_are_the_lap_paper_s_estimate():
    assert hidden.parameters(DBE()) == 14_340_237  # its Table 1: 14.3M


def test_pinned():
    hidden.check_pinned(small(), [1.09114, -1.57295, -0.879119, 1.54967], (1, 5, 30, 24), (1, 61, 16))


def test_low_and_high_layers_have_weights_of_their_own():
    network = small()
    usage = network.layer_usage(hidden.states(1, 5, 4, 24))
    torch.testing.assert_close(usage.weights[0, 0, :, 0], torch.tensor([1 / 3, 1 / 3, 1 / 3, 1 / 2, 1 / 2]))


def test_the_gate_chooses_between_the_halves():
    network, fbank = small(), torch.randn(1, 40, 16)
    low, high = hidden.states(1, 5, 20, 24), hidden.states(1, 5, 20, 24)
    low[:, 3:] += 1.0  # as `high`, but for the high layers
    torch.nn.init.zeros_(network.gate[2].weight)
    for bias, same in ((50.0, True), (-50.0, False)):  # all from the low layers, all from the high ones
        torch.nn.init.constant_(network.gate[2].bias, bias)
        assert torch.allclose(network(low, fbank), network(high, fbank), atol=1e-5) == same


def test_padding_in_either_branch_changes_nothing():
    network, states, fbank = small(), hidden.states(2, 5, 30, 24), torch.randn(2, 61, 16)
    batched = network(states, fbank, torch.tensor([30, 21]), torch.tensor([61, 43]))
    alone = network(states[1:, :, :21], fbank[1:, :43])
    torch.testing.assert_close(batched[1:], alone, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(network(states, fbank)[1:], alone, rtol=1e-2)

import hidden
import torch

from samevoice.models.w2v_bert import LayerAdapterMFA


def test_parameters():
    # 25 adapters of 1024 -> 128 -> 128, an attention over 3200 channels, and a linear layer from their statistics
    adapters = 25 * (1024 * 128 + 128 + 2 * 128 + 128 * 128 + 128)
    attention = 3200 * 128 + 128 + 2 * 128 + 128 * 3200 + 3200
    assert hidden.parameters(LayerAdapterMFA()) == adapters + attention + 6400 * 256 + 256 == 6_160_640


def test_pinned():
    network = LayerAdapterMFA(layers=4, hidden=24, embedding_dim=8, channels=6)
    hidden.check_pinned(network, [0.0702164, 0.052511, -0.425513, -0.544852], (1, 4, 30, 24))


def test_every_layer_goes_through_its_own_adapter():
    network, x = LayerAdapterMFA(layers=3, hidden=24, embedding_dim=8, channels=6).eval(), hidden.states(1, 3, 10, 24)
    before = network(x)
    with torch.no_grad():
        network.adapter_layers[1][3].bias += 1.0
    assert not torch.allclose(network(x), before, rtol=1e-3)
    swapped = network(x[:, [1, 0, 2]])
    assert not torch.allclose(network(x), swapped, rtol=1e-3)

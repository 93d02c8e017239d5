import hidden
import numpy as np
import pytest
import reference
import torch

from samevoice.hub import from_reference
from samevoice.models import create
from samevoice.models.lap import LAPASTP


@pytest.mark.parametrize("fixture", reference.fixture_names("lap_h"))
def test_fixture(fixture):
    hidden.check_fixture("lap_astp", fixture)


def test_parameters_of_the_paper():
    assert hidden.parameters(LAPASTP()) == 1_713_780
    assert hidden.parameters(LAPASTP(layers=25, hidden=1024, heads=16)) == 2_312_464


def test_pinned():
    network = LAPASTP(layers=4, hidden=24, embedding_dim=8, channels=16, heads=3)
    hidden.check_pinned(network, PINNED["sigmoid-max"], (1, 4, 30, 24))
    network = LAPASTP(layers=4, hidden=24, embedding_dim=8, channels=16, heads=3, pooling="softmax-sum")
    hidden.check_pinned(network, PINNED["softmax-sum"], (1, 4, 30, 24))


def test_one_head_of_the_authors_code_has_no_projection():
    ours = create("lap_astp", layers=4, hidden=8, heads=1, channels=6, embedding_dim=5)
    state = {name: value.clone() for name, value in ours.state_dict().items()}
    theirs = {}
    for name, value in state.items():
        for mine, public in (
            ("network.norm.", "network.t_pool.norm."),
            ("linear1", "attention.0"),
            ("activation.1", "attention.2"),
            ("linear2", "attention.3"),
        ):
            name = name.replace(mine, public)
        theirs[name] = value
    del theirs["layer_aggregation.in_weight.weight"], theirs["layer_aggregation.in_weight.bias"]
    loaded = from_reference("lap", "lap_astp", theirs).layer_aggregation
    assert torch.equal(loaded.in_weight.weight, torch.eye(8))
    assert not loaded.in_weight.bias.any()
    theirs["layer_aggregation.sq_weight"] = np.zeros((2, 4, 2), np.float32)  # two heads, and still no projection
    with pytest.raises(ValueError, match=r"missing layer_aggregation\.in_weight\.weight"):
        from_reference("lap", "lap_astp", theirs)


def test_usage_is_the_pooling_s():
    network, x = LAPASTP(layers=4, hidden=24, channels=16, heads=3).eval(), hidden.states(2, 4, 6, 24)
    usage = network.layer_usage(x)
    assert torch.equal(usage.weights, network.layer_aggregation.layer_usage(x).weights)
    assert usage.winners.shape == (2, 24, 6)


PINNED = {
    "sigmoid-max": [-0.834522, 0.293083, 0.649382, -0.404046],
    "softmax-sum": [-1.30028, 0.477234, 0.349609, -0.0420842],
}

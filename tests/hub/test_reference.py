"""Loading other toolkits' weights: strict, and told by the shapes where they tell."""

import numpy as np
import pytest
import torch

from samevoice.hub import from_reference
from samevoice.hub.conventions import Convention, widths
from samevoice.models import create

NARROW = {"channels": 8, "embedding_dim": 24}


@pytest.fixture
def state():
    return create("eres2net", **NARROW).state_dict()


def wespeaker_names(state):
    """WeSpeaker keeps the first convolution of a fusing block apart from the list of the others."""
    renamed = {}
    for name, value in state.items():
        stage, block, *rest = name.split(".")
        if stage in ("layer3", "layer4") and rest[0] in ("convs", "bns"):
            rest[:2] = [rest[0][:-1] + "2_1"] if rest[1] == "0" else [rest[0], str(int(rest[1]) - 1)]
        renamed[".".join([stage, block, *rest])] = value
    return renamed


def test_weights_arrive_as_tensors_or_arrays_and_the_shapes_tell_the_widths(state):
    x = torch.randn(2, 50, 80)
    arrays = from_reference("3d-speaker", "eres2net", {name: value.numpy() for name, value in state.items()})
    tensors = from_reference("3d-speaker", "eres2net", state)
    assert not arrays.training
    assert arrays.embedding_dim == 24
    for name, value in tensors.state_dict().items():
        torch.testing.assert_close(value, state[name])
    torch.testing.assert_close(arrays(x), tensors(x))


def test_the_whole_res2net_family_is_told_by_shapes():
    words = {"channels": 24, "embedding_dim": 16, "base_width": 26, "scale": 3, "expansion": 4, "blocks": (1, 1, 1, 1)}
    state = create("eres2netv2", **words).state_dict()
    network = from_reference("3d-speaker", "eres2netv2", state, blocks=(1, 1, 1, 1))
    assert network.embedding_dim == 16


def test_wespeaker_names_are_translated_and_its_epsilon_is_used(state):
    theirs = wespeaker_names(state)
    assert "layer4.0.conv2_1.weight" in theirs
    assert "layer1.0.convs.1.weight" in theirs
    network = from_reference("wespeaker", "eres2net", theirs)
    ours = create("eres2net", pooling_eps=1e-7, **NARROW).eval()
    ours.load_state_dict(state)
    x = torch.randn(2, 50, 80)
    torch.testing.assert_close(network(x), ours(x))


def test_every_difference_is_listed(state):
    del state["layer4.0.convs.1.weight"]
    del state["seg_1.weight"]
    state["projection.weight"] = torch.zeros(5994, 24)
    state["bn1.bias"] = torch.zeros(9)
    with pytest.raises(ValueError, match="3d-speaker eres2net") as raised:
        from_reference("3d-speaker", "eres2net", state, **NARROW)
    for line in (
        "missing layer4.0.convs.1.weight (8, 8, 3, 3)".replace("8, 8", "32, 32"),
        "missing seg_1.weight (24, 2560)",
        "unknown projection.weight (5994, 24)",
        "bn1.bias is (9,), expected (8,)",
    ):
        assert line in str(raised.value)


def test_weights_without_the_parameters_that_tell_widths_are_listed_too():
    with pytest.raises(ValueError, match=r"missing conv1\.weight"):
        from_reference("3d-speaker", "eres2netv2", {"bn1.weight": np.zeros(8, np.float32)})


def test_words_given_win_over_shapes(state):
    with pytest.raises(ValueError, match=r"seg_1.bias is \(24,\), expected \(12,\)"):
        from_reference("3d-speaker", "eres2net", state, embedding_dim=12)


def test_two_parameters_of_one_name_are_refused(state):
    theirs = wespeaker_names(state)
    theirs["layer3.0.convs.1.weight"] = theirs["layer3.0.convs.0.weight"]
    with pytest.raises(ValueError, match=r"layer3.0.convs.1.weight"):
        from_reference("wespeaker", "eres2net", theirs)


def test_unknown_source_or_architecture_lists_what_exists():
    with pytest.raises(ValueError, match="unknown source 'wespeakr'; valid: 3d-speaker, wespeaker, lap"):
        from_reference("wespeakr", "eres2net", {})
    with pytest.raises(ValueError, match="wespeaker has no 'eres2netv2' that we know; valid: campplus"):
        from_reference("wespeaker", "eres2netv2", {})


def test_a_pointwise_convolution_becomes_a_linear_layer():
    convention = Convention(renames=((r"^a\.", "b."),), flatten=("b.weight",))
    renamed = convention.rename({"a.weight": np.zeros((3, 1, 1)), "c.weight": np.zeros((3, 1, 1))})
    assert {name: value.shape for name, value in renamed.items()} == {"b.weight": (3, 1), "c.weight": (3, 1, 1)}


def test_widths_skip_what_is_absent():
    assert widths(channels="a", embedding_dim="b")({"a": np.zeros((3, 2))}) == {"channels": 3}

"""The registry, and what every network in it promises."""

import examples
import pytest
import torch

from samevoice.models import create, names
from samevoice.models.registry import words


def test_names_are_sorted_and_hold_both_ends_of_the_first_issue():
    assert names() == sorted(names())
    assert {"res2net", "res2net_lff", "res2net_gff", "eres2net", "eres2netv2", "campplus", "resnet293"} <= set(names())


def test_an_unknown_name_or_word_names_the_nearest():
    with pytest.raises(ValueError, match=r"unknown architecture 'eres2nett'.*did you mean eres2net"):
        create("eres2nett")
    with pytest.raises(ValueError, match="resnet34 has no setting 'embeding_dim'; did you mean embedding_dim"):
        create("resnet34", embeding_dim=256)
    with pytest.raises(ValueError, match="'zzz'; valid: mels, channels"):
        create("resnet34", zzz=1)


def test_words_are_the_class_defaults_with_the_rows_own():
    assert words("eres2netv2")["base_width"] == 26
    assert words("resnet293")["blocks"] == (10, 20, 64, 3)
    assert "stage_blocks" not in words("resnet34")


@pytest.mark.parametrize("name", names())
def test_gradients_reach_every_parameter_in_training_mode(name):
    network, configuration = examples.narrow(name)
    assert network.training
    embeddings = network(examples.features(network, configuration, rows=4))
    assert embeddings.shape == (4, network.embedding_dim)
    (embeddings * torch.randn_like(embeddings)).sum().backward()
    trained = {key: parameter for key, parameter in network.named_parameters() if parameter.requires_grad}
    assert trained
    # A bias before a normalisation has a gradient of 0 by nature, so only matrices must have some that is not.
    unreached = [
        key
        for key, parameter in trained.items()
        if parameter.grad is None
        or not parameter.grad.isfinite().all()
        or (parameter.ndim > 1 and not parameter.grad.any())
    ]
    assert not unreached


@pytest.mark.parametrize("name", names())
def test_an_embedding_is_the_same_alone_and_in_a_batch(name):
    network, configuration = examples.narrow(name)
    rows = examples.features(network, configuration, rows=3).double()  # so that rounding hides nothing
    examples.settled(network.double(), rows)
    axis = examples.TIME_AXIS[network.input_kind]
    length = rows.shape[axis]
    lengths = torch.tensor([length, length * 2 // 3, length // 2] if network.takes_lengths else [length] * 3)
    alone = [rows[i : i + 1].narrow(axis, 0, int(n)) for i, n in enumerate(lengths)]  # what follows is never read
    with torch.inference_mode():
        batched = network(rows, lengths) if network.takes_lengths else network(rows)
        one_by_one = torch.cat([network(row) for row in alone])
    largest = one_by_one.abs().max()
    assert (one_by_one[0] - one_by_one[1]).abs().max() > 1e-2 * largest  # else any two would agree
    assert (batched - one_by_one).abs().max() < 1e-6 * largest

"""Averages of weights, against the averages written out."""

import doctest

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from samevoice.training import averaging
from samevoice.training.averaging import average, create, renew_batch_norm


def network(weight: float) -> nn.Sequential:
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    put(model, weight)
    return model


def put(model: nn.Sequential, weight: float) -> None:
    for value in (*model.parameters(), model[1].running_mean):
        value.data.fill_(weight)


def test_ema_of_weights_and_statistics():
    model = network(1.0)
    ema = create("ema", model, decay=0.9)
    expected = None
    for weight in (1.0, 3.0, 2.0, 7.0):
        put(model, weight)
        ema.update_parameters(model)
        expected = weight if expected is None else 0.9 * expected + 0.1 * weight
    assert ema.module[0].weight.detach() == pytest.approx(torch.full((3, 2), expected))
    assert ema.module[1].running_mean == pytest.approx(torch.full((3,), expected))
    assert model[0].weight[0, 0].item() == 7.0, "the network itself goes on"


def test_swa_is_the_mean_of_all():
    model = network(0.0)
    swa = create("swa", model)
    for weight in (1.0, 3.0, 2.0, 8.0):
        put(model, weight)
        swa.update_parameters(model)
    assert swa.module[0].weight.detach() == pytest.approx(torch.full((3, 2), 3.5))


@pytest.mark.parametrize("name", averaging.NAMES)
def test_a_saved_average_goes_on_where_it_was(name, tmp_path):
    model = network(0.0)
    whole, first = create(name, model, decay=0.8), create(name, model, decay=0.8)
    for weight in (1.0, 3.0):
        put(model, weight)
        whole.update_parameters(model)
        first.update_parameters(model)
    save_file(first.state_dict(), tmp_path / "average.safetensors")
    second = create(name, network(5.0), decay=0.8)
    second.load_state_dict(load_file(tmp_path / "average.safetensors"))
    put(model, 9.0)
    whole.update_parameters(model)
    second.update_parameters(model)
    assert all(torch.equal(value, second.state_dict()[key]) for key, value in whole.state_dict().items())


def test_unknown_average():
    with pytest.raises(ValueError, match="unknown averaging 'sma'; did you mean"):
        create("sma", network(0.0))


def test_statistics_are_renewed_over_the_batches():
    torch.manual_seed(0)
    model = network(1.0).eval()
    batches = [torch.randn(50, 2) for _ in range(3)]
    renew_batch_norm(model, iter(batches))
    seen = [model[0](batch) for batch in batches]
    assert model[1].running_mean == pytest.approx(torch.stack([x.mean(0) for x in seen]).mean(0).detach(), rel=1e-4)
    assert model[1].running_var == pytest.approx(torch.stack([x.var(0) for x in seen]).mean(0).detach(), rel=1e-4)
    assert model[1].momentum == 0.1
    assert not model.training


def test_statistics_stay_when_there_is_no_batch():
    model = network(4.0)
    with pytest.raises(ValueError, match="can't be renewed without a batch"):
        renew_batch_norm(model, [])
    assert model[1].running_mean.tolist() == [4.0, 4.0, 4.0]


def test_a_network_without_batch_norm_stays():
    model = nn.Linear(2, 2)
    before = model.weight.clone()
    renew_batch_norm(model, [torch.randn(3, 2)])
    assert torch.equal(model.weight, before)


def saved(folder, **tensors) -> list:
    """One file for each place in the lists of tensors."""
    files = []
    for place in range(len(next(iter(tensors.values())))):
        files.append(folder / f"{place}.safetensors")
        save_file({name: values[place] for name, values in tensors.items()}, files[-1])
    return files


def test_average_of_checkpoints(tmp_path):
    weights = [torch.tensor([1.0, 4.0]), torch.tensor([2.0, 5.0]), torch.tensor([6.0, -3.0])]
    files = saved(tmp_path, weight=weights, steps=[torch.tensor(n) for n in (10, 20, 31)])
    result = average(files)
    assert result["weight"].tolist() == [3.0, 2.0]
    assert result["weight"].dtype == torch.float32
    assert result["steps"].item() == 31


def test_average_is_summed_in_double_precision(tmp_path):
    # In float32, 1e8 + 1 is 1e8.
    files = saved(tmp_path, weight=[torch.tensor([x]) for x in (1e8, 1.0, 1.0, 1.0, 1.0, -1e8)])
    assert average(files)["weight"].item() == pytest.approx(4 / 6)


def test_checkpoints_that_have_no_average(tmp_path):
    with pytest.raises(ValueError, match="no checkpoints to average"):
        average([])
    shapes = saved(tmp_path, weight=[torch.zeros(2), torch.zeros(3)])
    with pytest.raises(ValueError, match=r"0\.safetensors: weight is \(2,\), but in .*1\.safetensors it is \(3,\)"):
        average(shapes)
    save_file({"weight": torch.zeros(3), "bias": torch.zeros(3)}, shapes[0])
    with pytest.raises(ValueError, match=r"0\.safetensors: can't be averaged with .*: only one has bias"):
        average(shapes)


def test_examples():
    assert doctest.testmod(averaging).failed == 0

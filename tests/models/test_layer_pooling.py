import hidden
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samevoice.models import layer_pooling
from samevoice.models.layer_pooling import KeyValueSum, LayerAttentivePooling, WeightedSum


def equations(pool: LayerAttentivePooling, X: Tensor, kept: Tensor | float = 1.0) -> Tensor:
    """Equations (2)-(8), head by head and frame by frame; kept: dropout's factors, (batch, layers, frames, heads)."""
    batch, layers, frames, hidden_ = X.shape
    norm, d = pool.in_norm, hidden_ // pool.heads
    flat = X.reshape(-1, hidden_)
    if pool.training:
        normal = (flat - flat.mean(0)) / (flat.var(0, unbiased=False) + norm.eps).sqrt()
    else:
        normal = (flat - norm.running_mean) / (norm.running_var + norm.eps).sqrt()
    x = (norm.weight * normal + norm.bias) @ pool.in_weight.weight.T + pool.in_weight.bias
    x = x.reshape(batch, layers, frames, pool.heads, d)
    heads = []
    for h in range(pool.heads):
        of_frames = []
        for t in range(frames):
            values = x[:, :, t, h]  # (batch, layers, d)
            significance = 0.0
            for z in (values.max(-1).values, values.mean(-1)):
                squeezed = (z @ pool.sq_weight[h] + pool.sq_bias[h]).relu()
                significance = significance + squeezed @ pool.ex_weight[h] + pool.ex_bias[h]
            factors = kept[:, :, t, h] if isinstance(kept, Tensor) else kept
            if pool.pooling == "sigmoid-max":
                of_frames.append((values * (significance.sigmoid() * factors)[..., None]).max(1).values)
            else:
                of_frames.append((values * (significance.softmax(1) * factors)[..., None]).sum(1))
        heads.append(torch.stack(of_frames, 1))  # (batch, frames, d)
    y = torch.cat(heads, -1) @ pool.out_weight.weight.T + pool.out_weight.bias
    return pool.out_norm(y.transpose(1, 2))


def pooling(kind: str = "sigmoid-max", dropout: float = 0.0, layers: int = 5, heads: int = 3) -> LayerAttentivePooling:
    torch.manual_seed(1)
    pool = LayerAttentivePooling(layers, 12, channels=7, heads=heads, dropout=dropout, pooling=kind).double()
    for norm in (pool.in_norm, pool.out_norm):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, 0.0, 0.3)
        nn.init.normal_(norm.running_mean, 0.0, 0.3)
        nn.init.uniform_(norm.running_var, 0.5, 1.5)
    for bias in (pool.sq_bias, pool.ex_bias, pool.in_weight.bias, pool.out_weight.bias):
        nn.init.normal_(bias)
    return pool


def test_weighted_sum_is_the_softmax_average():
    pool = WeightedSum(2)
    x = torch.stack([torch.full((1, 3, 4), 8.0), torch.full((1, 3, 4), 16.0)], 1)
    assert torch.equal(pool(x), torch.full((1, 4, 3), 12.0))
    pool.layer_weights.data = torch.tensor([1.0, 3.0]).log()  # a quarter and three quarters
    torch.testing.assert_close(pool(x), torch.full((1, 4, 3), 14.0))
    usage = pool.layer_usage(x)
    assert usage.winners is None
    torch.testing.assert_close(usage.weights, torch.tensor([0.25, 0.75])[None, None, :, None].expand(1, 1, 2, 3))


def test_keys_and_values_have_weights_of_their_own():
    pool, x = KeyValueSum(3), hidden.states(2, 3, 4, 6)
    pool.key.layer_weights.data = torch.tensor([1.0, 2.0, -1.0])
    keys, values = pool(x)
    torch.testing.assert_close(keys, pool.key(x))
    torch.testing.assert_close(values, x.mean(1).transpose(1, 2))
    assert pool.layer_usage(x).weights.shape == (2, 2, 3, 4)


@pytest.mark.parametrize("kind", ["sigmoid-max", "softmax-sum"])
@pytest.mark.parametrize("heads", [1, 3, 12])
def test_inference_is_the_equations(kind, heads):
    pool, x = pooling(kind, heads=heads).eval(), hidden.states(2, 5, 4, 12).double()
    torch.testing.assert_close(pool(x), equations(pool, x))


@pytest.mark.parametrize("kind", ["sigmoid-max", "softmax-sum"])
@pytest.mark.parametrize("chunk", [1, 2 * 5 * 4 * 12, 2**20])  # one recording at a time, two (the last alone), all
def test_training_is_the_equations_and_so_is_every_gradient(monkeypatch, kind, chunk):
    monkeypatch.setattr(layer_pooling, "CHUNK", chunk)
    results = []
    for compute in (LayerAttentivePooling.forward, equations):
        pool, x = pooling(kind), hidden.states(3, 5, 4, 12).double().requires_grad_()
        y = compute(pool, x)
        y.backward(torch.randn(y.shape, generator=torch.Generator().manual_seed(2), dtype=y.dtype))
        results.append({"y": y.detach(), "x": x.grad, **{name: p.grad for name, p in pool.named_parameters()}})
    ours, theirs = results
    assert ours.keys() == theirs.keys()
    for name, expected in theirs.items():
        torch.testing.assert_close(ours[name], expected, msg=lambda message, name=name: f"{name}: {message}")


def test_training_without_a_trained_front_end_gives_the_same_gradients_and_none_to_the_states():
    gradients = []
    for wanted in (True, False):
        pool, x = pooling(), hidden.states(3, 5, 4, 12).double().requires_grad_(wanted)
        pool(x).square().sum().backward()
        assert (x.grad is not None) == wanted
        gradients.append(pool.in_weight.weight.grad)
    assert torch.equal(*gradients)


def test_training_takes_states_in_any_layout():
    x = hidden.states(3, 5, 4, 12).double()
    other = x.transpose(0, 1).contiguous().transpose(0, 1)  # as torch.stack(hidden_states).transpose(0, 1)
    assert not other.is_contiguous()
    gradients = []
    for given in (x.clone().requires_grad_(), other.requires_grad_()):
        pool = pooling()
        pool(given).square().sum().backward()
        gradients.append(given.grad)
    torch.testing.assert_close(*gradients)


def test_training_moves_the_running_statistics_as_batch_norm_does():
    pool, x = pooling(), hidden.states(3, 5, 4, 12).double()
    norm = nn.BatchNorm1d(12).double()
    norm.load_state_dict(pool.in_norm.state_dict())
    norm(x.flatten(0, 2))
    pool(x)
    for name, expected in norm.state_dict().items():
        torch.testing.assert_close(pool.in_norm.state_dict()[name], expected)


def test_dropout_scales_and_removes_whole_layers_of_a_head_at_a_frame():
    pool, x = pooling(dropout=0.4), hidden.states(3, 5, 4, 12).double().requires_grad_()
    torch.manual_seed(3)
    ours = pool(x)
    torch.manual_seed(3)
    kept = F.dropout(torch.ones(3, 5, 4, 3, dtype=torch.float64), 0.4)
    assert 0 < (kept == 0).float().mean() < 1
    theirs = equations(pool, x, kept)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(
        *(torch.autograd.grad(y.square().sum(), [x, pool.ex_weight, pool.in_weight.weight]) for y in (ours, theirs))
    )


def test_mixed_precision_trains_nearly_as_full_precision():
    gradients = []
    for enabled in (False, True):
        pool, x = pooling().float(), hidden.states(4, 5, 8, 12).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            y = pool(x)
        y.float().backward(torch.ones(1).expand(y.shape) * torch.linspace(-1, 1, 8))
        gradients.append((x.grad, pool.in_weight.weight.grad, pool.sq_weight.grad))
        assert all(gradient.dtype == torch.float32 for gradient in gradients[-1])
    for full, mixed in zip(*gradients, strict=True):
        assert (full - mixed).norm() < 0.15 * full.norm()


def test_each_frame_is_pooled_alone():
    pool, x = pooling().eval(), hidden.states(2, 5, 9, 12).double()
    torch.testing.assert_close(pool(x)[:, :, 3:7], pool(x[:, :, 3:7]))


@pytest.mark.parametrize("kind", ["sigmoid-max", "softmax-sum"])
def test_usage_gives_weights_and_winners(kind):
    pool, x = pooling(kind).eval(), hidden.states(2, 5, 4, 12).double()
    weights, winners = pool.layer_usage(x)
    assert weights.shape == (2, 3, 5, 4)
    if kind == "softmax-sum":
        torch.testing.assert_close(weights.sum(2), torch.ones(2, 3, 4, dtype=torch.float64))
        assert winners is None
        return
    assert ((weights > 0) & (weights < 1)).all()
    assert winners.shape == (2, 12, 4)
    # A layer set far above the others wins every latent value, and only at its frame
    nn.init.eye_(pool.in_weight.weight)
    nn.init.zeros_(pool.ex_weight)  # weights that do not depend on the states
    x[:, 3] -= 1e4
    x[:, 3, 2] += 2e4
    winners = pool.layer_usage(x).winners
    assert (winners[:, :, 2] == 3).all()
    assert (winners[:, :, [0, 1, 3]] != 3).any()


def test_heads_must_divide_the_hidden_values():
    with pytest.raises(ValueError, match="5 heads do not divide 12"):
        LayerAttentivePooling(4, 12, heads=5)

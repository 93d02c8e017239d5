"""Layer pooling: the hidden states of every layer of a self-supervised model in, one feature per frame out.

All take (batch, layers, frames, hidden) and return (batch, channels, frames); every frame is pooled on its own, so
padded frames never touch the others.
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

CHUNK = 2**21  # latent values (8 MB of float32) that training projects at a time: few passes, little memory


class LayerUsage(NamedTuple):
    """What a pooling took from each layer (LAP paper, Figure 3).

    weights: (batch, heads, layers, frames); a static sum has one head and the same weights at every frame.
    winners: the layer whose scaled latent value was the largest, (batch, hidden, frames); None where values are summed.
    """

    weights: Tensor
    winners: Tensor | None


class WeightedSum(nn.Module):
    """The sum of all layers with one softmax weight per layer (SUPERB, Yang et al., Interspeech 2021).

    (batch, layers, frames, hidden) -> (batch, hidden, frames).

    >>> WeightedSum(layers=13)(torch.randn(2, 13, 50, 768)).shape
    torch.Size([2, 768, 50])
    """

    def __init__(self, layers: int):
        super().__init__()
        self.layer_weights = nn.Parameter(torch.zeros(layers))

    def forward(self, x: Tensor) -> Tensor:
        return _weighted_sums(self.layer_weights[None], x)[:, 0].transpose(1, 2)

    def layer_usage(self, x: Tensor) -> LayerUsage:
        weights = self.layer_weights.softmax(0)[:, None]  # (layers, 1)
        return LayerUsage(weights.expand(x.shape[0], 1, x.shape[1], x.shape[2]), None)


class KeyValueSum(nn.Module):
    """MHFA's pair of weighted sums, one for the keys and one for the values (Peng et al., SLT 2022).

    (batch, layers, frames, hidden) -> keys and values, each (batch, hidden, frames), from one pass over the states.
    """

    def __init__(self, layers: int):
        super().__init__()
        self.key = WeightedSum(layers)
        self.value = WeightedSum(layers)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        logits = torch.stack([self.key.layer_weights, self.value.layer_weights])
        keys, values = _weighted_sums(logits, x).transpose(2, 3).unbind(1)
        return keys, values

    def layer_usage(self, x: Tensor) -> LayerUsage:
        """Two heads: the keys' weights and the values'."""
        pair = [self.key.layer_usage(x).weights, self.value.layer_usage(x).weights]
        return LayerUsage(torch.cat(pair, 1), None)


def _weighted_sums(logits: Tensor, x: Tensor) -> Tensor:
    """(sums, layers) logits over (batch, layers, frames, hidden) states -> (batch, sums, frames, hidden)."""
    sums = logits.softmax(1) @ x.flatten(2)  # (batch, sums, frames * hidden)
    return sums.unflatten(2, x.shape[2:])


class LayerAttentivePooling(nn.Module):
    """LAP: every head weighs the layers anew at each frame and keeps the largest scaled latent value over the layers.

    (batch, layers, frames, hidden) -> (batch, channels, frames). Equations (2)-(8) of Kim et al., "Rethinking
    Leveraging Pre-Trained Multi-Layer Representations for Speaker Verification", Interspeech 2025. As the authors' code
    has it and the paper does not say: BatchNorm on the input, a bias in every projection, dropout on the weights.

    heads: h; each works on hidden / h latent values. channels: R.
    pooling: "sigmoid-max", or "softmax-sum" (the other rows of Table 2): weights that add up to 1 over the layers,
    and a sum instead of the maximum.

    In training the latent values are projected, pooled and forgotten a few recordings at a time, forward and backward:
    they are as large as the hidden states, and the gradient needs only those that won.

    >>> LayerAttentivePooling(layers=13, hidden=768)(torch.randn(2, 13, 50, 768)).shape
    torch.Size([2, 512, 50])
    """

    def __init__(
        self,
        layers: int,
        hidden: int,
        channels: int = 512,
        heads: int = 12,
        dropout: float = 0.1,
        pooling: Literal["sigmoid-max", "softmax-sum"] = "sigmoid-max",
    ):
        super().__init__()
        if hidden % heads:
            raise ValueError(f"{heads} heads do not divide {hidden} hidden values")
        self.heads = heads
        self.dropout = dropout
        self.pooling = pooling
        squeezed = layers // 2  # gamma
        self.in_norm = nn.BatchNorm1d(hidden)
        self.in_weight = nn.Linear(hidden, hidden)  # W_in of all heads
        self.sq_weight = nn.Parameter(torch.empty(heads, layers, squeezed))
        self.sq_bias = nn.Parameter(torch.zeros(heads, 1, squeezed))
        self.ex_weight = nn.Parameter(torch.empty(heads, squeezed, layers))
        self.ex_bias = nn.Parameter(torch.zeros(heads, 1, layers))
        self.out_weight = nn.Linear(hidden, channels)
        self.out_norm = nn.BatchNorm1d(channels)
        for matrix in [self.in_weight.weight, self.out_weight.weight, *self.sq_weight, *self.ex_weight]:
            nn.init.xavier_uniform_(matrix.data)
        nn.init.zeros_(self.in_weight.bias)
        nn.init.zeros_(self.out_weight.bias)

    def forward(self, x: Tensor) -> Tensor:
        if self.training and self.pooling == "sigmoid-max":
            y = self._train_sigmoid_max(x)
        else:
            latent, weights = self._weigh(x)
            scaled = latent * weights[..., None]
            y = (scaled.amax(1) if self.pooling == "sigmoid-max" else scaled.sum(1)).flatten(2)
        # y: (batch, frames, hidden), the heads side by side
        if self.training:
            y = self.out_weight(y)  # (batch, frames, channels)
            return self.out_norm(y.flatten(0, 1)).view_as(y).transpose(1, 2)
        scale, shift = _scale_and_shift(self.out_norm)
        weight, bias = self.out_weight.weight * scale[:, None], self.out_weight.bias * scale + shift
        return F.linear(y, weight, bias).transpose(1, 2)

    def layer_usage(self, x: Tensor) -> LayerUsage:
        latent, weights = self._weigh(x)
        winners = None
        if self.pooling == "sigmoid-max":
            winners = (latent * weights[..., None]).argmax(1).flatten(2).transpose(1, 2)
        return LayerUsage(weights.permute(0, 3, 1, 2), winners)

    def _weigh(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Latent values (batch, layers, frames, heads, hidden / heads), weights (batch, layers, frames, heads)."""
        if self.training:
            latent = self.in_weight(self.in_norm(x.flatten(0, 2)).view_as(x))
        else:
            learnt = _learnt(self.in_norm)
            latent = F.linear(x, *_normalised_projection(self.in_norm.eps, *learnt, *self._projection()))
        latent = latent.unflatten(-1, (self.heads, -1))
        significance = _significance(latent.amax(-1), latent.mean(-1), *self._squeeze_excitation())
        weights = significance.sigmoid() if self.pooling == "sigmoid-max" else significance.softmax(1)
        return latent, F.dropout(weights, self.dropout, self.training)

    def _projection(self) -> tuple[Tensor, ...]:
        return self.in_norm.weight, self.in_norm.bias, self.in_weight.weight, self.in_weight.bias

    def _squeeze_excitation(self) -> tuple[Tensor, ...]:
        return self.sq_weight, self.sq_bias, self.ex_weight, self.ex_bias

    def _train_sigmoid_max(self, x: Tensor) -> Tensor:
        norm = self.in_norm
        world = _processes(norm)
        mean, var = _update_statistics(norm, x.detach().flatten(0, 2), world)
        ones = self.sq_weight.new_ones(*x.shape[:3], self.heads)
        kept = F.dropout(ones, self.dropout)  # dropout's factor of each weight
        device = x.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
        with torch.autocast(device, enabled=False):
            return _SigmoidMax.apply(
                x, kept, dtype, norm.eps, world, mean, var, *self._projection(), *self._squeeze_excitation()
            )


class _SigmoidMax(torch.autograd.Function):
    """Equations (2)-(7) in training: (batch, layers, frames, hidden) -> (batch, frames, hidden).

    The input's normalisation is folded into W_in, so the states are read as they are. Forward keeps of each latent
    value only which layer won and with what value, and the statistics of equation (3); backward rebuilds the latent
    values' gradient from those. Both work on a few recordings at a time.

    dtype: of the latent values and the two large products; the layers' weights are computed in the parameters' own.
    world: processes over whose batches mean and var are.
    """

    @staticmethod
    def forward(ctx, x, kept, dtype, eps, world, mean, var, *parameters):
        *projection, sq_weight, sq_bias, ex_weight, ex_bias = parameters
        weight, bias = (p.to(dtype) for p in _normalised_projection(eps, mean, var, *projection))
        (batch, layers, frames, hidden), heads = x.shape, kept.shape[-1]
        y, value = x.new_empty(2, batch, frames, heads, hidden // heads, dtype=dtype)
        winner = torch.empty_like(y, dtype=torch.uint8)
        largest, average = kept.new_empty(2, *kept.shape)
        where = torch.empty_like(largest, dtype=torch.int64)
        scratch = y.new_empty(2, _chunk_size(x), layers, frames, heads, hidden // heads)
        for states, keep, *results in _chunks(x, kept, y, winner, value, largest, where, average):
            latent, scaled = scratch[:, : len(states)]  # (chunk, layers, frames, heads, d)
            torch.addmm(bias, states.flatten(0, 2).to(dtype), weight.T, out=latent.flatten(0, 2).flatten(1))
            top, top_at = latent.max(-1)
            top, centre = top.to(kept.dtype), latent.mean(-1, dtype=kept.dtype)
            weights = _significance(top, centre, sq_weight, sq_bias, ex_weight, ex_bias).sigmoid() * keep
            torch.mul(latent, weights[..., None].to(dtype), out=scaled)
            best, best_at = scaled.max(1)  # (chunk, frames, heads, d)
            best_value = latent.gather(1, best_at[:, None])[:, 0]
            for result, part in zip(results, (best, best_at, best_value, top, top_at, centre), strict=True):
                result.copy_(part)
        ctx.eps, ctx.world = eps, world
        ctx.save_for_backward(x, kept, winner, value, largest, where, average, mean, var, *parameters)
        return y.flatten(2)

    @staticmethod
    @once_differentiable
    def backward(ctx, dy):
        x, kept, winner, value, largest, where, average, *parameters = ctx.saved_tensors
        heads, d = value.shape[2:]
        dy = dy.unflatten(-1, (heads, d))
        # What is small (the layers' weights, the projection with its normalisation) is left to autograd
        with torch.enable_grad():
            moments_and_projection = [p.detach().requires_grad_() for p in parameters[:-4]]
            weight, bias = _normalised_projection(ctx.eps, *moments_and_projection)
            statistics = [p.detach().requires_grad_() for p in (largest, average, *parameters[-4:])]
            weights = _significance(*statistics).sigmoid() * kept  # (batch, layers, frames, heads)
        by_layer = weights.detach().permute(0, 2, 3, 1)  # (batch, frames, heads, layers)
        dby_layer = torch.zeros_like(by_layer)
        for _, dwon_by, won, dwon, of_winner in _chunks(x, dby_layer, winner, dy, value):
            dwon_by.scatter_add_(-1, won.long(), (dwon * of_winner).to(dwon_by.dtype))
        dlargest, daverage, *dsqueeze_excitation = torch.autograd.grad(
            weights, statistics, dby_layer.permute(0, 3, 1, 2)
        )

        dtype = dy.dtype
        projection = weight.detach().to(dtype)
        dx = dy.new_empty(x.shape) if ctx.needs_input_grad[0] else None
        dweight, dbias = torch.zeros_like(weight), torch.zeros_like(bias)
        scratch = dy.new_empty(_chunk_size(x), *dlargest.shape[1:], d)
        pieces = _chunks(x, x if dx is None else dx, dy, by_layer, winner, where, dlargest, daverage)
        for states, dstates, dwon, by, won, top, dtop, dmean in pieces:
            won = won.long()  # (chunk, frames, heads, d)
            dlatent = scratch[: len(states)].copy_((dmean / d)[..., None])  # (chunk, layers, frames, heads, d)
            dlatent.scatter_add_(1, won[:, None], (dwon * by.gather(-1, won).to(dtype))[:, None])
            dlatent.scatter_add_(-1, top[..., None], dtop[..., None].to(dtype))
            dlatent = dlatent.view(-1, heads * d)
            dweight += dlatent.T @ states.flatten(0, 2).to(dtype)
            dbias += dlatent.sum(0)
            if dx is not None:
                torch.mm(dlatent, projection, out=dstates.flatten(0, 2))
        dmoments_and_projection = torch.autograd.grad((weight, bias), moments_and_projection, (dweight, dbias))
        if dx is not None:  # through the mean and the variance of the batch
            mean, count = parameters[0], x[..., 0].numel() * ctx.world
            dmoments = torch.stack(dmoments_and_projection[:2])
            if ctx.world > 1:
                dist.all_reduce(dmoments)  # every process's loss depends on what each one's states added
            dmean, dvar = dmoments
            slope, offset = (2 * dvar / count).to(dtype), ((dmean - 2 * dvar * mean) / count).to(dtype)
            for states, dstates in _chunks(x, dx):
                dstates.addcmul_(states.to(dtype), slope).add_(offset)
            dx = dx.to(x.dtype)
        return dx, None, None, None, None, None, None, *dmoments_and_projection[2:], *dsqueeze_excitation


def _chunks(x: Tensor, *others: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """The same few recordings of every tensor at a time, about CHUNK values of the first one."""
    return zip(*(tensor.split(_chunk_size(x)) for tensor in (x, *others)), strict=True)


def _chunk_size(x: Tensor) -> int:
    return min(len(x), max(1, CHUNK // x[0].numel()))


def _scale_and_shift(norm: nn.BatchNorm1d) -> tuple[Tensor, Tensor]:
    """BatchNorm at inference is scale * x + shift."""
    mean, var = _learnt(norm)
    scale = norm.weight * (var + norm.eps).rsqrt()
    return scale, norm.bias - mean * scale


def _learnt(norm: nn.BatchNorm1d) -> tuple[Tensor, Tensor]:
    """The mean and the variance for inference."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return norm.running_mean, norm.running_var


def _processes(norm: nn.BatchNorm1d) -> int:
    """How many share their statistics: all, where training has put a synchronised normalisation in this one's place."""
    return dist.get_world_size() if type(norm) is not nn.BatchNorm1d and dist.is_initialized() else 1


def _update_statistics(norm: nn.BatchNorm1d, rows: Tensor, world: int) -> tuple[Tensor, Tensor]:
    """Mean and variance of all processes' rows (rows, hidden), which also go into the running ones."""
    assert norm.num_batches_tracked is not None
    norm.num_batches_tracked += 1
    # No momentum: the plain mean over batches, as when the statistics of averaged weights are measured
    share = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    running_mean, running_var = _learnt(norm)
    if world == 1:
        return torch.batch_norm_update_stats(rows, running_mean, running_var, share)
    var, own = torch.var_mean(rows.to(running_mean.dtype), 0, correction=0)
    mean = own.clone()
    dist.all_reduce(mean)
    mean /= world
    var += (own - mean).square()
    dist.all_reduce(var)
    var /= world
    count = world * len(rows)
    running_mean.lerp_(mean, share)
    running_var.lerp_(var * count / (count - 1), share)
    return mean, var


def _normalised_projection(eps, mean, var, norm_weight, norm_bias, weight, bias) -> tuple[Tensor, Tensor]:
    """Weight and bias that do batch normalisation and then the projection: W (s x + t) + b = (W s) x + (W t + b)."""
    scale = norm_weight * (var + eps).rsqrt()
    return weight * scale, bias + weight @ (norm_bias - mean * scale)


def _significance(largest, average, sq_weight, sq_bias, ex_weight, ex_bias) -> Tensor:
    """Equation (4) for both statistics of equation (3), and their sum: (batch, layers, frames, heads) in and out."""
    total = 0
    for z in (largest, average):
        z = z.permute(3, 0, 2, 1).flatten(1, 2)  # (heads, batch * frames, layers)
        z = (z @ sq_weight + sq_bias).relu() @ ex_weight + ex_bias
        total = total + z
    batch, _, frames, _ = largest.shape
    return total.unflatten(1, (batch, frames)).permute(1, 3, 2, 0)

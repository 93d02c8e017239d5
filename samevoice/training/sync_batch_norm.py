"""BatchNorm over all processes where torch's own SyncBatchNorm, which is for GPUs alone, does not run."""

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class SyncBatchNorm(_BatchNorm):
    """(batch, channels, ...) -> the same; in training, mean and variance are those of all processes' batches.

    Each process must have as many values. At inference it is BatchNorm.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not dist.is_initialized():
            return super().forward(x)
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        weight = self.weight if self.affine else torch.ones(self.num_features, dtype=wide.dtype)
        bias = self.bias if self.affine else torch.zeros(self.num_features, dtype=wide.dtype)
        y, mean, variance = _Normalised.apply(wide, weight, bias, self.eps)
        self._remember(mean, variance, dist.get_world_size() * x.numel() // x.shape[1])
        return y.to(x.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor, count: int) -> None:
        if self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        share = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
        self.running_var.lerp_((variance * count / (count - 1)).to(self.running_var.dtype), share)

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim < 2:
            raise ValueError(f"(batch, channels, ...) is expected, not {input.ndim} dimensions")


class _Normalised(torch.autograd.Function):
    """(x, weight, bias, eps) -> (y, mean, variance): all with torch's kernels for BatchNorm, which read x few times."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        mine = torch.stack(torch.batch_norm_update_stats(x, None, None, 0.0))  # mean and variance
        all_of_them = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
        dist.all_gather(all_of_them, mine)
        means, variances = torch.stack(all_of_them, 1)
        mean = means.mean(0)
        variance = variances.mean(0) + (means - mean).square().mean(0)
        ctx.save_for_backward(x, weight, mean, (variance + eps).rsqrt())
        ctx.mark_non_differentiable(mean, variance)
        return F.batch_norm(x, mean, variance, weight, bias, eps=eps), mean, variance

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        """With x^ = (x - mean) * scale, d loss / d x = weight * scale * (g - mean(g) - x^ mean(g x^))."""
        gradient = gradients[0]
        x, weight, mean, scale = ctx.saved_tensors
        _, along, alone = torch.ops.aten.native_batch_norm_backward(
            gradient, x, weight, None, None, mean, scale, True, 0.0, [False, True, True]
        )
        sums = torch.stack([along, alone])  # of g x^ and of g
        dist.all_reduce(sums)
        tilt, offset = sums / (dist.get_world_size() * x.numel() // x.shape[1])
        slope = weight * scale
        change = _scaled(x, -slope * scale * tilt, slope * (scale * tilt * mean - offset))
        return change.add_(_scaled(gradient, slope, torch.zeros_like(slope))), along, alone, None


def _scaled(x: Tensor, slope: Tensor, offset: Tensor) -> Tensor:
    """Channel by channel, slope * x + offset."""
    return F.batch_norm(x, torch.zeros_like(slope), torch.ones_like(slope), slope, offset, eps=0.0)


def convert(module: nn.Module) -> nn.Module:
    """The module, each of its BatchNorms in place of one over all processes."""
    for name, child in module.named_children():
        if isinstance(child, _BatchNorm) and not isinstance(child, SyncBatchNorm):
            synced = SyncBatchNorm(
                child.num_features, child.eps, child.momentum, child.affine, child.track_running_stats
            )
            synced.load_state_dict(child.state_dict())
            like = child.weight if child.affine else child.running_mean
            setattr(module, name, synced.to(like).train(child.training) if like is not None else synced)
        else:
            convert(child)
    return module

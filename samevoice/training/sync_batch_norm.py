"""BatchNorm over all processes where torch's own SyncBatchNorm, which is for GPUs alone, does not run."""

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class SyncBatchNorm(_BatchNorm):
    """(batch, channels, ...) -> the same; in training, mean and variance are those of all processes' batches.

    Each process must have as many values. At inference it is BatchNorm.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not dist.is_initialized():
            return super().forward(x)
        axes = [axis for axis in range(x.ndim) if axis != 1]
        shape = [1, -1] + [1] * (x.ndim - 2)
        world, wide = dist.get_world_size(), x.to(torch.promote_types(x.dtype, torch.float32))
        mean = summed(wide.mean(axes)) / world
        variance = summed((wide - mean.view(shape)).square().mean(axes)) / world
        self._remember(mean.detach(), variance.detach(), world * x.numel() // x.shape[1])
        y = (wide - mean.view(shape)) * (variance.view(shape) + self.eps).rsqrt()
        if self.affine:
            y = y * self.weight.view(shape) + self.bias.view(shape)
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


class _Summed(torch.autograd.Function):
    @staticmethod
    def forward(ctx, mine: Tensor) -> Tensor:
        total = mine.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return _Summed.apply(gradient.contiguous())  # every process's loss depends on what each one added


def summed(mine: Tensor) -> Tensor:
    """The sum over all processes, through which gradients of all of them flow."""
    return _Summed.apply(mine)


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

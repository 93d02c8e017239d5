"""SpecAugment: bands of filter banks and stretches of time taken out."""

import torch
from torch import Tensor


def mask(features: Tensor, draws: Tensor, most: int, axis: int) -> Tensor:
    """Fill masks with each row's mean: (batch, frames, mels) -> the same (Park et al., Interspeech 2019).

    draws: (batch, masks, 2) in [0, 1): how wide each is, of 0 to `most`, and where. axis: 1 for time, 2 for mels.
    """
    size = features.shape[axis]
    width = (draws[..., 0] * (min(most, size) + 1)).floor()
    start = (draws[..., 1] * (size - width + 1)).floor()
    place = torch.arange(size, device=features.device)
    hidden = ((place >= start[..., None]) & (place < (start + width)[..., None])).any(1)  # (batch, size)
    hidden = hidden[:, :, None] if axis == 1 else hidden[:, None, :]
    return torch.where(hidden, features.mean((1, 2), keepdim=True), features)

"""A static weighted sum of the layers (SUPERB, Yang et al., Interspeech 2021), then one of three speaker networks.

These are the rows that the LAP paper compares itself with (Tables 1 and 2); MHFA, with two sums, is in mhfa.py.
Each takes (batch, layers, frames, hidden), optional lengths (batch,) in frames, and gives (batch, embedding_dim).
"""

from samevoice.models.ecapa_tdnn import ECAPATDNN
from samevoice.models.layer_pooled import ASTP, LayerPooledNetwork
from samevoice.models.layer_pooling import WeightedSum
from samevoice.models.xvector import PaddedXVector


class SUPERBASTP(LayerPooledNetwork):
    """Weighted sum and attentive statistics pooling. 1,480,141 parameters on a BASE model.

    >>> import torch
    >>> SUPERBASTP().eval()(torch.randn(2, 13, 50, 768)).shape
    torch.Size([2, 192])
    """

    def __init__(self, layers: int = 13, hidden: int = 768, embedding_dim: int = 192):
        super().__init__(WeightedSum(layers), ASTP(hidden, embedding_dim))


class SUPERBXVector(LayerPooledNetwork):
    """Weighted sum and x-vector. 6.38M parameters on a BASE model; `channels` is the width of the first four layers."""

    def __init__(
        self,
        layers: int = 13,
        hidden: int = 768,
        embedding_dim: int = 512,
        channels: int = 512,
        stats_channels: int = 1500,
    ):
        super().__init__(WeightedSum(layers), PaddedXVector(hidden, embedding_dim, channels, stats_channels))


class SUPERBECAPATDNN(LayerPooledNetwork):
    """Weighted sum and ECAPA-TDNN (Chen et al., ICASSP 2022). 7.95M parameters on a BASE model."""

    def __init__(
        self,
        layers: int = 13,
        hidden: int = 768,
        embedding_dim: int = 192,
        channels: int = 512,
        mfa_channels: int = 1536,
    ):
        super().__init__(WeightedSum(layers), ECAPATDNN(hidden, embedding_dim, channels, mfa_channels))

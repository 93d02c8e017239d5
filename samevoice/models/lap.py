"""LAP + ASTP: layer attentive pooling, then attentive statistics pooling (Kim et al., Interspeech 2025)."""

from typing import Literal

from samevoice.models.layer_pooled import ASTP, LayerPooledNetwork
from samevoice.models.layer_pooling import LayerAttentivePooling


class LAPASTP(LayerPooledNetwork):
    """The speaker model of "Rethinking Leveraging Pre-Trained Multi-Layer Representations for Speaker Verification".

    (batch, layers, frames, hidden), optional lengths (batch,) in frames -> (batch, embedding_dim).

    layers counts the state below the first layer too. channels: R, the width between the two poolings. heads: h.
    pooling: the layers' weights and reduction, "softmax-sum" being the paper's Table 2 variant.
    1,713,780 parameters as it stands (on a BASE model); 2,312,464 on a LARGE one (layers=25, hidden=1024, heads=16).

    >>> import torch
    >>> LAPASTP().eval()(torch.randn(2, 13, 50, 768)).shape
    torch.Size([2, 192])
    """

    def __init__(
        self,
        layers: int = 13,
        hidden: int = 768,
        embedding_dim: int = 192,
        channels: int = 512,
        heads: int = 12,
        pooling: Literal["sigmoid-max", "softmax-sum"] = "sigmoid-max",
    ):
        super().__init__(
            LayerAttentivePooling(layers, hidden, channels, heads, pooling=pooling), ASTP(channels, embedding_dim)
        )

"""MHFA: multi-head factorised attentive pooling over two weighted sums of the layers (Peng et al., SLT 2022)."""

import torch
from torch import Tensor, nn

from samevoice.models.base import SpeakerNetwork
from samevoice.models.layer_pooling import KeyValueSum, LayerUsage
from samevoice.models.pooling import frame_mask


class MHFA(SpeakerNetwork):
    """Each head attends to the frames by the keys and averages the values; a linear layer joins the heads.

    (batch, layers, frames, hidden), optional lengths (batch,) in frames -> (batch, embedding_dim).
    "An attention-based backend allowing efficient fine-tuning of Transformer models for speaker verification".

    channels: what keys and values are compressed to. 2,302,554 parameters on a BASE model, 2.37M on a LARGE one.

    >>> MHFA().eval()(torch.randn(2, 13, 50, 768)).shape
    torch.Size([2, 256])
    """

    input_kind = "hidden"
    takes_lengths = True

    def __init__(
        self, layers: int = 13, hidden: int = 768, embedding_dim: int = 256, channels: int = 128, heads: int = 64
    ):
        super().__init__()
        self.embedding_dim = embedding_dim
        self.layer_pooling = KeyValueSum(layers)
        self.cmp_linear_k = nn.Linear(hidden, channels)
        self.cmp_linear_v = nn.Linear(hidden, channels)
        self.att_head = nn.Linear(channels, heads)
        self.pooling_fc = nn.Linear(heads * channels, embedding_dim)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        keys, values = (pooled.transpose(1, 2) for pooled in self.layer_pooling(x))  # (batch, frames, hidden)
        keys, values = self.cmp_linear_k(keys), self.cmp_linear_v(values)  # (batch, frames, channels)
        scores = self.att_head(keys)  # (batch, frames, heads)
        if lengths is not None:
            padding = ~frame_mask(lengths, x.shape[2])[..., None]
            scores = scores.masked_fill(padding, torch.finfo(scores.dtype).min)
        pooled = scores.softmax(1).transpose(1, 2) @ values  # (batch, heads, channels)
        return self.pooling_fc(pooled.flatten(1))

    def layer_usage(self, x: Tensor) -> LayerUsage:
        """The static weights of the layers, in two heads: the keys' and the values'."""
        return self.layer_pooling.layer_usage(x)

"""Layer adapters and multi-layer aggregation over w2v-BERT 2.0 (Li, Cheng and Li, arXiv 2510.04213)."""

import torch
from torch import Tensor, nn

from samevoice.models.base import SpeakerNetwork
from samevoice.models.pooling import AttentiveStatisticsPooling


class LayerAdapterMFA(SpeakerNetwork):
    """A small adapter for every layer; their outputs side by side, pooled by attention; a linear layer.

    (batch, layers, frames, hidden), optional lengths (batch,) in frames -> (batch, embedding_dim).
    "Enhancing Speaker Verification with w2v-BERT 2.0 and Knowledge Distillation guided Structured Pruning".
    An adapter is linear, LayerNorm, ReLU, linear, `channels` wide; the attention's hidden layer is as wide, with ReLU
    and BatchNorm, as the authors' code has it. 6.16M parameters.

    >>> LayerAdapterMFA(layers=4, hidden=32, channels=8).eval()(torch.randn(2, 4, 50, 32)).shape
    torch.Size([2, 256])
    """

    input_kind = "hidden"
    takes_lengths = True

    def __init__(self, layers: int = 25, hidden: int = 1024, embedding_dim: int = 256, channels: int = 128):
        super().__init__()
        self.embedding_dim = embedding_dim
        self.adapter_layers = nn.ModuleList(
            nn.Sequential(nn.Linear(hidden, channels), nn.LayerNorm(channels), nn.ReLU(), nn.Linear(channels, channels))
            for _ in range(layers)
        )
        self.pooling = AttentiveStatisticsPooling(
            layers * channels,
            channels,
            activation=nn.Sequential(nn.ReLU(), nn.BatchNorm1d(channels)),
            floor=1e-5,
        )
        self.bottleneck = nn.Linear(2 * layers * channels, embedding_dim)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        adapted = [adapter(states) for adapter, states in zip(self.adapter_layers, x.unbind(1), strict=True)]
        features = torch.cat(adapted, -1).transpose(1, 2)  # (batch, layers * channels, frames)
        return self.bottleneck(self.pooling(features, lengths))

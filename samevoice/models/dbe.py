"""DBE: a dual-branch extractor over filter banks and a self-supervised model (S. Peng et al., Interspeech 2024)."""

import torch
from torch import Tensor, nn

from samevoice.models.base import SpeakerNetwork
from samevoice.models.ecapa_tdnn import BOTTLENECK, ECAPATDNN
from samevoice.models.layer_pooling import LayerUsage, WeightedSum


class DBE(SpeakerNetwork):
    """Two ECAPA-TDNNs, one on filter banks and one on low and high layers, whose embeddings are added.

    states (batch, layers, frames, hidden), fbank (batch, fbank frames, mels), optional lengths (batch,) of both ->
    (batch, embedding_dim). "Fine-tune Pre-Trained Models with Multi-Level Feature Fusion for Speaker Verification".

    The layers of each half have a weighted sum of their own, so that the low ones cannot crowd out the high ones. The
    paper itself was not at hand; what the LAP paper says of it leaves the fusion open. Ours: a gate computed from both
    sums says, for every frame and hidden value, how much comes from which half (it is as narrow as ECAPA-TDNN's own
    squeeze-excitation), and adding the branches' embeddings amounts to one linear layer over the statistics of both.
    14.34M parameters on a BASE model; the LAP paper estimates 14.3M.

    >>> network = DBE(channels=64, mfa_channels=96).eval()
    >>> network(torch.randn(2, 13, 50, 768), torch.randn(2, 102, 80)).shape
    torch.Size([2, 192])
    """

    input_kind = "hidden"
    takes_lengths = True

    def __init__(
        self,
        layers: int = 13,
        hidden: int = 768,
        mels: int = 80,
        embedding_dim: int = 192,
        channels: int = 512,
        mfa_channels: int = 1536,
    ):
        super().__init__()
        self.embedding_dim = embedding_dim
        self.low_layers = (layers + 1) // 2
        self.low = WeightedSum(self.low_layers)
        self.high = WeightedSum(layers - self.low_layers)
        self.gate = nn.Sequential(nn.Linear(hidden, BOTTLENECK), nn.ReLU(), nn.Linear(BOTTLENECK, hidden), nn.Sigmoid())
        self.states_branch = ECAPATDNN(hidden, embedding_dim, channels, mfa_channels)
        self.fbank_branch = ECAPATDNN(mels, embedding_dim, channels, mfa_channels)

    def forward(
        self, states: Tensor, fbank: Tensor, lengths: Tensor | None = None, fbank_lengths: Tensor | None = None
    ) -> Tensor:
        low = self.low(states[:, : self.low_layers]).transpose(1, 2)  # (batch, frames, hidden)
        high = self.high(states[:, self.low_layers :]).transpose(1, 2)
        fused = torch.lerp(high, low, self.gate(low + high))
        return self.states_branch(fused, lengths) + self.fbank_branch(fbank, fbank_lengths)

    def layer_usage(self, states: Tensor) -> LayerUsage:
        """Static weights of the layers; those of each half add up to 1."""
        halves = [
            self.low.layer_usage(states[:, : self.low_layers]),
            self.high.layer_usage(states[:, self.low_layers :]),
        ]
        return LayerUsage(torch.cat([half.weights for half in halves], 2), None)

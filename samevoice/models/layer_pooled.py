"""Speaker heads over the hidden states of a self-supervised model: a layer pooling, then a network over the frames."""

from torch import Tensor, nn

from samevoice.models.base import SpeakerNetwork
from samevoice.models.layer_pooling import LayerAttentivePooling, LayerUsage, WeightedSum
from samevoice.models.pooling import AttentiveStatisticsPooling, StatisticsPooling


class LayerPooledNetwork(SpeakerNetwork):
    """Layer pooling, then a network over what it leaves of each frame (LAP paper, Figure 1 b and c).

    (batch, layers, frames, hidden), optional lengths (batch,) in frames -> (batch, embedding_dim).
    """

    input_kind = "hidden"
    takes_lengths = True

    def __init__(self, layer_aggregation: WeightedSum | LayerAttentivePooling, speaker_network: SpeakerNetwork):
        super().__init__()
        self.embedding_dim = speaker_network.embedding_dim
        self.layer_aggregation = layer_aggregation
        self.speaker_network = speaker_network

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        x = self.layer_aggregation(x)  # (batch, channels, frames)
        return self.speaker_network(x.transpose(1, 2), lengths)

    def layer_usage(self, x: Tensor) -> LayerUsage:
        """What the layer pooling takes from each layer of these states."""
        return self.layer_aggregation.layer_usage(x)


class ASTP(SpeakerNetwork):
    """Attentive statistics pooling and a linear layer, and no more: the LAP paper's backend (its section 2.3).

    (batch, frames, channels), optional lengths (batch,) -> (batch, embedding_dim). As the authors' code has it and the
    paper does not say: BatchNorm inside the attention, after the pooling and after the linear layer; the attention's
    hidden layer is half as wide as its input channels, and training leaves one frame in ten out of it.
    """

    takes_lengths = True

    def __init__(self, channels: int = 512, embedding_dim: int = 192):
        super().__init__()
        self.embedding_dim = embedding_dim
        bottleneck = channels // 2
        self.t_pool = AttentiveStatisticsPooling(
            channels,
            bottleneck,
            context=StatisticsPooling(),
            activation=nn.Sequential(nn.ReLU(), nn.BatchNorm1d(bottleneck)),
            floor=1e-4,
            dropout=0.1,
        )
        self.norm = nn.BatchNorm1d(2 * channels)
        self.emb_weight = nn.Linear(2 * channels, embedding_dim)
        self.emb_norm = nn.BatchNorm1d(embedding_dim)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        x = self.norm(self.t_pool(x.transpose(1, 2), lengths))  # (batch, 2 * channels)
        return self.emb_norm(self.emb_weight(x))

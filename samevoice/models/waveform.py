"""Whole systems on audio: a self-supervised front end and a speaker head, as in the LAP paper's Tables 1 and 2."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from samevoice.audio.fbank import FbankSettings
from samevoice.audio.fbank_torch import Fbank
from samevoice.models.base import SpeakerNetwork
from samevoice.models.dbe import DBE
from samevoice.models.layer_pooling import LayerUsage
from samevoice.models.pooling import frame_mean
from samevoice.models.registry import create
from samevoice.models.ssl import SSLFrontEnd, fbank_lengths


class WaveformSystem(SpeakerNetwork):
    """(batch, samples) at 16 kHz in [-1, 1], optional lengths (batch,) in samples -> (batch, embedding_dim).

    front_end: a preset of samevoice.models.ssl (random weights), or a hub id or local folder to load weights from.
    head: an architecture over hidden states. front_end_config: changes to a preset, in transformers' words.
    spec_augment: mask stretches of frames in training. embedding_dim, channels, heads: of the head, whose own
    defaults hold where None.

    `takes_lengths` is the front end's: base models take batches of equal length only.

    >>> import torch
    >>> tiny = {"hidden_size": 48, "num_attention_heads": 2, "num_hidden_layers": 3, "intermediate_size": 32}
    >>> WaveformSystem("wavlm_base", "lap_astp", tiny).eval()(torch.randn(2, 16000)).shape
    torch.Size([2, 192])
    """

    input_kind = "waveform"

    def __init__(
        self,
        front_end: str = "wavlm_base",
        head: str = "lap_astp",
        front_end_config: Mapping[str, Any] | None = None,
        spec_augment: bool = False,
        embedding_dim: int | None = None,
        channels: int | None = None,
        heads: int | None = None,
    ):
        super().__init__()
        self.front_end = SSLFrontEnd(front_end, front_end_config, spec_augment)
        words = {"embedding_dim": embedding_dim, "channels": channels, "heads": heads}
        words = {word: value for word, value in words.items() if value is not None}
        self.head: Any = self._create_head(head, layers=self.front_end.layers, hidden=self.front_end.hidden, **words)
        self.embedding_dim = self.head.embedding_dim
        self.takes_lengths = self.front_end.takes_lengths  # pyright: ignore[reportAttributeAccessIssue]

    def _create_head(self, head: str, **words: Any) -> SpeakerNetwork:
        return create(head, **words)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        states, lengths = self.front_end(x, lengths)  # (batch, layers, frames, hidden)
        return self.head(states, lengths)

    def layer_usage(self, x: Tensor) -> LayerUsage:
        """What the head takes from each layer of these recordings; they are to be of equal length."""
        states, _ = self.front_end(x)
        return self.head.layer_usage(states)


class DBESystem(WaveformSystem):
    """The dual-branch extractor: the same audio as hidden states and as 80 filter banks, minus their mean over time."""

    def __init__(
        self,
        front_end: str = "wavlm_base_plus",
        front_end_config: Mapping[str, Any] | None = None,
        spec_augment: bool = False,
        embedding_dim: int | None = None,
        channels: int | None = None,
    ):
        super().__init__(front_end, "dbe", front_end_config, spec_augment, embedding_dim, channels)
        self.fbank = Fbank(FbankSettings(mels=80, scale=32768.0, subtract_mean=False))

    def _create_head(self, head: str, **words: Any) -> SpeakerNetwork:
        return DBE(**words)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        states, state_lengths = self.front_end(x, lengths)
        fbank = self.fbank(x)  # (batch, frames, 80)
        frames = None if lengths is None else fbank_lengths(lengths)
        fbank = fbank - frame_mean(fbank.transpose(1, 2), frames)[:, None]
        return self.head(states, fbank, state_lengths, frames)

"""What every network of the registry promises to the code around it."""

from typing import Any, ClassVar, Literal

from torch import nn


class SpeakerNetwork(nn.Module):
    """A network that turns one recording's features into one embedding.

    `input_kind` says what `forward` takes:
      - "fbank": filter banks, (batch, frames, mels);
      - "hidden": hidden states of a self-supervised model, (batch, layers, frames, hidden);
      - "waveform": audio at 16 kHz in [-1, 1], (batch, samples).
    It returns embeddings, (batch, embedding_dim), not normalised to unit length.

    `takes_lengths` says whether `forward` accepts a second argument `lengths`, integers (batch,), the valid frames
    (or samples) of each row: a padded row then gets the embedding it would get alone. Networks without it are to be
    fed rows of equal length only.

    `create` adds the name it was made by and every configuration word, so that a card can make it again.
    """

    input_kind: ClassVar[Literal["fbank", "hidden", "waveform"]] = "fbank"
    takes_lengths: ClassVar[bool] = False
    embedding_dim: int
    architecture: str
    config: dict[str, Any]

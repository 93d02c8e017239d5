"""Self-supervised front ends (WavLM, HuBERT, wav2vec 2.0, w2v-BERT 2.0): audio in, every layer's hidden states out."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoConfig, AutoFeatureExtractor, AutoModel

from samevoice.audio.fbank import FbankSettings
from samevoice.audio.fbank_torch import Fbank
from samevoice.models.pooling import frame_mask

# Both with layer normalisation in the convolutional encoder, so that padding can be masked out of them
_LARGE = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
}
# The published architectures: name -> (transformers' model type, configuration, does its extractor normalise audio)
PRESETS: dict[str, tuple[str, dict[str, Any], bool]] = {
    "wavlm_base": ("wavlm", {}, False),
    "wavlm_base_plus": ("wavlm", {}, False),
    "wavlm_large": ("wavlm", _LARGE, True),
    "hubert_base": ("hubert", {}, True),
    "hubert_large": ("hubert", {**_LARGE, "conv_bias": True}, True),
    "wav2vec2_base": ("wav2vec2", {}, True),
    "wav2vec2_large": ("wav2vec2", {**_LARGE, "conv_bias": True}, True),
    "w2v_bert_2": ("wav2vec2-bert", {}, False),
}
# Its position bias goes into the attention's mask, with which the fused attention cannot be exported to ONNX
ATTENTION = {"wav2vec2-bert": "eager"}
LORA_TARGETS = {"wav2vec2-bert": ("linear_q", "linear_v")}  # the others: q_proj, v_proj


class SSLFrontEnd(nn.Module):
    """A self-supervised model whose hidden states, from before the first layer to after the last, are the features.

    (batch, samples) at 16 kHz in [-1, 1], optional lengths (batch,) in samples ->
    states (batch, layers, frames, hidden), and their lengths (batch,) in frames or None. The last state is what the
    model itself outputs (normalised, where it ends in a LayerNorm).

    source: a name of PRESETS (the published architecture with random weights), or a hub id or local folder whose
    weights are loaded. config: changes to a preset's configuration, in transformers' words.
    spec_augment: in training, mask stretches of frames as the configuration says; never at inference.
    LayerDrop is off: heads need the state of every layer.

    takes_lengths: whether padding can be masked out. It cannot where the first convolution is normalised over the whole
    recording, padding included (the base models): such models need batches of equal length.

    >>> front_end = SSLFrontEnd("wavlm_base", {"hidden_size": 48, "num_attention_heads": 2, "num_hidden_layers": 3})
    >>> states, _ = front_end.eval()(torch.randn(2, 16000))
    >>> states.shape
    torch.Size([2, 4, 49, 48])
    """

    def __init__(self, source: str, config: Mapping[str, Any] | None = None, spec_augment: bool = False):
        super().__init__()
        training = {"layerdrop": 0.0, "apply_spec_augment": spec_augment}
        if source in PRESETS:
            model_type, preset, self.normalize = PRESETS[source]
            self.config = AutoConfig.for_model(model_type, **{**preset, **(config or {}), **training})
            self.model = AutoModel.from_config(self.config, attn_implementation=ATTENTION.get(model_type))
        else:
            if config:
                raise ValueError(f"the configuration of {source!r} comes with its weights; only presets can be changed")
            self.config = AutoConfig.from_pretrained(source, **training)
            model_type = self.config.model_type
            if model_type not in {kind for kind, _, _ in PRESETS.values()}:
                raise ValueError(f"{source!r} is a {model_type} model, which is not one of those supported")
            attention = ATTENTION.get(model_type)
            self.model = AutoModel.from_pretrained(source, config=self.config, attn_implementation=attention)
            self.normalize = extractor_normalizes(source, self.config)
        if not spec_augment:
            self.model.masked_spec_embed = None  # nothing would ever train it
        self.layers = self.config.num_hidden_layers + 1
        self.hidden = self.config.hidden_size
        self.fbank = None
        if model_type == "wav2vec2-bert":
            self.fbank = Fbank(FbankSettings(mels=80, scale=32768.0, subtract_mean=False))
        for module in self.model.modules():
            if hasattr(module, "torch_multi_head_self_attention"):
                module.torch_multi_head_self_attention = _WavLMAttention(module)
        self._lora = ()
        self._checkpointing = False

    @property
    def takes_lengths(self) -> bool:
        return self.fbank is not None or self.config.feat_extract_norm == "layer"

    def forward(self, samples: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        if lengths is not None and not self.takes_lengths:
            raise ValueError("this model normalises over padding too: give it recordings of equal length, no lengths")
        if self.fbank is None:
            inputs = self._normalized(samples, lengths)
            mask = None if lengths is None else frame_mask(lengths, samples.shape[1]).long()
        else:
            inputs, frames = self._stacked_fbank(samples, lengths)
            mask = None if frames is None else frame_mask(frames, inputs.shape[1]).long()
        output = self.model(inputs, attention_mask=mask, output_hidden_states=True)
        states = torch.stack([*output.hidden_states[:-1], output.last_hidden_state], 1)
        return states, None if lengths is None else self.frame_lengths(lengths)

    def frame_lengths(self, lengths: Tensor) -> Tensor:
        """Frames that come out of so many samples."""
        if self.fbank is not None:
            return fbank_lengths(lengths) // 2
        for kernel, stride in zip(self.config.conv_kernel, self.config.conv_stride, strict=True):
            lengths = (lengths - kernel) // stride + 1
        return lengths

    def _normalized(self, samples: Tensor, lengths: Tensor | None) -> Tensor:
        """Zero mean and unit variance where the model's feature extractor asks for it; 0 beyond each row's length."""
        if not self.normalize:
            return samples
        return _standardize(samples[..., None], lengths, unbiased=False)[..., 0]

    def _stacked_fbank(self, samples: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """w2v-BERT's input: filter banks with every mel standardised over the recording, two frames side by side."""
        assert self.fbank is not None
        frames = None if lengths is None else fbank_lengths(lengths)
        features = _standardize(self.fbank(samples), frames, unbiased=True)  # (batch, frames, 80)
        # Strides, no reshape: that would have an export ask whether the number of frames is even
        features = torch.cat([features[:, :-1:2], features[:, 1::2]], -1)  # (batch, frames / 2, 160)
        return features, None if frames is None else frames // 2

    # What is trained

    def freeze(self) -> None:
        """Train nothing here; also in training mode, the model then runs as at inference."""
        self.model.requires_grad_(False)
        self.train(self.training)

    def unfreeze(self) -> None:
        self.model.requires_grad_(True)
        self._watch_convolutions(True)
        self.train(self.training)

    def freeze_convolutions(self) -> None:
        """Train the transformer but not the convolutional encoder below it."""
        if self.fbank is not None:
            raise ValueError("w2v-BERT 2.0 has no convolutional encoder; it starts from filter banks")
        self.unfreeze()
        self.model.feature_extractor.requires_grad_(False)
        self._watch_convolutions(False)

    def _watch_convolutions(self, trained: bool) -> None:
        if self.fbank is None:
            self.model.feature_extractor._requires_grad = trained  # transformers asks for its input's gradient by this

    def train(self, mode: bool = True) -> "SSLFrontEnd":
        super().train(mode)
        if not any(parameter.requires_grad for parameter in self.model.parameters()):
            self.model.eval()
        return self

    def gradient_checkpointing(self, on: bool = True) -> None:
        """Compute each layer twice rather than keep its activations for the backward pass."""
        if on:
            self.model.gradient_checkpointing_enable({"use_reentrant": False})
        elif self._checkpointing:
            self.model.gradient_checkpointing_disable()
        self._checkpointing = on

    def add_lora(self, rank: int, targets: Sequence[str] = (), alpha: int | None = None) -> None:
        """Train low-rank additions to some linear layers and nothing else (Hu et al., LoRA, ICLR 2022).

        targets: names of linear layers; by default the queries' and the values' in every layer. alpha: 2 * rank.
        """
        from peft import LoraConfig, LoraModel

        targets = list(targets) or list(LORA_TARGETS.get(self.config.model_type, ("q_proj", "v_proj")))
        lora = LoraConfig(r=rank, lora_alpha=2 * rank if alpha is None else alpha, target_modules=targets)
        self._lora = (LoraModel(self.model, lora, "default"),)  # changes self.model; in a tuple, not to be a submodule
        self._watch_convolutions(False)
        self.train(self.training)

    def merge_lora(self) -> None:
        """Add what was learnt to the weights themselves; the model is again as published. Frozen until `unfreeze`."""
        if not self._lora:
            raise ValueError("there is no LoRA to merge")
        self._lora[0].merge_and_unload()
        self._lora = ()
        self.freeze()


def fbank_lengths(lengths: Tensor) -> Tensor:
    """Frames of filter banks (25 ms every 10 ms) in so many samples."""
    return (lengths - 400) // 160 + 1


def _standardize(x: Tensor, lengths: Tensor | None, unbiased: bool) -> Tensor:
    """Zero mean, unit variance over time of every channel, (batch, time, channels); 0 beyond each row's length."""
    valid = None if lengths is None else frame_mask(lengths, x.shape[1])[..., None]
    count = x.shape[1] if lengths is None else lengths[:, None, None]
    kept = (lambda values: values) if valid is None else (lambda values: values * valid)
    mean = kept(x).sum(1, keepdim=True) / count
    deviation = kept(x - mean)
    variance = deviation.square().sum(1, keepdim=True) / (count - int(unbiased))
    return deviation / (variance + 1e-7).sqrt()


def extractor_normalizes(source: str, config) -> bool:
    """What the model's own feature extractor says; without one, as models with layer normalisation were trained."""
    if config.model_type == "wav2vec2-bert":
        return False
    try:
        return bool(AutoFeatureExtractor.from_pretrained(source).do_normalize)
    except OSError:
        return config.feat_extract_norm == "layer"


class _WavLMAttention:
    """WavLM's self-attention, calling its linear layers.

    transformers reads their weights instead, past anything wrapped around them: LoRA would silently learn nothing. This
    also never forms the averaged attention matrix, which nobody reads.
    """

    def __init__(self, attention: Any):
        self.attention = (attention,)

    def __call__(self, hidden: Tensor, mask: Tensor | None, position_bias: Tensor, *_) -> tuple[Tensor, None]:
        (attention,) = self.attention
        heads = (attention.num_heads, -1)
        projections = (attention.q_proj, attention.k_proj, attention.v_proj)
        query, key, value = (project(hidden).unflatten(-1, heads).transpose(1, 2) for project in projections)
        bias = position_bias.unflatten(0, (-1, attention.num_heads))  # (batch, heads, frames, frames)
        if mask is not None:
            bias = bias.masked_fill(~mask[:, None, None].bool(), torch.finfo(bias.dtype).min)
        dropout = attention.dropout if attention.training else 0.0
        y = F.scaled_dot_product_attention(query, key, value, attn_mask=bias, dropout_p=dropout)
        y = torch.cat(y.unbind(1), -1)  # (batch, frames, hidden); not a view of y, whose strides differ when exported
        return attention.out_proj(y), None

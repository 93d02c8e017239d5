"""Every architecture by name: `names()` lists them, `create(name, **overrides)` builds one."""

import importlib
import inspect
from typing import TYPE_CHECKING, Any

from samevoice.nearest import nearest

if TYPE_CHECKING:
    from samevoice.models.base import SpeakerNetwork


def _system(front_end: str, head: str, **words: Any) -> tuple[str, str, dict[str, Any]]:
    return "waveform", "WaveformSystem", {"front_end": front_end, "head": head, **words}


# name -> (module under samevoice.models, class, configuration)
ARCHITECTURES: dict[str, tuple[str, str, dict[str, Any]]] = {
    # The Res2Net family: `res2net` + local fusion + global fusion = `eres2net` (ERes2Net paper, Table 3)
    "res2net": ("res2net", "Res2Net", {}),
    "res2net_lff": ("eres2net", "ERes2Net", {"global_fusion": False}),
    "res2net_gff": ("eres2net", "ERes2Net", {"local_fusion": False}),
    "eres2net": ("eres2net", "ERes2Net", {}),
    "eres2netv2": ("eres2netv2", "ERes2NetV2", {}),
    "res2net_mwa": ("res2net_mwa", "Res2NetMWA", {}),
    "res2net_26w8s": ("res2net26w8s", "Res2Net26w8s", {}),
    # Densely connected time-delay networks
    "campplus": ("campplus", "CAMPlusPlus", {}),
    "d_tdnn": ("d_tdnn", "DTDNN", {}),
    # Time-delay networks
    "xvector": ("xvector", "XVector", {}),
    "ecapa_tdnn": ("ecapa_tdnn", "ECAPATDNN", {}),
    "ecapa_tdnn_c1024": ("ecapa_tdnn", "ECAPATDNN", {"channels": 1024}),
    # NeXt-TDNN and NeXt-TDNN-l at the sizes of the paper's Table 2, C=256 and B=3 first
    "nexttdnn": ("nexttdnn", "NeXtTDNN", {}),
    "nexttdnn_c384_b1": ("nexttdnn", "NeXtTDNN", {"channels": 384, "depth": 1}),
    "nexttdnn_c192_b1": ("nexttdnn", "NeXtTDNN", {"channels": 192, "depth": 1}),
    "nexttdnn_c128_b3": ("nexttdnn", "NeXtTDNN", {"channels": 128}),
    "nexttdnn_light": ("nexttdnn", "NeXtTDNNLight", {}),
    "nexttdnn_light_c384_b1": ("nexttdnn", "NeXtTDNNLight", {"channels": 384, "depth": 1}),
    "nexttdnn_light_c192_b1": ("nexttdnn", "NeXtTDNNLight", {"channels": 192, "depth": 1}),
    "nexttdnn_light_c128_b3": ("nexttdnn", "NeXtTDNNLight", {"channels": 128}),
    # Residual networks on filter banks
    "resnet34": ("resnet", "ResNet", {}),
    "resnet152": ("resnet", "BottleneckResNet", {"blocks": (3, 8, 36, 3)}),
    "resnet221": ("resnet", "BottleneckResNet", {"blocks": (6, 16, 48, 3)}),
    "resnet293": ("resnet", "BottleneckResNet", {"blocks": (10, 20, 64, 3)}),
    "resnet34_fpm": ("resnet34_fpm", "ResNet34FPM", {}),
    "resnet34_skdfe": ("resnet34_skdfe", "ResNet34SKDFE", {}),
    "dfresnet56": ("dfresnet", "DFResNet56", {}),
    "gemini_dfresnet60": ("dfresnet", "GeminiDFResNet", {}),
    "gemini_dfresnet114": ("dfresnet", "GeminiDFResNet", {"blocks": (3, 3, 27, 3)}),
    "simam_resnet34": ("simam_resnet", "SimAMResNet", {}),
    "simam_resnet100": ("simam_resnet", "SimAMResNet", {"blocks": (6, 16, 24, 3)}),
    # Image and sequence networks in turn, smallest to largest
    "redimnet_b0": ("redimnet", "ReDimNet", {"size": "b0", "mels": 60}),
    "redimnet_b1": ("redimnet", "ReDimNet", {"size": "b1"}),
    "redimnet_b2": ("redimnet", "ReDimNet", {"size": "b2"}),
    "redimnet_b3": ("redimnet", "ReDimNet", {"size": "b3"}),
    "redimnet_b4": ("redimnet", "ReDimNet", {"size": "b4"}),
    "redimnet_b5": ("redimnet", "ReDimNet", {"size": "b5"}),
    "redimnet_b6": ("redimnet", "ReDimNet", {"size": "b6"}),
    "redimnet2_b0": ("redimnet", "ReDimNet2", {"size": "b0"}),
    "redimnet2_b1": ("redimnet", "ReDimNet2", {"size": "b1"}),
    "redimnet2_b2": ("redimnet", "ReDimNet2", {"size": "b2"}),
    "redimnet2_b3": ("redimnet", "ReDimNet2", {"size": "b3"}),
    "redimnet2_b4": ("redimnet", "ReDimNet2", {"size": "b4"}),
    "redimnet2_b5": ("redimnet", "ReDimNet2", {"size": "b5"}),
    "redimnet2_b6": ("redimnet", "ReDimNet2", {"size": "b6"}),
    # Heads over the hidden states of a self-supervised model
    "lap_astp": ("lap", "LAPASTP", {}),
    "lap_softmax_sum_astp": ("lap", "LAPASTP", {"pooling": "softmax-sum"}),
    "superb_astp": ("superb", "SUPERBASTP", {}),
    "superb_xvector": ("superb", "SUPERBXVector", {}),
    "superb_ecapa_tdnn": ("superb", "SUPERBECAPATDNN", {}),
    "superb_mhfa": ("mhfa", "MHFA", {}),
    "layer_adapter_mfa": ("w2v_bert", "LayerAdapterMFA", {}),
    # Whole systems on audio: the LAP paper's Table 1
    "wavlm_base_xvector": _system("wavlm_base", "superb_xvector"),
    "wavlm_base_ecapa_tdnn": _system("wavlm_base", "superb_ecapa_tdnn"),
    "wavlm_base_mhfa": _system("wavlm_base", "superb_mhfa", heads=8),
    "wavlm_base_lap_astp": _system("wavlm_base", "lap_astp"),
    "wavlm_base_plus_xvector": _system("wavlm_base_plus", "superb_xvector"),
    "wavlm_base_plus_ecapa_tdnn": _system("wavlm_base_plus", "superb_ecapa_tdnn"),
    "wavlm_base_plus_mhfa": _system("wavlm_base_plus", "superb_mhfa"),
    "wavlm_base_plus_dbe": ("waveform", "DBESystem", {}),
    "wavlm_base_plus_lap_astp": _system("wavlm_base_plus", "lap_astp"),
    "wavlm_large_xvector": _system("wavlm_large", "superb_xvector"),
    "wavlm_large_ecapa_tdnn": _system("wavlm_large", "superb_ecapa_tdnn"),
    "wavlm_large_mhfa": _system("wavlm_large", "superb_mhfa"),
    "wavlm_large_lap_astp": _system("wavlm_large", "lap_astp", heads=16),
    # Its Table 2: the layer poolings before ASTP
    "wav2vec2_base_superb_astp": _system("wav2vec2_base", "superb_astp"),
    "wav2vec2_base_lap_softmax_sum_astp": _system("wav2vec2_base", "lap_softmax_sum_astp"),
    "wav2vec2_base_lap_astp": _system("wav2vec2_base", "lap_astp"),
    "hubert_base_superb_astp": _system("hubert_base", "superb_astp"),
    "hubert_base_lap_softmax_sum_astp": _system("hubert_base", "lap_softmax_sum_astp"),
    "hubert_base_lap_astp": _system("hubert_base", "lap_astp"),
    "wavlm_base_superb_astp": _system("wavlm_base", "superb_astp"),
    "wavlm_base_lap_softmax_sum_astp": _system("wavlm_base", "lap_softmax_sum_astp"),
    "wavlm_base_plus_superb_astp": _system("wavlm_base_plus", "superb_astp"),
    "wavlm_base_plus_lap_softmax_sum_astp": _system("wavlm_base_plus", "lap_softmax_sum_astp"),
    "wavlm_large_superb_astp": _system("wavlm_large", "superb_astp"),
    "wavlm_large_lap_softmax_sum_astp": _system("wavlm_large", "lap_softmax_sum_astp", heads=16),
    # Layer adapters on w2v-BERT 2.0
    "w2v_bert_2_layer_adapter_mfa": _system("w2v_bert_2", "layer_adapter_mfa"),
}


def names() -> list[str]:
    """The names that `create` knows, sorted."""
    return sorted(ARCHITECTURES)


def create(name: str, **overrides: Any) -> "SpeakerNetwork":
    """A network of this architecture with fresh random weights, in training mode.

    `overrides` are the class's own configuration words, for example `embedding_dim=512`; `words(name)` lists them.
    Raises ValueError for an unknown name or word, naming the nearest valid ones.
    """
    configuration = words(name)
    for word in overrides:
        if word not in configuration:
            raise ValueError(f"{name} has no setting {word!r}{nearest(word, list(configuration))}")
    configuration.update(overrides)
    network = _network_class(name)(**configuration)
    network.architecture, network.config = name, configuration
    return network


def words(name: str) -> dict[str, Any]:
    """The configuration words of an architecture and the values that `create(name)` gives them.

    They are the constructor's parameters up to a `*`; those after it hold code, for subclasses.
    """
    if name not in ARCHITECTURES:
        raise ValueError(f"unknown architecture {name!r}{nearest(name, names())}")
    parameters = inspect.signature(_network_class(name)).parameters.values()
    defaults = {
        parameter.name: parameter.default for parameter in parameters if parameter.kind is not parameter.KEYWORD_ONLY
    }
    return {**defaults, **ARCHITECTURES[name][2]}


def _network_class(name: str) -> "type[SpeakerNetwork]":
    module, class_name, _ = ARCHITECTURES[name]
    return getattr(importlib.import_module(f"samevoice.models.{module}"), class_name)

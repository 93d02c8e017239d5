"""The LAP authors' code (github.com/sadPororo/LAP): their speaker models, without the front end below them."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from samevoice.hub.conventions import Convention
from samevoice.hub.conventions.wespeaker import ECAPA

ASTP = (
    (r"\.t_pool\.norm\.", ".norm."),
    (r"\.t_pool\.attention\.0\.", ".t_pool.linear1."),
    (r"\.t_pool\.attention\.2\.", ".t_pool.activation.1."),
    (r"\.t_pool\.attention\.3\.", ".t_pool.linear2."),
)
LAYERS = ("layer_aggregation.layer_weights", 0)


def sizes(**words: tuple[str, int]):
    """A `configure` that reads each word off a parameter: (its name, the axis). Absent parameters tell nothing."""

    def configure(state: Mapping[str, Any]) -> dict[str, Any]:
        return {word: state[name].shape[axis] for word, (name, axis) in words.items() if name in state}

    return configure


class LAPConvention(Convention):
    """Their LAP with a single head leaves W_in out; ours has it, so it gets the identity."""

    def rename(self, state: Mapping[str, Any]) -> dict[str, Any]:
        renamed = super().rename(state)
        if len(renamed.get("layer_aggregation.sq_weight", ())) == 1:
            hidden = len(renamed["layer_aggregation.in_norm.weight"])
            renamed.setdefault("layer_aggregation.in_weight.weight", np.eye(hidden, dtype=np.float32))
            renamed.setdefault("layer_aggregation.in_weight.bias", np.zeros(hidden, np.float32))
        return renamed


CONVENTIONS: dict[str, Convention] = {
    "lap_astp": LAPConvention(
        renames=ASTP,
        configure=sizes(
            heads=("layer_aggregation.sq_weight", 0),
            layers=("layer_aggregation.sq_weight", 1),
            hidden=("layer_aggregation.in_norm.weight", 0),
            channels=("layer_aggregation.out_weight.weight", 0),
            embedding_dim=("speaker_network.emb_weight.weight", 0),
        ),
        flatten=("layer_aggregation.in_weight.weight", "layer_aggregation.out_weight.weight"),
    ),
    "superb_astp": Convention(
        renames=ASTP,
        configure=sizes(
            layers=LAYERS,
            hidden=("speaker_network.t_pool.attention.3.weight", 0),
            embedding_dim=("speaker_network.emb_weight.weight", 0),
        ),
    ),
    "superb_xvector": Convention(
        renames=(
            *((rf"\.layers\.{3 * i}\.", f".frame.{i}.conv.") for i in range(5)),
            *((rf"\.layers\.{3 * i + 2}\.", f".frame.{i}.bn.") for i in range(5)),
            (r"\.linear([12])\.", r".seg_\1."),
        ),
        configure=sizes(
            layers=LAYERS,
            hidden=("speaker_network.layers.0.weight", 1),
            channels=("speaker_network.layers.0.weight", 0),
            stats_channels=("speaker_network.layers.12.weight", 0),
            embedding_dim=("speaker_network.linear1.weight", 0),
        ),
    ),
    "superb_ecapa_tdnn": Convention(
        renames=ECAPA.renames,
        configure=sizes(
            layers=LAYERS,
            hidden=("speaker_network.layer1.conv.weight", 1),
            channels=("speaker_network.layer1.conv.weight", 0),
            mfa_channels=("speaker_network.conv.weight", 0),
            embedding_dim=("speaker_network.linear.weight", 0),
        ),
    ),
    "superb_mhfa": Convention(
        renames=((r"^l_pool_k\.", "layer_pooling.key."), (r"^l_pool_v\.", "layer_pooling.value.")),
        configure=sizes(
            layers=("l_pool_k.layer_weights", 0),
            hidden=("cmp_linear_k.weight", 1),
            channels=("cmp_linear_k.weight", 0),
            heads=("att_head.weight", 0),
            embedding_dim=("pooling_fc.weight", 0),
        ),
    ),
}

"""3D-Speaker (github.com/modelscope/3D-Speaker): our names are its names, so only shapes are read here."""

from collections.abc import Mapping
from typing import Any

from samevoice.hub.conventions import Convention, widths
from samevoice.hub.conventions.wespeaker import time_delay_words


def res2net_words(state: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration words of the Res2Net family that the shapes tell; KeyError when a parameter is absent."""
    channels = state["conv1.weight"].shape[0]
    group = state["layer4.0.convs.0.weight"].shape[0]  # floor(8 * channels * base_width / 64)
    return {
        "channels": channels,
        "embedding_dim": state["seg_1.weight"].shape[0],
        "base_width": -(-8 * group // channels),
        "scale": state["layer4.0.conv1.weight"].shape[0] // group,
        "expansion": state["layer4.0.conv3.weight"].shape[0] // (8 * channels),
    }


RES2NET = Convention(configure=res2net_words)

# SpeechBrain's own names too.
ECAPA = Convention(
    renames=(
        (r"\.conv\.conv\.", ".conv."),
        (r"\.norm\.norm\.", ".bn."),
        *((rf"^blocks\.{i}\.", f"layer{i + 1}.") for i in range(4)),
        (r"\.tdnn(\d)\.", r".conv\1."),
        (r"\.res2net_block\.blocks\.(\d)\.(conv|bn)\.", r".res2.\2s.\1."),
        (r"\.se_block\.conv(\d)\.conv\.", r".se.linear\1."),
        (r"^mfa\.conv\.", "conv."),
        (r"^mfa\.bn\.", "conv_bn."),
        (r"^asp\.tdnn\.conv\.", "pool.linear1."),
        (r"^asp\.tdnn\.bn\.", "pool.activation.1."),
        (r"^asp\.conv\.", "pool.linear2."),
        (r"^asp_bn\.norm\.", "bn."),
        (r"^fc\.conv\.", "linear."),
    ),
    config={"details": "speechbrain"},
    configure=time_delay_words(
        "blocks.0.conv.conv.weight",
        "asp.tdnn.conv.conv.weight",
        channels="blocks.0.conv.conv.weight",
        mfa_channels="mfa.conv.conv.weight",
        embedding_dim="fc.conv.weight",
    ),
    flatten=("linear.weight", *(f"layer{i}.se.linear{j}.weight" for i in (2, 3, 4) for j in (1, 2))),
)

CONVENTIONS: dict[str, Convention] = {
    "res2net": RES2NET,
    "eres2net": RES2NET,  # ERes2Net_huge too
    "eres2netv2": RES2NET,
    "resnet34": Convention(
        config={"pooling_eps": 1e-8}, configure=widths(channels="conv1.weight", embedding_dim="seg_1.weight")
    ),
    "campplus": Convention(
        flatten=("xvector.dense.linear.weight",),
        configure=widths(channels="xvector.tdnn.linear.weight", embedding_dim="xvector.dense.linear.weight"),
    ),
    "ecapa_tdnn": ECAPA,
}

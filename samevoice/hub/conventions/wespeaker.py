"""WeSpeaker (github.com/wenet-e2e/wespeaker). Its statistics pooling adds 1e-7 to the variance."""

from collections.abc import Callable, Mapping
from typing import Any

from samevoice.hub.conventions import Convention, widths

EPS = {"pooling_eps": 1e-7}
TWO_DIMENSIONAL = widths(channels="conv1.weight", embedding_dim="seg_1.weight")
RESNET = Convention(config=EPS, configure=TWO_DIMENSIONAL)
DFRESNET = Convention(
    config=EPS, configure=widths(channels="downsample_layers.0.0.weight", embedding_dim="seg_1.weight")
)
SIMAM = Convention(
    renames=(
        (r"^front\.", ""),
        (r"\.downsample\.", ".shortcut."),
        (r"^pooling\.attention\.0\.", "pool.linear1."),
        (r"^pooling\.attention\.2\.", "pool.activation.1."),
        (r"^pooling\.attention\.3\.", "pool.linear2."),
        (r"^bottleneck\.", "seg_1."),
    ),
    configure=widths(channels="front.conv1.weight", embedding_dim="bottleneck.weight"),
)


def time_delay_words(
    first: str, attention: str = "", **parameters: str
) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """`widths` for a network of 1-D convolutions: `mels` too, from the second axis of its first convolution.

    attention: the first layer of an attentive pooling, three times as wide where it sees the global context.
    """
    rows = widths(**parameters)

    def configure(state: Mapping[str, Any]) -> dict[str, Any]:
        words = rows(state)
        if first in state:
            words["mels"] = state[first].shape[1]
        if attention in state:
            words["global_context"] = state[attention].shape[1] == 3 * words.get("mfa_channels", 0)
        return words

    return configure


ECAPA = Convention(
    renames=(
        (r"\.se_res2block\.0\.", ".conv1."),
        (r"\.se_res2block\.1\.", ".res2."),
        (r"\.se_res2block\.2\.", ".conv2."),
        (r"\.se_res2block\.3\.", ".se."),
    ),
    configure=time_delay_words(
        "layer1.conv.weight",
        "pool.linear1.weight",
        channels="layer1.conv.weight",
        mfa_channels="conv.weight",
        embedding_dim="linear.weight",
    ),
)
XVECTOR = Convention(
    renames=(
        *((rf"^frame_{i + 1}\.", f"frame.{i}.") for i in range(5)),
        (r"\.conv_1d\.", ".conv."),
    ),
    configure=time_delay_words(
        "frame_1.conv_1d.weight",
        channels="frame_1.conv_1d.weight",
        stats_channels="frame_5.conv_1d.weight",
        embedding_dim="seg_1.weight",
    ),
)

CONVENTIONS: dict[str, Convention] = {
    "resnet34": RESNET,
    "resnet152": RESNET,
    "resnet221": RESNET,
    "resnet293": RESNET,
    "res2net": RESNET,
    "eres2net": Convention(
        # The first convolution of a fusing block is kept apart from the list of the others.
        renames=(
            (r"^(layer[34]\.\d+\.(?:convs|bns))\.0\.", r"\1.1."),
            (r"^(layer[34]\.\d+)\.(conv|bn)2_1\.", r"\1.\2s.0."),
        ),
        config=EPS,
        configure=TWO_DIMENSIONAL,
    ),
    "campplus": Convention(
        flatten=("xvector.dense.linear.weight",),
        config=EPS,
        configure=widths(channels="xvector.tdnn.linear.weight", embedding_dim="xvector.dense.linear.weight"),
    ),
    "gemini_dfresnet60": DFRESNET,
    "gemini_dfresnet114": DFRESNET,
    "simam_resnet34": SIMAM,
    "simam_resnet100": SIMAM,
    "ecapa_tdnn": ECAPA,
    "xvector": XVECTOR,
}

"""NeXt-TDNN's own code (github.com/dmlguq456/NeXt_TDNN_ASV): `model` up to the frames, `aggregation` after them."""

from collections.abc import Mapping
from typing import Any

from samevoice.hub.conventions import Convention

RENAMES = (
    (r"^model\.stem\.0\.0\.", "stem."),
    (r"^model\.stem\.0\.1\.", "stem_norm."),
    (r"^model\.stages\.", "stages."),
    (r"^model\.MFA\.0\.", "mfa."),
    (r"^model\.MFA\.1\.", "mfa_norm."),
    (r"^aggregation\.conv_1\.", "pool.linear1."),
    (r"^aggregation\.bn1\.", "pool.activation.0."),
    (r"^aggregation\.conv_2\.", "pool.linear2."),
    (r"^aggregation\.", ""),  # bn2, fc, bn3
)


def words(state: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration words that the shapes tell, kernels apart."""
    told: dict[str, Any] = {}
    stem, last = state.get("model.stem.0.0.weight"), state.get("aggregation.fc.weight")
    if stem is not None:
        told["channels"], told["mels"] = stem.shape[:2]
    if last is not None:
        told["embedding_dim"] = last.shape[0]
    blocks = {name.split(".")[3] for name in state if name.startswith("model.stages.0.")}
    return {**told, "depth": len(blocks)} if blocks else told


def full_words(state: Mapping[str, Any]) -> dict[str, Any]:
    first = "model.stages.0.0.mscconv."
    sizes = {int(name.split(".")[5]): value.shape[-1] for name, value in state.items() if _is_weight(name, first)}
    return {**words(state), "kernels": tuple(sizes[i] for i in sorted(sizes))} if sizes else words(state)


def light_words(state: Mapping[str, Any]) -> dict[str, Any]:
    first = state.get("model.stages.0.0.dwconv.weight")
    return words(state) if first is None else {**words(state), "kernel": first.shape[-1]}


def _is_weight(name: str, prefix: str) -> bool:
    return name.startswith(prefix) and name.endswith(".weight")


FULL = Convention(renames=RENAMES, configure=full_words, flatten=("mfa.weight",))
LIGHT = Convention(renames=RENAMES, configure=light_words, flatten=("mfa.weight",))
SIZES = ("", "_c384_b1", "_c192_b1", "_c128_b3")

CONVENTIONS: dict[str, Convention] = {
    **{f"nexttdnn{size}": FULL for size in SIZES},
    **{f"nexttdnn_light{size}": LIGHT for size in SIZES},
}

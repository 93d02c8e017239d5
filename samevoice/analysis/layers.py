"""Which layers of its front end a model uses, frame by frame: the LAP paper's Figure 3. Needs torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from samevoice.analysis.picture import Drawing
from samevoice.analysis.textgrid import Interval, Tier
from samevoice.audio import RATE

MAX_SECONDS = 60.0  # attention's memory grows with the square of it, and a picture of more shows nothing
PLOT, ROW, LEFT, TOP, MARGINAL = 900, 12, 52, 46, 90  # pixels


@dataclass(frozen=True)
class Usage:
    """How much of every frame comes from every layer, and from when the frames are.

    shares: float32 (layers, frames); every frame's add up to 1. Layer 0 is the state below the first layer.
    label: what is shown, in words. first, hop: the first frame's begin and the time between frames, in seconds.
    """

    label: str
    shares: np.ndarray
    first: float
    hop: float

    @property
    def dynamic(self) -> bool:
        """Do the shares change from frame to frame?"""
        return bool((self.shares != self.shares[:, :1]).any())

    @property
    def mean(self) -> np.ndarray:
        """(layers,) over the whole recording."""
        return self.shares.mean(1)

    @property
    def variation(self) -> float:
        """How far a frame's shares are from the mean ones, 0 (static) to 1 (total variation, over all frames)."""
        return float(np.abs(self.shares - self.mean[:, None]).sum(0).mean() / 2)

    def level(self, start: float, end: float) -> float | None:
        """The mean layer that is used between two times (frames whose middle lies there); None where no frame is."""
        middles = self.first + self.hop * (np.arange(self.shares.shape[1]) + 0.5)
        inside = (middles >= start) & (middles < end)
        if not inside.any():
            return None
        return float(np.arange(len(self.shares)) @ self.shares[:, inside].mean(1))


def load(model: str) -> Any:
    """A folder's trained network, or a registry name's with random weights; in evaluation mode.

    Raises HubError or ValueError for neither, ValueError for a model that does not weigh layers.
    """
    from samevoice.hub import HubError
    from samevoice.hub.convert import load_network
    from samevoice.models import create, names

    if Path(model).expanduser().is_dir():
        network = load_network(Path(model).expanduser())
    elif model in names():
        network = create(model).eval()
    else:
        raise HubError(f"{model}: is neither a model's folder nor one of samevoice.models.names()")
    if network.input_kind == "hidden":
        raise ValueError(f"{model} is a head without its front end; name a whole system, such as {_system_with(model)}")
    if not hasattr(network, "layer_usage") or not hasattr(network.head, "layer_usage"):  # pyright: ignore
        raise ValueError(f"{model} doesn't weigh the layers of a self-supervised model")
    return network


def usages(network: Any, samples: np.ndarray, name: str) -> list[Usage]:
    """What a WaveformSystem takes from each layer of this recording (samples,) at 16 kHz.

    Where values compete (LAP, sigmoid-max), one Usage with the share of them that each layer won; otherwise the
    weights: one Usage for a static sum, two for MHFA's keys and values, the mean over the heads of LAP's softmax-sum.
    Raises ValueError for a recording too short for a frame, or longer than a minute.
    """
    import torch

    from samevoice.models.layer_pooling import KeyValueSum

    front_end = network.front_end
    frames = int(front_end.frame_lengths(torch.tensor(len(samples))))
    if frames < 1:
        raise ValueError("the recording is too short: the front end makes no frame of it")
    if len(samples) > MAX_SECONDS * RATE:
        raise ValueError(f"{len(samples) / RATE:.0f} s are too long for one picture; take up to {MAX_SECONDS:.0f} s")
    with torch.inference_mode():
        weights, winners = network.layer_usage(torch.from_numpy(samples)[None])
    first, hop = _timing(front_end)
    if winners is not None:
        won = torch.nn.functional.one_hot(winners[0], weights.shape[2]).float().mean(0).T  # (layers, frames)
        found = {f"{name}: share of latent values won": won}
    elif isinstance(getattr(network.head, "layer_pooling", None), KeyValueSum):
        found = {f"{name}: weights of the {part}": w for part, w in zip(("keys", "values"), weights[0], strict=True)}
    else:
        found = {f"{name}: weights": weights[0].mean(0)}
    return [Usage(label, (w / w.sum(0)).numpy(), first, hop) for label, w in found.items()]


def equal_weights(like: Usage) -> Usage:
    """The static sum of SUPERB as training finds it: every layer the same."""
    layers = len(like.shares)
    return Usage("SUPERB before training: weights", np.full_like(like.shares, 1 / layers), like.first, like.hop)


def levels_by_label(usage: Usage, tier: Tier) -> list[dict[str, Any]]:
    """For every label of a tier, the mean layer used while it lasts, highest first: label, count, seconds, layer.

    The paper's observation, as numbers: obstruents reach for the top layers.
    """
    by_label: dict[str, list[tuple[float, float]]] = {}
    for interval in tier.intervals:
        level = usage.level(interval.start, interval.end)
        if interval.text.strip() and level is not None:
            by_label.setdefault(interval.text, []).append((interval.end - interval.start, level))
    rows = []
    for label, found in by_label.items():
        seconds, levels = np.array(found).T
        rows.append(
            {
                "label": label,
                "count": len(found),
                "seconds": round(float(seconds.sum()), 3),
                "layer": round(float(seconds @ levels / seconds.sum()), 3),
            }
        )
    return sorted(rows, key=lambda row: -row["layer"])


def draw(panels: list[Usage], seconds: float, tiers: list[Tier], title: str) -> str:
    """Figure 3 as SVG: one panel under the other, layers upwards and time to the right; words and phones below.

    One scale of colour for all panels. To the right of each, every layer's share of the whole recording.
    """
    strongest = max(float(panel.shares.max()) for panel in panels)
    heights = [ROW * len(panel.shares) for panel in panels]
    height = TOP + sum(h + 42 for h in heights) + 20 * len(tiers) + 24
    page = Drawing(LEFT + PLOT + MARGINAL + 30, height, title)
    page.heading(LEFT, 20, f"{title} (full colour: {strongest:.1%} of a frame)")
    scale = PLOT / seconds
    y = TOP
    for panel, panel_height in zip(panels, heights, strict=True):
        _panel(page, panel, y, panel_height, scale, strongest)
        y += panel_height + 42
    y -= 26
    for tier in tiers:
        page.text(LEFT - 6, y + 13, tier.name.rsplit(" ", 1)[-1], anchor="end")
        for interval in tier.intervals:
            if interval.start < seconds:
                _label(page, interval, y, scale, seconds)
        y += 20
    _time_axis(page, y, seconds, scale)
    return page.svg()


def _panel(page: Drawing, panel: Usage, y: float, height: float, scale: float, strongest: float) -> None:
    layers, frames = panel.shares.shape
    page.text(LEFT, y - 6, panel.label)
    x, width = LEFT + panel.first * scale, panel.hop * frames * scale
    page.matrix(x, y, width, height, panel.shares[::-1] / strongest)
    page.line(LEFT, y + height, LEFT + PLOT, y + height)
    right = LEFT + PLOT + 12
    page.text(right, y - 6, "whole recording")
    step = 1 if layers <= 13 else 4
    for layer, share in enumerate(panel.mean):
        top = y + height - ROW * (layer + 1)
        if layer % step == 0:
            page.text(LEFT - 6, top + ROW - 2, str(layer), anchor="end")
        page.bar(right, top + 1, MARGINAL * float(share / panel.mean.max()), ROW - 2)
    page.text(LEFT - 6, y - 6, "layer", anchor="end")


def _label(page: Drawing, interval: Interval, y: float, scale: float, seconds: float) -> None:
    start, end = LEFT + interval.start * scale, LEFT + min(interval.end, seconds) * scale
    page.line(start, y, start, y + 18)
    page.line(end, y, end, y + 18)
    room = int((end - start) / 5.5)  # characters
    if interval.text and room:
        shown = interval.text if len(interval.text) <= room + 1 else interval.text[: max(1, room - 1)] + "…"
        page.text((start + end) / 2, y + 13, shown, anchor="middle", tip=interval.text)


def _time_axis(page: Drawing, y: float, seconds: float, scale: float) -> None:
    step = next(step for step in (0.1, 0.2, 0.5, 1, 2, 5, 10) if seconds / step <= 12)
    for tick in np.arange(0, seconds + 1e-9, step):
        page.line(LEFT + tick * scale, y, LEFT + tick * scale, y + 4)
        page.text(LEFT + tick * scale, y + 16, f"{tick:g}", anchor="middle")
    page.text(LEFT + PLOT + 12, y + 16, "seconds")


def _timing(front_end: Any) -> tuple[float, float]:
    """A frame stands for the hop around the middle of the samples that it is computed from."""
    if front_end.fbank is not None:  # two filter-bank frames of 25 ms every 10 ms
        field, hop = 560, 320
    else:
        field, hop = 1, 1
        for kernel, stride in zip(front_end.config.conv_kernel, front_end.config.conv_stride, strict=True):
            field, hop = field + (kernel - 1) * hop, hop * stride
    return (field - hop) / 2 / RATE, hop / RATE


def _system_with(head: str) -> str:
    from samevoice.models.registry import ARCHITECTURES

    systems = [name for name, (_, _, words) in ARCHITECTURES.items() if words.get("head") == head]
    return next((name for name in systems if "plus" in name), (systems or ["wavlm_base_plus_lap_astp"])[0])

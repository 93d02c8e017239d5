"""What the network hears, for people: a few augmented examples to listen to and to look at."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from samevoice.audio import RATE
from samevoice.audio.fbank import FbankSettings
from samevoice.data.augment.plan import Plan
from samevoice.data.augment.settings import Augmentation, from_mapping


class RecipeError(ValueError):
    """A recipe can't be read; the message says where and why."""


@dataclass(frozen=True)
class Example:
    """One file of a preview. text: what was done to it, in words."""

    path: Path
    utterance: str
    text: str


def preview(
    recipe: Path,
    out: Path,
    manifest: Path | None = None,
    banks: Path | None = None,
    count: int = 10,
    seconds: float | None = None,
    seed: int = 0,
) -> list[Example]:
    """Write `count` examples as wav and one picture of their filter banks, examples.png, to the folder `out`.

    recipe: a YAML file with a block `augmentation` and, where the arguments don't say, `data` with manifest, banks
    (paths relative to the recipe) and seconds. Without a manifest the package's sample recordings are heard.
    Raises RecipeError, ManifestError or BankError.
    """
    from samevoice.audio.fbank_torch import Fbank
    from samevoice.data.augment.examples import masked
    from samevoice.data.banks import Banks
    from samevoice.data.loader import Files, Loader
    from samevoice.data.sampling import ShuffledBatches

    settings, data = read_recipe(recipe)
    table = _table(manifest or data.get("manifest"))
    folder = banks or data.get("banks")
    loader = Loader(
        Files(table),
        ShuffledBatches(table, min(count, len(table)), seed),
        float(seconds or data.get("seconds", 3.0)),
        settings,
        Banks(folder) if folder else None,
    )
    front_end, made, pictures = Fbank(FbankSettings()), [], []
    Path(out).mkdir(parents=True, exist_ok=True)
    while len(made) < count:  # a corpus with fewer utterances is heard again, otherwise augmented
        batch = next(iter(loader))
        pictures.extend(masked(front_end(batch.inputs), batch.plans, settings).numpy())
        for row, plan, samples in zip(batch.rows, batch.plans, batch.inputs.numpy(), strict=True):
            path = Path(out) / f"{len(made) + 1:02d}-{plan.kind or 'plain'}.wav"
            if len(made) < count:
                soundfile.write(path, samples / max(1.0, float(np.abs(samples).max())), RATE)
                made.append(Example(path, table["utterance"][row].as_py(), describe(plan)))
        loader.batches.resume(loader.batches.epoch + 1)
    _draw(Path(out) / "examples.png", pictures[:count], made)
    return made


def read_recipe(recipe: Path) -> tuple[Augmentation, dict[str, Any]]:
    """The augmentation of a recipe, and its block `data`, with paths joined to the recipe's folder."""
    import yaml

    try:
        content = yaml.safe_load(Path(recipe).read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise RecipeError(f"{recipe}: is not YAML: {error}") from None
    if not isinstance(content, dict) or "augmentation" not in content:
        raise RecipeError(f"{recipe}: has no block `augmentation:`; write `augmentation: lap`, or settings in it")
    try:
        settings = from_mapping(content["augmentation"])
    except ValueError as error:
        raise RecipeError(f"{recipe}: {error}") from None
    data = dict(content.get("data") or {})
    for name in ("manifest", "banks"):
        if isinstance(data.get(name), str):
            data[name] = Path(recipe).parent / Path(data[name]).expanduser()
    return settings, data


def describe(plan: Plan) -> str:
    """What was drawn, in words: "4 talkers at 14, 16, 19, 13 dB; 1.1 times as fast; telephone, G.711 a-law"."""
    words = ["room"] if plan.rir is not None else []
    for bank in ("noise", "music", "speech"):
        levels = [f"{source.snr:.0f}" for source in plan.sources if source.bank == bank]
        if levels:
            what = bank if bank != "speech" else f"{len(levels)} talker" + "s" * (len(levels) > 1)
            words.append(f"{what} at {', '.join(levels)} dB")
    if plan.speed != 1:
        words.append(f"{plan.speed:g} times as fast")
    if plan.gain is not None:
        words.append(f"{plan.gain:+.0f} dB")
    if plan.clipping is not None:
        words.append(f"clipped at {plan.clipping:.0%}")
    if plan.law:
        words.append(f"telephone, G.711 {plan.law}-law")
    if plan.codec:
        words.append(f"{plan.codec[0]} at {plan.codec[1]:.0f} kbit/s")
    if masks := len(plan.frequency_masks) + len(plan.time_masks):
        words.append(f"{masks} mask" + "s" * (masks > 1))
    return "; ".join(words or ["as recorded"])


def _table(path: Path | None):
    """The manifest; without one, the sample recordings that come with the package."""
    import pyarrow as pa

    from samevoice.audio.formats import in_folder
    from samevoice.cli.demo import samples
    from samevoice.data import manifest

    if path is not None:
        return manifest.read(path)
    rows = []
    for file in in_folder(samples()):
        info = soundfile.info(file)
        speaker = Path(file).parent.name
        rows.append(
            {
                "utterance": f"{speaker}/{Path(file).stem}",
                "speaker": speaker,
                "path": file,
                "offset": 0.0,
                "duration": info.duration,
                "rate": info.samplerate,
            }
        )
    return manifest.validate(pa.Table.from_pylist(rows))


def _draw(path: Path, pictures: list[np.ndarray], examples: list[Example]) -> None:
    """One filter bank under the other, (frames, mels) each, with what was done to it above."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 1.6 * len(pictures)), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, picture, example in zip(
        figure.subplots(len(pictures), 1, squeeze=False)[:, 0], pictures, examples, strict=True
    ):
        axes.imshow(picture.T, origin="lower", aspect="auto", extent=(0, len(picture) / 100, 0, picture.shape[1]))
        axes.set_title(f"{example.path.name}: {example.utterance}: {example.text}", fontsize=8, loc="left")
        axes.set_ylabel("mel", fontsize=7)
        axes.tick_params(labelsize=7)
    axes.set_xlabel("seconds", fontsize=7)
    figure.savefig(path)

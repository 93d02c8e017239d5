"""Utterances per second and core from disk to augmented filter banks, against what the public recipes do.

python benchmarks/loader.py [--manifest M.parquet --musan FOLDER --rirs FOLDER] [--utterances 256] [--json]

The named alternative, kept here, takes the steps of the public recipes one utterance at a time: read the whole
recording, change its speed, cut the crop, open the noise files or the impulse response, `scipy.signal.convolve`, one
filter bank. Both recipes' settings are measured: 3D-Speaker's for ERes2Net (3 s; speakerlab/process: whole MUSAN
files, torchaudio's filter bank) and LAP's (2 s; src/utils/dataset.py: MUSAN cut into 5 s pieces; it trains on
waveforms, so the figure without a filter bank is given too). Neither sox nor torchaudio is needed: speed is changed by
scipy's polyphase resampler, and the filter bank takes torchaudio's steps (and about its time, 1.0 ms for 3 s).
LAP's code makes a list of all places where a crop may start and draws one of them, which takes longer than the rest
of its steps; the last row draws a number instead.

Without the corpora of the options we make up wav files as long as theirs: utterances of 4 to 20 s, noise of 23 s,
music of 230 s, speech of 500 s on average, and 1 s impulse responses. Their content doesn't change the times.
"""

import argparse
import contextlib
import copy
import gc
import json
import os
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one core, before numpy and torch are there

import numpy as np
import pyarrow as pa
import soundfile
import torch
from scipy import signal

from samevoice.audio import RATE
from samevoice.audio.fbank import FbankSettings
from samevoice.audio.fbank_torch import mel_filters
from samevoice.audio.formats import in_folder
from samevoice.data import manifest
from samevoice.data.augment import LAP, THREE_D_SPEAKER, Augmentation
from samevoice.data.banks import Banks, Recording, build
from samevoice.data.loader import Files, Loader
from samevoice.data.sampling import ShuffledBatches

PIECE = 5 * RATE
ROWS = ("ours", "ours, reading only", "public", "public, no filter bank", "public, places drawn well")
H100_FLOPS = 989e12  # bf16, dense: NVIDIA's data sheet of the H100 SXM
# What one example costs in forward passes, and the share of H100_FLOPS that training is assumed to reach. The passes
# are counted by this script; the shares are guesses on the high side (a faster GPU eats more), measured by nobody:
# large matrix products reach some 40 %, convolutions of 32 to 256 channels some 10 %. Backward counts as two passes.
RECIPES = {
    "ERes2Net, all of it": ("3d-speaker", 3, 0.10),
    "LAP + ASTP, WavLM large frozen": ("lap", 1, 0.40),
    "LAP + ASTP, WavLM large fine-tuned": ("lap", 3, 0.40),
}


@dataclass(frozen=True)
class Corpus:
    """table: a manifest. pieces: MUSAN cut into 5 s, as LAP wants it. musan: the files by kind. banks: the same."""

    table: pa.Table
    musan: dict[str, list[str]]
    pieces: dict[str, list[str]]
    rirs: list[str]
    banks: Banks


def main() -> None:
    options = _options()
    torch.set_num_threads(1)
    results = []
    with tempfile.TemporaryDirectory() as folder:
        corpus = _corpus(options, Path(folder))
        for name, seconds, settings in (("3d-speaker", 3.0, THREE_D_SPEAKER), ("lap", 2.0, LAP)):
            results.append(_compare(name, seconds, settings, corpus, options))
    feeding = _feeding(results)
    if options.json:
        print(json.dumps({"results": results, "feeding": feeding}))
    else:
        _show(results, feeding)


def _compare(name: str, seconds: float, settings: Augmentation, corpus: Corpus, options: argparse.Namespace) -> dict:
    """Ours and the alternative in turns on the same utterances; the median over the turns, in processor time."""
    batches = ShuffledBatches(corpus.table, options.batch, drop_last=True)
    loader = Loader(Files(corpus.table), batches, seconds, settings, corpus.banks, FbankSettings())
    reading = Loader(Files(corpus.table), batches, seconds, settings, corpus.banks)._loader
    public = Public(corpus, settings, round(seconds * RATE), whole_files=name == "3d-speaker")
    rows = [row for batch in batches for row, _ in batch]
    mended = copy.copy(public)
    mended.as_written = False
    times: dict[str, list[float]] = {kind: [] for kind in ROWS}
    for turn in range(options.turns + 1):  # the first warms caches up
        batches.resume(turn)
        runs: dict[str, Callable[[], object]] = {
            "ours": lambda: [len(batch.inputs) for batch in loader],
            "ours, reading only": lambda: [len(rows) for _, rows in reading],
            "public": lambda: [len(public.features(row)) for row in rows],
            "public, no filter bank": lambda: [len(public.waveform(row)) for row in rows],
        }
        if public.as_written:
            runs["public, places drawn well"] = lambda: [len(mended.features(row)) for row in rows]
        for kind, run in runs.items():
            gc.collect()
            start = time.process_time()
            run()
            if turn:
                times[kind].append((time.process_time() - start) / len(rows))
    return {
        "recipe": name,
        "seconds": seconds,
        "utterances": len(rows),
        "milliseconds": {kind: round(1000 * statistics.median(values), 3) for kind, values in times.items() if values},
    }


def filter_bank(wave: torch.Tensor) -> torch.Tensor:
    """(samples,) -> (frames, 80) by the steps of torchaudio.compliance.kaldi.fbank, which both toolkits call for each
    utterance: among them the window and the mel filters, made anew each time."""
    frames = wave.as_strided((1 + (len(wave) - 400) // 160, 400), (160, 1))
    frames = frames - frames.mean(1, keepdim=True)
    before = torch.nn.functional.pad(frames[None], (1, 0), mode="replicate")[0]
    frames = frames - 0.97 * before[:, :-1]
    frames = frames * torch.hann_window(400, periodic=False).pow(0.85)
    frames = torch.nn.functional.pad(frames[None], (0, 112))[0]
    power = torch.fft.rfft(frames).abs().pow(2)
    energies = torch.mm(power, mel_filters(80))
    return torch.max(energies, torch.tensor(torch.finfo(torch.float32).eps)).log()


class Public:
    """The public recipes' steps, one utterance at a time, with their settings and distributions."""

    def __init__(self, corpus: Corpus, settings: Augmentation, length: int, whole_files: bool):
        self.settings, self.length = settings, length
        self.paths = corpus.table["path"].to_pylist()
        self.files, self.rirs = corpus.musan if whole_files else corpus.pieces, corpus.rirs
        if whole_files:  # 3D-Speaker's noise is any file of MUSAN
            self.files = {"noise": [path for paths in self.files.values() for path in paths]}
        self.random = random.Random(0)
        self.as_written = not whole_files

    def features(self, row: int) -> torch.Tensor:
        features = filter_bank(torch.from_numpy(self.waveform(row).astype(np.float32)))
        return features - features.mean(0, keepdim=True)

    def waveform(self, row: int) -> np.ndarray:
        wave = soundfile.read(self.paths[row])[0].astype(np.float32)
        speed = self.random.choice(self.settings.drawn_speeds)
        if speed != 1:
            ratio = Fraction(speed).limit_denominator(100)
            wave = signal.resample_poly(wave, ratio.denominator, ratio.numerator)
        wave = self._fit(wave, self.length)
        if self.random.random() < self.settings.probability:
            kind = self.random.choice(self.settings.kinds)
            if "reverb" in kind:
                rir = soundfile.read(self.random.choice(self.rirs), dtype="float32")[0]
                rir = rir / np.sqrt(np.sum(rir**2))
                wave = signal.convolve(wave, rir, mode="full")[: self.length]
            for noise in {"television": ("babble", "music")}.get(kind, (kind.removeprefix("reverb+"),)):
                wave = wave if noise == "reverb" else self._noisy(wave, noise)
        return wave

    def _noisy(self, wave: np.ndarray, kind: str) -> np.ndarray:
        level = 10 * np.log10(np.mean(wave**2) + 1e-4)
        talkers = self.random.randint(*self.settings.talkers) if kind == "babble" else 1
        total = np.zeros_like(wave)
        for _ in range(talkers):
            noise = soundfile.read(self.random.choice(self.files["speech" if kind == "babble" else kind]))[0]
            noise = self._fit(noise.astype(np.float32), self.length)
            snr = self.random.uniform(*getattr(self.settings, f"{kind}_snr"))
            own = 10 * np.log10(np.mean(noise**2) + 1e-4)
            total += np.sqrt(10 ** ((level - own - snr) / 10)) * noise
        return wave + total

    def _fit(self, wave: np.ndarray, length: int) -> np.ndarray:
        if len(wave) < length:
            return np.pad(wave, (0, length - len(wave)), mode="wrap")
        if self.as_written:  # LAP's way to draw a place
            start = self.random.choice(list(range(len(wave) - length + 1)))
        else:
            start = self.random.randint(0, len(wave) - length)
        return wave[start : start + length]


def _corpus(options: argparse.Namespace, folder: Path) -> Corpus:
    made = np.random.default_rng(0)
    if options.manifest:
        table = manifest.read(options.manifest)
    else:
        lengths = np.clip(made.lognormal(np.log(7), 0.45, options.utterances), 4, 20)
        paths = [_noise_file(made, folder / "utterances" / f"{i:05d}.wav", s) for i, s in enumerate(lengths)]
        table = pa.Table.from_pylist([_row(path, f"speaker{i % 50}") for i, path in enumerate(paths)])
    table = manifest.validate(table).slice(0, options.utterances)
    if options.musan:
        musan = {kind: in_folder(options.musan / kind) for kind in ("noise", "music", "speech")}
    else:
        sizes = {"noise": (46, 23.0), "music": (33, 230.0), "speech": (21, 500.0)}  # MUSAN's proportions, a twentieth
        musan = {
            kind: [_noise_file(made, folder / "musan" / kind / f"{i:04d}.wav", seconds) for i in range(count)]
            for kind, (count, seconds) in sizes.items()
        }
    rirs = in_folder(options.rirs) if options.rirs else _rirs(made, folder / "rirs")
    for kind, paths in (*musan.items(), ("rir", rirs)):
        build(kind, [Recording(path) for path in paths], folder / "banks")
    return Corpus(
        table,
        musan,
        {kind: _cut(paths, folder / "pieces" / kind) for kind, paths in musan.items()},
        rirs,
        Banks(folder / "banks"),
    )


def _cut(paths: list[str], folder: Path, most: int = 300) -> list[str]:
    """Pieces of 5 s; a few hundred are enough to measure by."""
    folder.mkdir(parents=True)
    found = []
    for path in paths:
        samples = soundfile.read(path, dtype="int16")[0]
        for start in range(0, len(samples) - PIECE + 1, PIECE):
            if len(found) == most:
                return found
            found.append(str(folder / f"{len(found):05d}.wav"))
            soundfile.write(found[-1], samples[start : start + PIECE], RATE)
    return found


def _noise_file(generator: np.random.Generator, path: Path, seconds: float) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, generator.integers(-3000, 3000, round(seconds * RATE), dtype=np.int16), RATE)
    return str(path)


def _rirs(generator: np.random.Generator, folder: Path) -> list[str]:
    folder.mkdir()
    decay = np.exp(-6.9 * np.arange(RATE) / RATE / 0.8)
    for number in range(50):
        soundfile.write(folder / f"{number:03d}.wav", 0.3 * decay * generator.standard_normal(RATE), RATE)
    return in_folder(folder)


def _row(path: str, speaker: str) -> dict:
    info = soundfile.info(path)
    return {
        "utterance": path, "speaker": speaker, "path": path, "offset": 0.0, "duration": info.duration,
        "rate": info.samplerate,
    }  # fmt: skip


def _forward_flops() -> dict[str, float]:
    """Of one example, counted by torch on tensors without content."""
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import WavLMConfig, WavLMModel

    from samevoice import models

    large = WavLMConfig(
        hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096,
        feat_extract_norm="layer", do_stable_layer_norm=True, conv_bias=False, attn_implementation="eager",
    )  # fmt: skip
    counted = {}
    with torch.device("meta"), torch.no_grad():
        for name, network, given in (
            ("3d-speaker", models.create("eres2net"), torch.zeros(1, 298, 80)),
            ("lap", WavLMModel(large), torch.zeros(1, 2 * RATE)),
        ):
            with FlopCounterMode(display=False) as counter:
                network.eval()(given)
            counted[name] = float(counter.get_total_flops())
    return counted


def _feeding(results: list[dict]) -> list[dict]:
    """H100s that 16 cores can feed: when they do everything, and when the GPU does the arithmetic."""
    flops = _forward_flops()
    milliseconds = {result["recipe"]: result["milliseconds"] for result in results}
    rows = []
    for recipe, (name, passes, share) in RECIPES.items():
        rate = share * H100_FLOPS / (passes * flops[name])
        rows.append({"recipe": recipe, "assumed examples/s of one H100": round(rate)})
        for kind in ("ours", "ours, reading only", "public"):
            fed = 16 * 1000 / milliseconds[name][kind]
            rows[-1][kind] = {"examples/s of 16 cores": round(fed), "H100s": round(fed / rate, 1)}
    return rows


def _show(results: list[dict], feeding: list[dict]) -> None:
    print(f"{_processor()}, one core, torch {torch.__version__}; files in the page cache")
    for result in results:
        print(f"\n{result['recipe']}, {result['seconds']:g} s, {result['utterances']} utterances")
        ours = result["milliseconds"]["ours"]
        for kind, value in result["milliseconds"].items():
            print(f"  {kind:24} {value:7.2f} ms  {1000 / value:6.0f}/s  {value / ours:5.1f} x ours")
    print("\nH100s that a host of 16 such cores could feed; the GPU's rate is assumed, see RECIPES")
    for row in feeding:
        print(f"  {row['recipe']}: at {row['assumed examples/s of one H100']} examples/s each")
        for kind in ("ours", "ours, reading only", "public"):
            print(f"    {kind:22} {row[kind]['examples/s of 16 cores']:6d}/s  {row[kind]['H100s']:5.1f}")


def _processor() -> str:
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(": ")[1] for line in lines if line.startswith("model name"))
    return platform.processor()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--manifest", type=Path)
    parser.add_argument("--musan", type=Path, help="with the folders noise, music and speech")
    parser.add_argument("--rirs", type=Path)
    parser.add_argument("--utterances", type=int, default=256)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()

"""Reports like those of `samevoice evaluate`, of what a model has to be better than: on the same clips and trials.

    pip install resemblyzer
    python benchmarks/rivals.py resemblyzer --protocol librispeech-mini --data SPEECH -o DIR
    python benchmarks/rivals.py random --protocol librispeech-mini --data SPEECH -o DIR

resemblyzer: the voice encoder of the Python package of that name, with the steps that its readme shows. random: the
network of recipes/eres2net_mini.yaml as it begins. `samevoice evaluate compare DIR ...` puts reports side by side.
Recordings that samevoice refuses are refused here too, so that all systems are measured on the same trials.
"""

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch

from samevoice.audio import AudioError, read
from samevoice.audio.decode import MAX_HOURS
from samevoice.audio.fbank import FbankSettings, fbank
from samevoice.cli import reports
from samevoice.cli.output import track
from samevoice.evaluation import protocols
from samevoice.evaluation.report.comparison import Report
from samevoice.evaluation.report.system import Plan, System
from samevoice.runtime.embedding_cache import Clip
from samevoice.runtime.pieces import Recording
from samevoice.runtime.verifier import Embedded
from samevoice.training import network, recipe

Embed = Callable[[np.ndarray], np.ndarray]  # float32 (samples,) at 16 kHz -> (dim,)


def resemblyzer() -> tuple[Embed, int]:
    """How it embeds, and its number of parameters."""
    from resemblyzer import VoiceEncoder, preprocess_wav

    encoder = VoiceEncoder("cpu", verbose=False)

    def embed(samples: np.ndarray) -> np.ndarray:
        spoken = preprocess_wav(samples)
        return encoder.embed_utterance(spoken if len(spoken) else samples)  # its detector may find no speech at all

    return embed, sum(p.numel() for p in encoder.parameters())


def random() -> tuple[Embed, int]:
    chosen = recipe.load("eres2net_mini")
    torch.manual_seed(chosen.seed)
    made = network.build(chosen.network).eval()
    settings = network.features(chosen, made) or FbankSettings()

    @torch.inference_mode()
    def embed(samples: np.ndarray) -> np.ndarray:
        return made(torch.from_numpy(fbank(samples, settings))[None])[0].numpy()

    return embed, sum(p.numel() for p in made.parameters())


def heard(embed: Embed, clips: Iterable[Clip]) -> list[Embedded | AudioError]:
    return [_heard(embed, clip) for clip in clips]


def _heard(embed: Embed, clip: Clip) -> Embedded | AudioError:
    try:
        audio = clip.load() if clip.load else clip.path
        recording = Recording(audio, None, MAX_HOURS)
        for _ in recording:  # to its end, where it is refused or its quality is known
            pass
        return Embedded(embed(read(audio)), recording.quality)
    except AudioError as error:
        return error


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rival", choices=["resemblyzer", "random"])
    parser.add_argument("--protocol", required=True)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("-o", "--output", required=True, type=Path)
    options = parser.parse_args()
    embed, parameters = {"resemblyzer": resemblyzer, "random": random}[options.rival]()
    table, listed = protocols.load(protocols.find(options.protocol), options.data)
    system = System(lambda clips: heard(embed, track(clips, len(clips))), Plan())
    system.fit(listed, table, None, None)
    noise = protocols.noises(options.data)
    entries, scores = system.entries(listed, table, protocols.CONDITIONS, noise, str(options.data))
    about = reports.about(options.rival, options.rival, parameters, options.protocol)
    content = about | {"notes": system.notes, "entries": entries}
    reports.finish([Report(content, scores, str(options.output))], options.output, False)


if __name__ == "__main__":
    main()

"""Kaldi's log mel filter banks, one recording at a time and without torch (fbank_torch.py does batches)."""

from dataclasses import dataclass
from typing import Literal

import kaldi_native_fbank
import numpy as np

from samevoice.audio.decode import RATE

SHIFT = RATE // 100  # samples between frames (10 ms)
WINDOW = RATE // 40  # samples in a frame (25 ms)


@dataclass(frozen=True)
class FbankSettings:
    """The front end of one model, as its card says.

    mels: filters from 20 Hz to 8 kHz. window: "povey" (Kaldi, 3D-Speaker) or "hamming" (WeSpeaker).
    scale: what samples in [-1, 1] are multiplied by (32768 where the model saw 16-bit numbers; it only matters where
    the energy is so low that the logarithm is floored). subtract_mean: remove each filter's mean over the utterance.
    """

    mels: int = 80
    window: Literal["povey", "hamming"] = "povey"
    scale: float = 1.0
    subtract_mean: bool = True


def fbank(samples: np.ndarray, settings: FbankSettings) -> np.ndarray:
    """Log mel energies: (samples,) at 16 kHz in [-1, 1] -> float32 (frames, mels).

    Frames of 25 ms every 10 ms, edges snipped, no dither, pre-emphasis 0.97, as Kaldi's compute-fbank-feats.
    Fewer than 400 samples give no frame.
    """
    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.samp_freq = RATE
    options.frame_opts.dither = 0.0
    options.frame_opts.window_type = settings.window
    options.mel_opts.num_bins = settings.mels
    extractor = kaldi_native_fbank.OnlineFbank(options)
    scaled = np.asarray(samples, np.float32) * np.float32(settings.scale)
    extractor.accept_waveform(RATE, scaled)  # pyright: ignore[reportArgumentType] (arrays are taken, and faster)
    extractor.input_finished()
    frames = extractor.num_frames_ready
    if frames == 0:
        return np.zeros((0, settings.mels), np.float32)
    features = np.stack([extractor.get_frame(i) for i in range(frames)])
    return features - features.mean(axis=0) if settings.subtract_mean else features

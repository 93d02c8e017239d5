"""A recording as the pieces that a network sees, with the record of its quality."""

from collections.abc import Iterator
from concurrent.futures import CancelledError
from dataclasses import dataclass
from threading import Event

import numpy as np

from samevoice.audio.decode import RATE, Audio, AudioError, Source, open_audio, resampled
from samevoice.audio.fbank import FbankSettings, fbank
from samevoice.audio.quality import Quality, QualityMeter

PIECE = 60 * RATE  # samples: longer recordings are embedded minute by minute and averaged
SHORTEST = 10 * RATE  # a shorter rest stays with the minute before it
MIN_SPEECH_SECONDS = 0.5


@dataclass(frozen=True)
class Piece:
    """features: float32 (frames, mels), or (samples,) for a network on waveforms.

    speech_seconds: what the piece counts for when several are averaged.
    """

    features: np.ndarray
    speech_seconds: float


class Recording:
    """One recording being read: iterate it once for its pieces; `quality` is known after the last.

    Pieces without speech are left out. Memory: one piece and one block, however long the recording is.
    Raises AudioError while iterating; also at the end, when there was too little speech to tell a voice by;
    CancelledError once `given_up` is set.
    """

    quality: Quality

    def __init__(self, audio: Audio, settings: FbankSettings | None, max_hours: float, given_up: Event):
        self._source = open_audio(audio, max_hours)
        self._settings = settings
        self._meter = QualityMeter()
        self._given_up = given_up

    def __iter__(self) -> Iterator[Piece]:
        start = 0
        for samples in _cut(self._blocks()):
            speech = self._meter.speech_seconds(start, start + len(samples))
            start += len(samples)
            if speech > 0:
                yield Piece(fbank(samples, self._settings) if self._settings else samples, speech)
        self.quality = self._meter.quality()
        speech = self.quality.speech_seconds
        if speech < MIN_SPEECH_SECONDS:
            found = f"only {speech:.2f} s of speech" if speech else "no speech"
            raise AudioError(
                self._source.name,
                f"has {found} in {self.quality.seconds:.1f} s; a voice needs at least {MIN_SPEECH_SECONDS:g} s of it",
            )

    def _blocks(self) -> Iterator[np.ndarray]:
        """The recording at 16 kHz, heard by the meter on the way."""
        for block in resampled(Source(self._source.name, self._source.rate, self._native())):
            self._meter.hear(block)
            yield block
        self._meter.finish()

    def _native(self) -> Iterator[np.ndarray]:
        for block in self._source.blocks:
            if self._given_up.is_set():
                raise CancelledError
            self._meter.hear_native(block)
            yield block


def _cut(blocks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """Blocks of any size -> pieces of PIECE samples, the last of SHORTEST to PIECE + SHORTEST (or all there is)."""
    waiting = np.zeros(0, np.float32)
    for block in blocks:
        waiting = np.concatenate([waiting, block])
        while len(waiting) >= PIECE + SHORTEST:
            yield waiting[:PIECE]
            waiting = waiting[PIECE:]
    yield waiting

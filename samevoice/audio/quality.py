"""How good a recording is for telling voices apart: speech seconds, signal-to-noise ratio, clipping, bandwidth."""

from dataclasses import dataclass

import numpy as np

from samevoice.audio.decode import RATE
from samevoice.audio.vad import CHUNK, SpeechDetector

CHUNK_SECONDS = CHUNK / RATE
SHORT_SECONDS = 2.0
LOW_SNR_DB = 10.0
MUCH_CLIPPING = 0.001
NARROW_BAND_HZ = 4300.0


@dataclass(frozen=True)
class Quality:
    """The record of one recording.

    seconds: its length. speech_seconds: how much of it Silero VAD takes for speech (probability over 0.5).
    snr_db: power in speech chunks over power outside them (less its loudest tenth), in decibels; None if nothing but
        speech was heard.
    clipping: the share of samples within 1 % of the loudest one, above what natural speech has where the recorder was
        overdriven. bandwidth_hz: the highest frequency within 55 dB of the strongest, in the speech.
    """

    seconds: float
    speech_seconds: float
    snr_db: float | None
    clipping: float
    bandwidth_hz: float

    @property
    def warnings(self) -> list[str]:
        """What makes a decision about this recording less sure, in words."""
        found = []
        if self.speech_seconds < SHORT_SECONDS:
            found.append(f"only {self.speech_seconds:.1f} s of speech: {SHORT_SECONDS:g} s or more decide better")
        if self.snr_db is not None and self.snr_db < LOW_SNR_DB:
            found.append(f"noisy: {self.snr_db:.0f} dB signal-to-noise ratio")
        if self.clipping > MUCH_CLIPPING:
            found.append(f"clipped: {self.clipping:.1%} of samples at the limit")
        if self.bandwidth_hz < NARROW_BAND_HZ:
            found.append(f"narrow-band: nothing above {self.bandwidth_hz / 1000:.1f} kHz (telephone?)")
        return found


class QualityMeter:
    """Listens to one recording block by block; `quality()` at the end. Memory: 12 bytes for each 32 ms."""

    def __init__(self):
        self._detect = SpeechDetector()
        self._rest = np.zeros(0, np.float32)
        self._samples = 0
        self._peak = 1e-3  # loudest so far; never below -60 dB, or silence would be made loud
        self._speech: list[np.ndarray] = []  # probability of each chunk
        self._power: list[np.ndarray] = []  # mean square of each chunk
        self._spectrum = np.zeros(CHUNK // 2 + 1)  # power, summed over speech chunks
        self._levels = np.zeros(2000, np.int64)  # how many native samples had |x| in each 0.001

    def hear_native(self, block: np.ndarray) -> None:
        """A block (samples,) at the recording's own rate: resampling would round the flat tops of clipped waves."""
        level = np.minimum(np.abs(block) * 1000, len(self._levels) - 1).astype(np.int64)
        self._levels += np.bincount(level, minlength=len(self._levels))

    def hear(self, block: np.ndarray) -> None:
        """A block (samples,) at 16 kHz."""
        self._samples += len(block)
        self._peak = max(self._peak, float(np.abs(block).max(initial=0)))
        samples = np.concatenate([self._rest, block])
        whole = len(samples) - len(samples) % CHUNK
        self._rest = samples[whole:]
        self._judge(samples[:whole].reshape(-1, CHUNK))

    def finish(self) -> None:
        """The recording is over: judge what is left of it, filled up with zeros."""
        if len(self._rest):
            self._judge(np.pad(self._rest, (0, CHUNK - len(self._rest)))[None])
            self._rest = self._rest[:0]

    def speech_seconds(self, start: int = 0, stop: int | None = None) -> float:
        """Seconds of speech between two samples, as far as chunks have been judged."""
        chunks = np.concatenate(self._speech) if self._speech else np.zeros(0)
        last = None if stop is None else -(-stop // CHUNK)
        return float((chunks[start // CHUNK : last] > 0.5).sum() * CHUNK_SECONDS)

    def quality(self) -> Quality:
        """The record; call after `finish`."""
        return Quality(
            seconds=self._samples / RATE,
            speech_seconds=min(self.speech_seconds(), self._samples / RATE),
            snr_db=self._snr(),
            clipping=self._clipping(),
            bandwidth_hz=self._bandwidth(),
        )

    def _judge(self, chunks: np.ndarray) -> None:
        # The detector misses speech that is recorded very low (a third of it at -40 dB), so it hears it louder.
        probability = self._detect(chunks * np.float32(max(0.5 / self._peak, 1.0)))
        self._speech.append(probability)
        self._power.append(np.square(chunks).mean(axis=1))
        voiced = chunks[probability > 0.5] * np.hanning(CHUNK)
        self._spectrum += np.square(np.abs(np.fft.rfft(voiced))).sum(axis=0)

    def _snr(self) -> float | None:
        speech, power = np.concatenate(self._speech), np.concatenate(self._power)
        # Half-way probabilities are the borders of words: neither clean speech nor clean noise.
        loud, quiet = power[speech > 0.5], np.sort(power[speech < 0.1])
        if not len(loud) or len(quiet) < 5:
            return None
        quiet = quiet[: -(-len(quiet) * 9 // 10)]  # the loudest tenth may be ends of words that the detector missed
        noise = max(float(quiet.mean()), 1e-10)  # -100 dB: the floor of 16-bit audio
        ratio = float(loud.mean()) / noise - 1  # speech lies on top of the noise
        return float(10 * np.log10(max(ratio, 0.01)))  # -20 dB is the least we tell

    def _clipping(self) -> float:
        peak = int(np.flatnonzero(self._levels)[-1])
        share = self._levels[int(peak * 0.99) :].sum() / self._levels.sum()
        return float(share) if peak > 10 else 0.0  # under 1 % of full scale a level holds too few steps to tell

    def _bandwidth(self) -> float:
        if not self._spectrum.any():
            return RATE / 2
        decibels = 10 * np.log10(np.convolve(self._spectrum, np.ones(5) / 5, "same") + 1e-20)
        return float(np.flatnonzero(decibels > decibels.max() - 55)[-1] * RATE / CHUNK)

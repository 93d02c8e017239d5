"""What happens to one utterance, drawn from its key alone: no matter who draws it, when, or in what batch."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from samevoice.data.augment.settings import Augmentation, fraction
from samevoice.data.banks import Bank, Banks


@dataclass(frozen=True)
class Source:
    """A stretch of one recording of a bank that is mixed in: samples `at` to `at + length` of the utterance."""

    bank: str
    item: int
    start: int
    at: int
    length: int
    snr: float


@dataclass(frozen=True)
class Plan:
    """All that was drawn. Numbers are None, and tuples empty, for what does not happen.

    speed: 1.1 is faster and higher. rir: an item of the bank of impulse responses. law: "a" or "mu".
    codec: (name, kbit/s). clipping: the share of the peak. masks: for each mask two numbers in [0, 1): how wide, where.
    """

    speed: float = 1.0
    kind: str | None = None
    rir: int | None = None
    sources: tuple[Source, ...] = ()
    gain: float | None = None
    clipping: float | None = None
    law: str | None = None
    codec: tuple[str, float] | None = None
    frequency_masks: tuple[tuple[float, float], ...] = ()
    time_masks: tuple[tuple[float, float], ...] = ()

    def source_length(self, length: int) -> int:
        """How many samples must be read for `length` samples at this speed."""
        ratio = fraction(self.speed)
        return -(-length * ratio.numerator // ratio.denominator)


@dataclass(frozen=True)
class Planner:
    """Draws plans. Raises BankError at once when the settings need a bank that is not there.

    banks: None where the settings need none.
    """

    settings: Augmentation
    banks: Banks | None = None
    _speeds: tuple[float, ...] = field(init=False, repr=False)

    def __post_init__(self):
        if needed := self.settings.banks():
            (self.banks or Banks(Path("banks"))).need(needed)
        object.__setattr__(self, "_speeds", self.settings.drawn_speeds)

    def plan(self, key: int, length: int) -> Plan:
        """For an utterance of `length` samples (after the change of speed) whose key is a whole number of 64 bits."""
        # A stream of its own: the same key also places the crop.
        generator = np.random.Generator(np.random.Philox(key=np.array([key & 0xFFFFFFFFFFFFFFFF, 1], np.uint64)))
        settings = self.settings
        speed = self._speeds[int(generator.integers(len(self._speeds)))]
        kind, rir, sources = None, None, ()
        if generator.random() < settings.probability:
            kind = settings.kinds[int(generator.integers(len(settings.kinds)))]
            if "reverb" in kind:
                rir = int(generator.integers(len(self._bank("rir"))))
            sources = tuple(self._sources(kind, generator, length))
        # Each draw is made whether or not it is used, so that one setting changes nothing of the others.
        happens = generator.random(4) < (settings.gain, settings.clipping, settings.telephone, settings.codec)
        gain = float(generator.uniform(*settings.gain_db))
        clipping = float(generator.uniform(*settings.clipping_level))
        law = ("a", "mu")[int(generator.integers(2))]
        codec = settings.codecs[int(generator.integers(len(settings.codecs)))]
        low, high = settings.opus_kbps if codec == "opus" else settings.mp3_kbps
        rate = float(np.exp(generator.uniform(np.log(low), np.log(high))))  # the low rates are where the ear notices
        masks = generator.random((settings.frequency_masks + settings.time_masks, 2)).tolist()
        masks = tuple((width, place) for width, place in masks)
        return Plan(
            speed,
            kind,
            rir,
            sources,
            gain if happens[0] else None,
            clipping if happens[1] else None,
            law if happens[2] else None,
            (codec, rate) if happens[3] else None,
            masks[: settings.frequency_masks],
            masks[settings.frequency_masks :],
        )

    def _bank(self, name: str) -> Bank:
        assert self.banks is not None
        return self.banks[name]

    def _sources(self, kind: str, generator: np.random.Generator, length: int):
        settings = self.settings
        whole = kind in ("television", "reverb+noise") or len(settings.spans) == 1
        low, high = (1.0, 1.0) if kind in ("television", "reverb+noise") else settings.spans[0]
        if not whole:
            low, high = settings.spans[int(generator.integers(len(settings.spans)))]
        parts = {"babble": ("speech",), "television": ("speech", "music")}.get(kind, (kind.removeprefix("reverb+"),))
        for bank in parts:
            if bank not in ("noise", "music", "speech"):
                continue  # reverberation alone
            talkers = int(generator.integers(settings.talkers[0], settings.talkers[1] + 1)) if bank == "speech" else 1
            snrs = {"noise": settings.noise_snr, "music": settings.music_snr, "speech": settings.babble_snr}[bank]
            for item in self._bank(bank).items(generator, talkers):
                covered = max(1, round(length * float(generator.uniform(low, high))))
                item, start = self._bank(bank).place(generator, item, covered)
                at = int(generator.integers(length - covered + 1))
                yield Source(bank, item, start, at, covered, float(generator.uniform(*snrs)))


@dataclass
class Mixture:
    """The noise of one utterance: `samples` float32 (length,), to be scaled until it lies `snr` dB below the speech."""

    samples: np.ndarray
    snr: float


def mixture(sources: tuple[Source, ...], banks: Banks, length: int) -> Mixture | None:
    """Read the sources and add them up at their own levels. None if they are silent.

    A source's SNR is the utterance's mean power over the source's own within the stretch that it covers. Together
    they get the power that uncorrelated sources have, exactly: mean over the utterance 1 / sum(10^(-snr/10) covered).
    """
    total, power = np.zeros(length, np.float32), 0.0
    for source in sources:
        piece = banks[source.bank].slice(source.item, source.start, source.length)
        own = float(np.dot(piece, piece)) / source.length
        if own <= 1e-12:
            continue
        wanted = 10 ** (-source.snr / 10)
        total[source.at : source.at + source.length] += np.float32(np.sqrt(wanted / own)) * piece
        power += wanted * source.length / length
    return Mixture(total, -10 * float(np.log10(power))) if power and total.any() else None

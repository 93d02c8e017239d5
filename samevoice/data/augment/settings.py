"""What may happen to an utterance on its way to the network, and how often: the `augmentation:` block of a recipe."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from fractions import Fraction
from types import MappingProxyType
from typing import Any

Range = tuple[float, float]
KINDS = ("reverb", "noise", "music", "babble", "television", "reverb+noise")
CODECS = ("opus", "mp3")


@dataclass(frozen=True)
class Augmentation:
    """Probabilities are shares of utterances, ranges are drawn from evenly, both ends included.

    speeds: one is drawn for each utterance; name one twice to make it twice as likely. Empty: (1.0,).
    speed_range: any whole hundredth in it instead, each as likely as another.
    new_speakers: a voice at another speed counts as another speaker (see `labels`).
    probability: that one of `kinds` happens: "reverb", "noise", "music", "babble", "television" (babble and music
        together), "reverb+noise" (the room first).
    noise_snr, music_snr, babble_snr: decibels below the speech, for each single recording that is mixed in: six
        talkers at 13 dB together lie 7.8 dB higher.
    talkers: how many speak in babble and television, both ends included.
    spans: shares of the utterance that noise, music or babble covers, a range each, one drawn for each utterance.
        Television and "reverb+noise" cover all of it.
    telephone: probability of a call: 300-3400 Hz at 8 kHz through G.711, a-law or mu-law.
    codec: probability of encoding and decoding by one of `codecs` at a bit rate drawn from opus_kbps or mp3_kbps.
    gain, gain_db: probability and range of a change of level.
    clipping, clipping_level: probability, and the share of the peak where the wave is cut.
    frequency_masks, frequency_width, time_masks, time_width: SpecAugment on the filter banks: how many masks, and the
        most mels and frames that one covers.
    """

    speeds: tuple[float, ...] = ()
    speed_range: Range | None = None
    new_speakers: bool = True
    probability: float = 0.0
    kinds: tuple[str, ...] = ("reverb", "noise", "music", "babble", "television")
    noise_snr: Range = (0.0, 15.0)
    music_snr: Range = (5.0, 15.0)
    babble_snr: Range = (13.0, 20.0)
    talkers: tuple[int, int] = (3, 8)
    spans: tuple[Range, ...] = ((1.0, 1.0),)
    telephone: float = 0.0
    codec: float = 0.0
    codecs: tuple[str, ...] = CODECS
    opus_kbps: Range = (6.0, 32.0)
    mp3_kbps: Range = (16.0, 64.0)
    gain: float = 0.0
    gain_db: Range = (-20.0, 6.0)
    clipping: float = 0.0
    clipping_level: Range = (0.2, 0.8)
    frequency_masks: int = 0
    frequency_width: int = 10
    time_masks: int = 0
    time_width: int = 20

    def __post_init__(self):
        for name in ("probability", "telephone", "codec", "gain", "clipping"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"augmentation: {name} is a probability, from 0 to 1, not {getattr(self, name)}")
        for name, known in (("kinds", KINDS), ("codecs", CODECS)):
            chosen = getattr(self, name)
            for word in chosen:
                if word not in known:
                    raise ValueError(f"augmentation: {name} has no {_nearest(word, known)}")
            if not chosen:
                raise ValueError(f"augmentation: {name} is empty; to have none, give it the probability 0")
        for name in _RANGES:
            for low, high in self.spans if name == "spans" else [getattr(self, name) or (0, 0)]:
                if low > high:
                    raise ValueError(f"augmentation: {name} runs from the lower to the higher, not {low} to {high}")
        if any(not 0 < low <= high <= 1 for low, high in self.spans) or not self.spans:
            raise ValueError("augmentation: spans are shares of an utterance, over 0 and up to 1")
        if self.talkers[0] < 1:
            raise ValueError("augmentation: babble needs one talker or more")
        if any(not 0.5 <= factor <= 2 for factor in self.factors):
            raise ValueError("augmentation: speeds lie between 0.5 and 2")

    @property
    def factors(self) -> tuple[float, ...]:
        """The different speeds: 1.0 (always), then the others in the order given."""
        return tuple(dict.fromkeys((1.0, *self.drawn_speeds)))

    @property
    def drawn_speeds(self) -> tuple[float, ...]:
        """What a speed is drawn from, with its repetitions."""
        if self.speed_range is None:
            return self.speeds or (1.0,)
        low, high = (round(100 * value) for value in self.speed_range)
        return tuple(hundredths / 100 for hundredths in range(low, high + 1))

    def speakers(self, speakers: int) -> int:
        """How many speakers the network is to tell apart, of so many in the corpus."""
        return speakers * len(self.factors) if self.new_speakers else speakers

    def label(self, speaker: int, speed: float, speakers: int) -> int:
        """The class of a voice at a speed: speaker + speakers * (index of the speed among `factors`)."""
        return speaker + speakers * self.factors.index(speed) if self.new_speakers else speaker

    def banks(self) -> frozenset[str]:
        """Which banks are drawn from: some of "noise", "music", "speech", "rir"."""
        if not self.probability:
            return frozenset()
        return frozenset(bank for kind in self.kinds for bank in _BANKS_OF[kind])


_BANKS_OF = {
    "reverb": ("rir",),
    "noise": ("noise",),
    "music": ("music",),
    "babble": ("speech",),
    "television": ("speech", "music"),
    "reverb+noise": ("rir", "noise"),
}
_RANGES = (
    "speed_range", "noise_snr", "music_snr", "babble_snr", "talkers", "spans", "opus_kbps", "mp3_kbps", "gain_db",
    "clipping_level",
)  # fmt: skip

# sadPororo/LAP: src/utils/dataset.py (4 to 7 talkers; noise on all, about half or about a third) and train_frozen.yaml
LAP = Augmentation(
    speeds=(1.0, 1.0, 1.0, 0.9, 1.1), probability=0.6, talkers=(4, 7), spans=((1.0, 1.0), (0.4, 0.6), (0.2, 0.4))
)
# 3D-Speaker: speakerlab/process/{processor,augmentation}.py and sv-eres2net/conf/eres2net.yaml. Its "noise" is any
# file of MUSAN, music and speech too: fill the noise bank with all of it.
THREE_D_SPEAKER = Augmentation(speeds=(1.0, 0.9, 1.1), probability=0.8, kinds=("noise", "reverb", "reverb+noise"))
# Everything there is, for voices from calls and recordings in the wild
WILD = Augmentation(
    speeds=(1.0, 0.9, 1.1), probability=0.6, telephone=0.1, codec=0.1, gain=0.3, clipping=0.05, frequency_masks=1,
    time_masks=1,
)  # fmt: skip
NAMED: Mapping[str, Augmentation] = MappingProxyType(
    {"none": Augmentation(), "lap": LAP, "3d-speaker": THREE_D_SPEAKER, "wild": WILD}
)


def from_mapping(block: Mapping[str, Any] | str | None) -> Augmentation:
    """A recipe's block: a name ("lap"), or settings, which start from those of the name in `base` if it is there.

    Raises ValueError for a name or a word that does not exist, with the nearest that does, and for unfit values.

    >>> from_mapping({"base": "lap", "probability": 0.8}).probability
    0.8
    """
    if block is None:
        return Augmentation()
    if isinstance(block, str):
        return named(block)
    if not isinstance(block, Mapping):
        raise ValueError(f"augmentation: must be a name or settings, not {block!r}")
    values = dict(block)
    base = named(values.pop("base", "none"))
    words = [field.name for field in fields(Augmentation)]
    for word in values:
        if word not in words:
            raise ValueError(f"augmentation: there is no {_nearest(str(word), [*words, 'base'])}")
    merged = {word: getattr(base, word) for word in words}
    try:
        return Augmentation(**(merged | {word: _typed(word, value) for word, value in values.items()}))
    except TypeError as error:
        raise ValueError(f"augmentation: {error}") from None


def named(name: str) -> Augmentation:
    """Settings by name: "none", "lap", "3d-speaker" or "wild". Raises ValueError."""
    if name not in NAMED:
        raise ValueError(f"augmentation: there is no {_nearest(str(name), list(NAMED))}")
    return NAMED[name]


def fraction(speed: float) -> Fraction:
    """The speed as a ratio of small numbers, to the nearest hundredth or, if that is what was meant, ninth, third..."""
    return Fraction(speed).limit_denominator(100)


def _typed(word: str, value: Any) -> Any:
    """What YAML read (lists, whole numbers) as the field's type; TypeError where it can't be."""
    default = getattr(WILD, word)
    if isinstance(value, bool) != isinstance(default, bool):
        raise TypeError(f"{word} can't be {value!r}")
    if isinstance(default, float) and not isinstance(value, (int, float)):
        raise TypeError(f"{word} must be a number, not {value!r}")
    if isinstance(default, int) and not isinstance(value, int):
        raise TypeError(f"{word} must be a whole number, not {value!r}")
    if word == "speed_range" and value is None:
        return None
    if isinstance(default, tuple) or word == "speed_range":
        return _tuple(word, value)
    return float(value) if isinstance(default, float) else value


def _tuple(word: str, value: Any) -> tuple:
    if word in _RANGES and word != "spans":
        return _pair(word, value)
    if not isinstance(value, (list, tuple)):
        raise TypeError(f"{word} must be a list, not {value!r}")
    if word == "spans":
        return tuple(_pair(word, span) for span in value)
    wanted = str if word in ("kinds", "codecs") else (int, float)
    if not all(isinstance(item, wanted) for item in value):
        raise TypeError(f"{word} can't hold {value!r}")
    return tuple(value) if wanted is str else tuple(float(item) for item in value)


def _pair(word: str, value: Any) -> tuple:
    if not isinstance(value, (list, tuple)) or len(value) != 2 or not all(isinstance(v, (int, float)) for v in value):
        raise TypeError(f"{word} must be two numbers, the lower and the higher, not {value!r}")
    return tuple(value)


def _nearest(word: str, known: Any) -> str:
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.4)
    return f"{word!r}; did you mean {close[0]!r}?" if close else f"{word!r}; there are: {', '.join(known)}"

"""Rooms and noise for whoever has neither measured ones nor MUSAN: made up by computer, and named so.

Shoebox rooms by the image-source method (pyroomacoustics), which measured rooms resemble in their decay but not in
their furniture, and noise of a random colour and a slowly changing level, which has no events in it.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from samevoice.audio import RATE
from samevoice.data.banks import Bank, Recording, build

Point = tuple[float, float, float]
NOTICE = "simulated by samevoice (shoebox rooms, coloured noise): no room was measured and no noise recorded\n"


@dataclass(frozen=True)
class Room:
    """sides: length, width, height in metres. seconds: reverberation time (60 dB) asked of Sabine's formula.
    source, microphone: where, in metres."""

    sides: Point
    seconds: float
    source: Point
    microphone: Point

    @property
    def distance(self) -> float:
        """From the mouth to the microphone, metres."""
        return float(np.linalg.norm(np.subtract(self.source, self.microphone)))


def simulate(
    banks: Path,
    rooms: int = 200,
    noises: int = 200,
    seed: int = 0,
    track: Callable[[Iterable], Iterable] = iter,
) -> tuple[Bank, Bank]:
    """Write `banks`/recordings/ (wav files to listen to, and what they are) and make the banks rir and noise of them.

    The same seed gives the same rooms. Raises ValueError for fewer than one of either.
    """
    import soundfile

    if rooms < 1 or noises < 1:
        raise ValueError(f"{rooms} rooms and {noises} noises: make one or more of each")
    folder = Path(banks) / "recordings"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "SIMULATED.txt").write_text(NOTICE)
    made: dict[str, list[Recording]] = {"rir": [], "noise": []}
    for number in track(range(rooms + noises)):
        generator = np.random.default_rng([seed, number])
        if number < rooms:
            room = random_room(generator)
            sides = "x".join(f"{side:.1f}" for side in room.sides)
            name = f"simulated-room-{number:05d}-{sides}m-{room.seconds:.2f}s-at-{room.distance:.1f}m.wav"
            kind, samples = "rir", impulse_response(room)
        else:
            colour = float(generator.uniform(0, 2))
            name = f"simulated-noise-{number - rooms:05d}-1-over-f-to-{colour:.2f}.wav"
            kind, samples = "noise", coloured_noise(generator, 10 * RATE, colour)
        soundfile.write(folder / name, samples, RATE, subtype="FLOAT")
        made[kind].append(Recording(str(folder / name)))
    return build("rir", made["rir"], banks)[0], build("noise", made["noise"], banks)[0]


def random_room(generator: np.random.Generator) -> Room:
    """From a small office to a small hall: sides of 2.5 to 10 m, 2.3 to 4 m high, 0.15 to 0.8 s, 0.3 m or more apart.

    A volume can't have any reverberation time: very small rooms with a long one get the longest that a tenth of
    the sound lost at each reflection allows.
    """
    sides = (float(generator.uniform(2.5, 10)), float(generator.uniform(2.5, 10)), float(generator.uniform(2.3, 4)))
    length, width, height = sides
    volume, surface = length * width * height, 2 * (length * width + length * height + width * height)
    shortest, longest = 0.161 * volume / (surface * 0.9), 0.161 * volume / (surface * 0.1)  # Sabine
    seconds = float(np.clip(np.exp(generator.uniform(np.log(0.15), np.log(0.8))), shortest, longest))
    while True:
        room = Room(sides, seconds, _place(generator, sides), _place(generator, sides))
        if room.distance >= 0.3:
            return room


def _place(generator: np.random.Generator, sides: Point) -> Point:
    """30 cm or more from every wall."""
    x, y, z = (float(place * (side - 0.6) + 0.3) for place, side in zip(generator.random(3), sides, strict=True))
    return x, y, z


def impulse_response(room: Room) -> np.ndarray:
    """Float32 (samples,) at 16 kHz, by the image-source method."""
    import pyroomacoustics

    absorption, order = pyroomacoustics.inverse_sabine(room.seconds, room.sides)
    box = pyroomacoustics.ShoeBox(
        room.sides, fs=RATE, materials=pyroomacoustics.Material(absorption), max_order=min(order, 40)
    )
    box.add_source(room.source)
    box.add_microphone(room.microphone)
    box.compute_rir()
    assert box.rir is not None
    return np.asarray(box.rir[0][0], np.float32)


def coloured_noise(generator: np.random.Generator, length: int, colour: float) -> np.ndarray:
    """Float32 (length,) with a power spectrum of 1 / f^colour above 40 Hz, whose level wanders by some decibels."""
    spectrum = np.fft.rfft(generator.standard_normal(length))
    hertz = np.fft.rfftfreq(length, 1 / RATE)
    noise = np.fft.irfft(spectrum * np.maximum(hertz, 40) ** (-colour / 2) * (hertz > 20), length)
    turns = generator.uniform(-6, 6, max(2, length // RATE + 1))
    level = 10 ** (np.interp(np.linspace(0, len(turns) - 1, length), np.arange(len(turns)), turns) / 20)
    noise = noise * level
    return (0.5 * noise / np.abs(noise).max()).astype(np.float32)

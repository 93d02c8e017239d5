"""A stretch of a recording without decoding the rest of it: what a training example costs to read."""

import math
from pathlib import Path

import numpy as np
import soundfile
import soxr

from samevoice.audio import RATE, AudioError
from samevoice.data.sampling import crop_start, wrapped

_PREROLL = 0.3  # seconds that a codec hears before its output is right


def read_crop(path: str, offset: float, duration: float, length: int, key: int) -> np.ndarray:
    """A random crop, float32 (length,) at 16 kHz, of the utterance `offset`..`offset + duration` (seconds) of a file.

    The key decides where (see sampling.crop_start); a shorter utterance starts again. Channels are averaged.
    Raises AudioError for what can't be read, is empty there or has samples that are no numbers.
    """
    whole = round(duration * RATE)
    first = crop_start(whole, length, key)
    there = min(length, whole - first)
    start, seconds = offset + first / RATE, there / RATE
    samples, rate = _soundfile(path, start, seconds) or _ffmpeg(path, start, seconds)
    if rate != RATE:
        samples = soxr.resample(samples, rate, RATE)[:there]
    if not len(samples):
        raise AudioError(path, f"has nothing at {start:.2f} s, where its manifest says it has; prepare it again")
    if not np.isfinite(samples).all():
        raise AudioError(path, "has samples that are NaN or infinite; write it again from its source")
    return wrapped(samples, length)


def _soundfile(path: str, start: float, seconds: float) -> tuple[np.ndarray, int] | None:
    """None when libsndfile does not know the format."""
    try:
        sound = soundfile.SoundFile(path)
    except (soundfile.LibsndfileError, TypeError):
        if not Path(path).is_file():
            raise AudioError(path, "no such file; was it moved after its manifest was written?") from None
        return None
    try:
        with sound:
            rate = sound.samplerate
            sound.seek(min(round(start * rate), sound.frames))
            samples = sound.read(math.ceil(seconds * rate), dtype="float32")
    except soundfile.LibsndfileError as error:
        raise AudioError(path, f"is damaged near {start:.2f} s ({error}); copy it again") from None
    return (samples if samples.ndim == 1 else samples.mean(1, dtype=np.float32)), rate


def _ffmpeg(path: str, start: float, seconds: float) -> tuple[np.ndarray, int]:
    import av
    from av import logging
    from av.error import FFmpegError

    logging.set_level(logging.PANIC)
    pieces: list[np.ndarray] = []
    first = None
    try:
        # The open file, never the path: a playlist among the recordings must not make us open what it names.
        with Path(path).open("rb") as file, av.open(file, "r", options={"protocol_whitelist": "none"}) as container:
            stream = container.streams.audio[0]
            rate, base = stream.codec_context.sample_rate, stream.time_base or 1 / RATE
            begin = float((stream.start_time or 0) * base)
            if start > _PREROLL:
                container.seek(int((start - _PREROLL + begin) / base), stream=stream)
            to_float = av.AudioResampler(format="fltp")
            for frame in container.decode(stream):
                if first is None:
                    first = round((float((frame.pts or 0) * base) - begin) * rate)
                pieces += [converted.to_ndarray().mean(0, dtype=np.float32) for converted in to_float.resample(frame)]
                if first + sum(map(len, pieces)) >= math.ceil((start + seconds) * rate) + 1:
                    break
    except (FFmpegError, IndexError, OSError) as error:
        raise AudioError(path, f"can't be read near {start:.2f} s ({error}); copy it again") from None
    samples = np.concatenate(pieces) if pieces else np.zeros(0, np.float32)
    skip = round(start * rate) - (first or 0)
    return samples[max(skip, 0) :][: math.ceil(seconds * rate)], rate

"""Any recording as 16 kHz mono float32, block by block, so that hours of audio need no more memory than seconds."""

import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
import soundfile
import soxr

RATE = 16000
BLOCK_SECONDS = 20
MAX_HOURS = 2.0
_UNKNOWN_LENGTH = 2**63 - 1  # libsndfile's number of frames where a flac's header was written before its end was known
_HEADERLESS = {".g722": "g722"}  # FFmpeg must be told of these

# A path, the bytes of a file, an open binary file, or (samples, rate)
Audio: TypeAlias = "str | os.PathLike[str] | bytes | BinaryIO | tuple[Any, int]"


class AudioError(ValueError):
    """This recording can't be used; the message names it, says why and what to do."""

    def __init__(self, name: str, problem: str):
        super().__init__(f"{name}: {problem}")
        self.name = name
        self.problem = problem


@dataclass(frozen=True)
class Source:
    """A recording being decoded: `blocks` are mono float32 arrays at `rate`, to be consumed once."""

    name: str
    rate: int
    blocks: Iterator[np.ndarray]


def read(audio: Audio, rate: int = RATE, max_hours: float = MAX_HOURS) -> np.ndarray:
    """The whole recording, float32 (samples,) at `rate`, channels averaged, in [-1, 1]. Raises AudioError."""
    blocks = list(resampled(open_audio(audio, max_hours), rate))
    return np.concatenate(blocks) if blocks else np.zeros(0, np.float32)


def open_audio(audio: Audio, max_hours: float = MAX_HOURS) -> Source:
    """Start decoding. Files that libsndfile can't read (m4a, mp4, webm, aac, ...) go to FFmpeg through PyAV.

    audio: a path, the bytes of a file, an open binary file, or (samples, rate) with samples of shape (samples,),
        or two axes of which the shorter one is the channels; integers are scaled to [-1, 1] by their type's range.
    max_hours: refuse anything longer, before decoding where the header tells, else as soon as it is reached.
    Raises AudioError here or while the blocks are consumed.
    """
    if isinstance(audio, tuple):
        source = _from_samples(*audio)
    else:
        name, file = _open_file(audio)
        source = _from_soundfile(name, file, max_hours) or _from_ffmpeg(name, file)
        if file is not audio:
            source = Source(name, source.rate, _closing(source.blocks, file))
    return Source(source.name, source.rate, _checked(source, max_hours))


def resampled(source: Source, rate: int = RATE) -> Iterator[np.ndarray]:
    """The source's blocks at `rate`, by soxr's streaming resampler: block borders leave no trace."""
    if source.rate == rate:
        yield from source.blocks
        return
    stream = soxr.ResampleStream(source.rate, rate, num_channels=1, dtype="float32", quality="HQ")
    for block in source.blocks:
        yield stream.resample_chunk(block)
    yield stream.resample_chunk(np.zeros(0, np.float32), last=True)


def display_name(audio: Audio) -> str:
    """What messages call this recording."""
    if isinstance(audio, tuple):
        return "samples"
    if isinstance(audio, (bytes, bytearray, memoryview)):
        return "bytes"
    if isinstance(audio, (str, os.PathLike)):
        return os.fspath(audio)
    return str(getattr(audio, "name", "file object"))


def _closing(blocks: Iterator[np.ndarray], file: BinaryIO) -> Iterator[np.ndarray]:
    with file:
        yield from blocks


def _checked(source: Source, max_hours: float) -> Iterator[np.ndarray]:
    """Refuse what no later step could use: nothing at all, NaN, only zeros, too many hours."""
    samples, heard = 0, False
    for block in source.blocks:
        samples += len(block)
        if not np.isfinite(block).all():
            raise AudioError(source.name, "has samples that are NaN or infinite; write it again from its source")
        if samples > max_hours * 3600 * source.rate:
            raise AudioError(source.name, _too_long(max_hours))
        heard = heard or bool(block.any())
        yield block
    if samples == 0:
        raise AudioError(source.name, "holds no audio samples; record it again")
    if not heard:
        raise AudioError(source.name, "is digital silence (every sample is zero); check the microphone or the channel")


def _too_long(max_hours: float, hours: float | None = None) -> str:
    length = f"lasts {hours:.1f} hours, more than" if hours else "is longer than"
    return (
        f"{length} the limit of {max_hours:g} hours, and a recording that long seldom holds one voice; "
        "cut out the part with the speaker you mean, or raise the limit (--max-hours)"
    )


def _open_file(audio: Any) -> tuple[str, BinaryIO]:
    name = display_name(audio)
    if isinstance(audio, (bytes, bytearray, memoryview)):
        file: BinaryIO = io.BytesIO(audio)
    elif isinstance(audio, (str, os.PathLike)):
        try:
            if Path(audio).is_dir():
                raise AudioError(name, "is a folder; name the recordings in it")
            file = Path(audio).open("rb")  # noqa: SIM115 (closed when its blocks end)
        except FileNotFoundError:
            raise AudioError(name, "no such file; check the path") from None
        except PermissionError:
            raise AudioError(name, "no permission to read it; change its mode or its owner") from None
        except OSError as error:
            raise AudioError(name, f"can't be opened: {error.strerror}") from None
    elif hasattr(audio, "read") and hasattr(audio, "seek"):
        file = audio
    else:
        raise TypeError(
            f"audio must be a path, bytes, a seekable binary file or (samples, rate), not {type(audio).__name__}"
        )
    try:
        size = file.seek(0, io.SEEK_END)
    except OSError:
        raise AudioError(name, "is a pipe, and we must be able to go back in a recording; write it to a file") from None
    if size == 0:
        raise AudioError(name, "is empty (0 bytes); record or copy it again")
    file.seek(0)
    return name, file


def _from_samples(samples: Any, rate: int) -> Source:
    array = np.asarray(samples)
    if isinstance(rate, bool) or not isinstance(rate, Real) or rate <= 0 or rate % 1 != 0:
        raise AudioError("samples", f"the rate must be a positive whole number of hertz, not {rate!r}")
    if array.ndim not in (1, 2):
        raise AudioError("samples", f"must have one axis, or two with the channels; got shape {array.shape}")
    if array.size == 0:
        raise AudioError("samples", f"holds no audio samples, shape {array.shape}; record it again")
    if array.ndim == 2 and array.shape[0] < array.shape[1]:
        array = array.T  # (samples, channels)
    if array.dtype.kind not in "iuf":
        raise AudioError("samples", f"must be integers or floats, not {array.dtype}")

    def blocks() -> Iterator[np.ndarray]:
        size = BLOCK_SECONDS * int(rate)
        for start in range(0, len(array), size):
            yield _mono(_to_float(array[start : start + size]))

    return Source("samples", int(rate), blocks())


def _to_float(array: np.ndarray) -> np.ndarray:
    if array.dtype.kind == "f":
        return array.astype(np.float32)
    info = np.iinfo(array.dtype)
    middle = (int(info.max) + int(info.min) + 1) // 2  # 0, or 128 for unsigned bytes
    return ((array.astype(np.float64) - middle) / (int(info.max) + 1 - middle)).astype(np.float32)


def _mono(block: np.ndarray) -> np.ndarray:
    """(samples,) or (samples, channels) -> (samples,)"""
    return block if block.ndim == 1 else block.mean(axis=1, dtype=np.float32)


def _from_soundfile(name: str, file: BinaryIO, max_hours: float) -> Source | None:
    """None when libsndfile does not know the format, or the length, without which it can't read."""
    try:
        sound = soundfile.SoundFile(file)
    except (soundfile.LibsndfileError, TypeError):  # TypeError: a name that ends in .raw, and no rate given
        file.seek(0)
        return None
    if sound.frames >= _UNKNOWN_LENGTH:
        file.seek(0)
        return None
    hours = sound.frames / sound.samplerate / 3600
    if hours > max_hours:
        raise AudioError(name, _too_long(max_hours, hours))

    def blocks() -> Iterator[np.ndarray]:
        read = 0
        with sound:
            while True:
                try:
                    block = sound.read(BLOCK_SECONDS * sound.samplerate, dtype="float32", always_2d=True)
                except soundfile.LibsndfileError as error:
                    raise AudioError(name, _damaged(read / sound.samplerate, str(error))) from None
                if not len(block):
                    break
                read += len(block)
                yield _mono(block)
            # Only flac's header is a promise; the length of mp3 and ogg is an estimate.
            if sound.format == "FLAC" and read < sound.frames:
                whole = f"its header promises {sound.frames / sound.samplerate:.1f} s"
                raise AudioError(name, _damaged(read / sound.samplerate, whole))

    return Source(name, sound.samplerate, blocks())


def _damaged(seconds: float, why: str) -> str:
    return f"is damaged or cut short after {seconds:.1f} s ({why}); copy it again, or decode what is left of it to wav"


def _from_ffmpeg(name: str, file: BinaryIO) -> Source:
    import av  # 0.1 s to import, and most recordings don't need it
    from av import logging
    from av.error import FFmpegError

    logging.set_level(logging.PANIC)
    # Never the path, and no protocol: a playlist among the recordings must not make us open what it names.
    try:
        container = av.open(
            file, "r", format=_HEADERLESS.get(Path(name).suffix), options={"protocol_whitelist": "none"}
        )
    except (FFmpegError, ValueError, OSError):
        raise AudioError(
            name,
            "is not a recording we can read (wav, flac, mp3, ogg, opus, m4a, mp4, webm, aac ...); check its content",
        ) from None
    if not container.streams.audio:
        raise AudioError(name, "has no sound track; name a file that has one")
    rate = container.streams.audio[0].codec_context.sample_rate

    def blocks() -> Iterator[np.ndarray]:
        to_float = av.AudioResampler(format="fltp")  # the sample format only: layout and rate stay
        pending, waiting = [], 0
        with container:
            try:
                for frame in container.decode(audio=0):
                    if frame.sample_rate != rate:
                        rates = f"{rate} to {frame.sample_rate} Hz"
                        raise AudioError(name, f"changes its sample rate from {rates}; cut it there")
                    for converted in to_float.resample(frame):
                        pending.append(converted.to_ndarray().mean(axis=0, dtype=np.float32))
                        waiting += len(pending[-1])
                    if waiting >= BLOCK_SECONDS * rate:
                        yield np.concatenate(pending)
                        pending, waiting = [], 0
            except FFmpegError as error:
                raise AudioError(name, f"is damaged ({error.strerror}); copy it again") from None
        if pending:
            yield np.concatenate(pending)

    return Source(name, rate, blocks())

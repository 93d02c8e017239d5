"""Recordings made for tests."""

import io
from pathlib import Path

import numpy as np
import soundfile

RATE = 16000


def encode(path: Path, samples: np.ndarray, codec: str, rate: int = RATE, container: str | None = None) -> Path:
    """Mono samples through FFmpeg's encoder of this name."""
    import av

    with av.open(str(path), "w", format=container) as out:
        stream = out.add_stream(codec, rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples[None].astype(np.float32), format="fltp", layout="mono")
        frame.sample_rate = rate
        resampler = av.AudioResampler(format=stream.codec_context.format, layout="mono", rate=rate)
        for given in (*resampler.resample(frame), None):
            out.mux(stream.encode(given))
    return path


def silent_video(path: Path) -> Path:
    """A film of ten black frames without a sound track."""
    import av

    with av.open(str(path), "w") as out:
        stream = out.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        for _ in range(10):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8))))
        out.mux(stream.encode(None))
    return path


def sound_bytes(samples: np.ndarray, rate: int = RATE, format: str = "WAV", subtype: str | None = None) -> bytes:
    """A sound file, through libsndfile."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=format, subtype=subtype)
    return file.getvalue()


def chords(seconds: float = 8.0) -> np.ndarray:
    """Plucked major chords: music without a voice."""
    time = np.arange(int(RATE * seconds)) / RATE
    tones = [np.sin(2 * np.pi * k * f * time) / k for f in (220.0, 277.2, 329.6) for k in (1, 2, 3)]
    music = np.sum(tones, 0) * np.exp(-2 * (time % 1))
    return (0.3 * music / np.abs(music).max()).astype(np.float32)


def wav_of_hours(path: Path, hours: float, rate: int = 8000) -> Path:
    """A wav of this length whose content is a hole in the file: made at once, and it takes no room."""
    size = int(hours * 3600) * rate * 2
    header = bytearray(sound_bytes(np.zeros(0), rate, subtype="PCM_16"))
    at = header.index(b"data")
    header[4:8] = (size + at).to_bytes(4, "little")
    header[at + 4 : at + 8] = size.to_bytes(4, "little")
    with path.open("wb") as file:
        file.write(header[: at + 8])
        file.truncate(at + 8 + size)
    return path

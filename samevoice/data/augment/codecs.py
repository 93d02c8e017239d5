"""Lossy codecs on the processor, one utterance at a time: what messengers and archives do to a voice."""

import io

import numpy as np

from samevoice.audio import RATE

_ENCODERS = {"opus": ("libopus", "ogg"), "mp3": ("libmp3lame", "mp3")}
MP3_KBPS = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)  # what MPEG-2 layer 3 has at 16 kHz


def encode_decode(samples: np.ndarray, codec: str, kbps: float) -> np.ndarray:
    """Float32 (samples,) at 16 kHz in [-1, 1] -> the same length and place in time, after the codec.

    codec: "opus" (6 to 510 kbit/s) or "mp3", whose rate is the nearest one that MPEG has at 16 kHz.
    """
    import av
    import soundfile
    import soxr

    encoder, container = _ENCODERS[codec]
    if codec == "mp3":
        kbps = min(MP3_KBPS, key=lambda known: abs(known - kbps))
    file = io.BytesIO()
    with av.open(file, "w", format=container) as out:
        options = {"application": "voip", "compression_level": "5"} if codec == "opus" else {}
        stream = out.add_stream(encoder, rate=RATE, layout="mono", options=options)
        stream.bit_rate = round(kbps * 1000)
        convert = av.AudioResampler(format=stream.codec_context.format, layout="mono", rate=RATE)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[None], np.float32), "fltp", "mono")
        frame.sample_rate = RATE
        for given in (*convert.resample(frame), *convert.resample(None), None):
            out.mux(stream.encode(given))
    file.seek(0)
    decoded, rate = soundfile.read(file, dtype="float32")  # it leaves out the encoder's delay
    decoded = soxr.resample(decoded, rate, RATE)[: len(samples)]
    return np.pad(decoded, (0, len(samples) - len(decoded)))

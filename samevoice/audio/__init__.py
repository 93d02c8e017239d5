"""Sound in, numbers out: decoding and resampling, filter banks, voice activity, signal quality."""

from samevoice.audio.decode import RATE, AudioError, open_audio, read, resampled

__all__ = ["RATE", "AudioError", "open_audio", "read", "resampled"]

"""Read by every Python that has this folder on its path: decoding deadly.wav is the end of it, as by a C library's
defect."""

import os

import samevoice.audio
import samevoice.audio.decode

_open = samevoice.audio.decode.open_audio


def _open_or_die(audio, max_hours):
    if str(audio).endswith("deadly.wav"):
        os._exit(139)
    return _open(audio, max_hours)


samevoice.audio.open_audio = _open_or_die

"""Corpora as people download them: where the recordings are, who speaks, and how many there should be.

One small file for each, which defines CORPUS; this table holds what a list of them needs without importing any.
"""

from importlib import import_module

from samevoice.data.corpora.corpus import Corpus, CorpusError, Found, Published

CORPORA = {
    "voxceleb1": "VoxCeleb1: 1,251 celebrities, interviews",
    "voxceleb2": "VoxCeleb2: 6,112 celebrities, interviews",
    "librispeech": "LibriSpeech: read audiobooks, English",
    "cnceleb": "CN-Celeb 1 and 2: Chinese celebrities, eleven genres",
    "musan": "MUSAN: music, speech and noise, for augmentation",
    "rirs": "RIRS_NOISES: room impulse responses, for augmentation",
    "folder": "Your own: one folder for each speaker",
    "csv": "Your own: a CSV or TSV with a path and a speaker in each row",
    "kaldi": "A Kaldi data folder: wav.scp, utt2spk, perhaps segments",
    "hf": "A Hugging Face data set: its folder, or its name on the hub",
}


def find(name: str) -> Corpus:
    """The corpus of this name; a KeyError for none."""
    if name not in CORPORA:
        raise KeyError(name)
    return import_module(f"samevoice.data.corpora.{name}").CORPUS


__all__ = ["CORPORA", "Corpus", "CorpusError", "Found", "Published", "find"]

"""Small trees in the shapes of the corpora."""

from pathlib import Path

import numpy as np
import soundfile


def sound(seconds: float = 0.1, rate: int = 16000, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(round(seconds * rate))).astype(np.float32)


def put(folder: Path, *names: str, seconds: float = 0.1, rate: int = 16000) -> Path:
    """Write noise to each name below the folder."""
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, sound(seconds, rate, number), rate)
    return folder

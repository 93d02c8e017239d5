"""samevoice: is this the same voice?

>>> import samevoice
>>> verifier = samevoice.load("default")  # doctest: +SKIP
>>> verifier.verify("a.wav", "b.wav").same  # doctest: +SKIP
True
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from samevoice import audio, evaluation, hub, models, runtime
    from samevoice.audio import AudioError
    from samevoice.hub import HubError
    from samevoice.runtime import Verification, Verifier, load

__version__ = "0.1.0"
__all__ = [
    "AudioError", "HubError", "Verification", "Verifier", "audio", "evaluation", "hub", "load", "models", "runtime",
]  # fmt: skip

_FOUND_IN = {
    "AudioError": "samevoice.audio",
    "HubError": "samevoice.hub",
    "Verification": "samevoice.runtime",
    "Verifier": "samevoice.runtime",
    "load": "samevoice.runtime",
}


def __getattr__(name: str):
    """Import on first use: `import samevoice` itself takes a few milliseconds."""
    if name in _FOUND_IN:
        return getattr(importlib.import_module(_FOUND_IN[name]), name)
    if name in __all__:
        return importlib.import_module(f"samevoice.{name}")
    raise AttributeError(f"module 'samevoice' has no attribute {name!r}")

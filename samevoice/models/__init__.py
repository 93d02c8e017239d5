"""Speaker networks, by name. torch is imported when the first network is built."""

from samevoice.models.registry import create, names

__all__ = ["create", "names"]

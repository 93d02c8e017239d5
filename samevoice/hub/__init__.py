"""Model cards, the cache they are pulled into, and other toolkits' checkpoints."""

from samevoice.hub.reference import from_reference

__all__ = ["from_reference"]

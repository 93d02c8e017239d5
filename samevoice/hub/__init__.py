"""Model cards, the cache they are pulled into, and other toolkits' checkpoints."""

from samevoice.hub.errors import HubError
from samevoice.hub.find import find_model
from samevoice.hub.reference import from_reference

__all__ = ["HubError", "find_model", "from_reference"]

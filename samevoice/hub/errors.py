"""What goes wrong between a model's name and its weights."""


class HubError(RuntimeError):
    """A model can't be found, fetched, verified or read; the message says why and what to do."""

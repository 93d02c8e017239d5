"""What can go wrong while training that is the user's to mend."""


class TrainingError(ValueError):
    """Training can't begin or can't go on; the message says why, and that the last checkpoint is whole."""

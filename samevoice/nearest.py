"""What somebody who misspelt a name may have meant."""

import difflib
from collections.abc import Sequence


def nearest(word: str, valid: Sequence[str]) -> str:
    """The rest of a message about an unknown word: the valid ones that are like it, or all of them.

    >>> nearest("adamv", ["sgd", "adam"])
    '; did you mean adam?'
    """
    close = difflib.get_close_matches(word, valid, n=3)
    return f"; did you mean {' or '.join(close)}?" if close else f"; valid: {', '.join(valid)}"

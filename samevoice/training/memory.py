"""How the process keeps its memory while a network is trained on a processor."""

import ctypes

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # mallopt(3)
_LARGEST = 2**31 - 1


def keep_freed() -> None:
    """Have glibc keep freed memory for what is allocated next. Elsewhere than on Linux nothing changes.

    It would give each activation of more than 32 MB back to the system, and every step would begin by having the same
    pages mapped and zeroed again: a third of a step's time (benchmarks/train_step.py).
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # no glibc
        return
    mallopt(_MMAP_MAX, 0)
    mallopt(_TRIM_THRESHOLD, _LARGEST)

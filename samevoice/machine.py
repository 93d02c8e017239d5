"""What figures were measured on, for the record."""

import os
import platform
from pathlib import Path


def processor() -> str:
    """The processor's name as the system tells it, and how many cores it has."""
    name = platform.processor() or platform.machine()
    known = Path("/proc/cpuinfo")
    if known.exists():
        lines = known.read_text(encoding="utf-8", errors="replace").splitlines()
        name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
    return f"{name}, {os.cpu_count()} cores"

"""Which files in a folder are recordings."""

from pathlib import Path

SUFFIXES = frozenset((
    ".wav", ".flac", ".mp3", ".ogg", ".opus", ".oga", ".m4a", ".mp4", ".webm", ".aac", ".aif", ".aiff", ".au",
    ".wma", ".mka", ".mkv", ".mov", ".amr", ".g722", ".w64", ".caf",
))  # fmt: skip


def in_folder(folder: Path | str) -> list[str]:
    """Paths of the recordings in a folder and the folders below it, by their endings, sorted."""
    return sorted(str(p) for p in Path(folder).rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())

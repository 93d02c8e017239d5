"""Alignments as Praat and the Montreal Forced Aligner write them: TextGrid files, long or short."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Praat reads the free-standing strings, numbers and flags and skips every other word ("xmin =", "intervals [1]:")
_TOKEN = re.compile(r'"((?:[^"]|"")*)"|(![^\n]*)|(\S+)')
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$")


class AlignmentError(ValueError):
    """An alignment can't be read; the message says which and why."""


@dataclass(frozen=True)
class Interval:
    """A word, a phone or (text empty) a silence; in seconds."""

    start: float
    end: float
    text: str


@dataclass(frozen=True)
class Tier:
    name: str
    intervals: list[Interval]


def read(path: Path) -> list[Tier]:
    """The interval tiers of a TextGrid file; point tiers are left out. Raises AlignmentError, OSError."""
    tokens = _Tokens(path, _decoded(path))
    if not tokens.text().startswith("ooTextFile") or tokens.text() != "TextGrid":
        raise AlignmentError(f"{path}: is not a TextGrid")
    tokens.skip(2)  # from, to
    tiers = []
    for _ in range(tokens.count()):
        kind, name = tokens.text(), tokens.text()
        tokens.skip(2)
        if kind == "IntervalTier":
            tiers.append(
                Tier(name, [Interval(tokens.number(), tokens.number(), tokens.text()) for _ in range(tokens.count())])
            )
        elif kind == "TextTier":
            for _ in range(tokens.count()):
                tokens.number()
                tokens.text()
        else:
            raise AlignmentError(f"{path}: has a tier of an unknown kind, {kind!r}")
    return tiers


def words_and_phones(tiers: list[Tier]) -> list[Tier]:
    """The tiers to show, words first: those named so (as the Montreal Forced Aligner does), else the first two."""
    named = [
        next((tier for tier in tiers if tier.name.lower().split(" ")[-1] in (kind, kind + "s")), None)
        for kind in ("word", "phone")
    ]
    return [tier for tier in named if tier] or tiers[:2]


def shifted(tier: Tier, seconds: float) -> Tier:
    """The same tier, later by so many seconds; what then ends before 0 is left out."""
    moved = (Interval(max(0.0, i.start + seconds), i.end + seconds, i.text) for i in tier.intervals)
    return Tier(tier.name, [interval for interval in moved if interval.end > 0])


def _decoded(path: Path) -> str:
    content = path.read_bytes()
    encoding = "utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError:
        raise AlignmentError(f"{path}: is not text in UTF-8 or UTF-16") from None


class _Tokens:
    """The strings and numbers of a file, in order; asking for the other kind, or for more, is an error."""

    def __init__(self, path: Path, content: str):
        self.path = path
        self._rest = self._of(content)

    @staticmethod
    def _of(content: str):
        for match in _TOKEN.finditer(content):
            string, _, word = match.groups()
            if string is not None:
                yield string.replace('""', '"')
            elif word and _NUMBER.match(word):
                yield float(word)

    def text(self) -> str:
        return self._next(str, "a text")

    def number(self) -> float:
        return self._next(float, "a number")

    def skip(self, numbers: int) -> None:
        for _ in range(numbers):
            self.number()

    def count(self) -> int:
        number = self.number()
        if number < 0 or number != int(number):
            raise AlignmentError(f"{self.path}: says that there are {number:g} of something")
        return int(number)

    def _next(self, kind: type, name: str) -> Any:
        found = next(self._rest, None)
        if not isinstance(found, kind):
            there = "ends" if found is None else f"has {found!r}"
            raise AlignmentError(f"{self.path}: is not a TextGrid, or a damaged one: it {there} where {name} should be")
        return found

"""Finds people's names by a list that the user gives, as whole words, whatever their case."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

from flywheel.errors import ConfigError
from flywheel.text.plain import plain
from flywheel.text.spans import Span, escaped

WORD = re.compile(r"[^\W\d_](?:[^\W\d_]|[\u0300-\u036f])*")
_BETWEEN = re.compile(r"\s{1,2}|[-'\u2019.]\s?")
_Index = dict[str, tuple[tuple[str, ...], ...]]


def load_names(path: Path | None) -> frozenset[str]:
    """Names of a file, one a line; empty lines and lines that begin with ``#`` are left out.

    Raises:
        ConfigError: the file cannot be read.
    """
    if path is None:
        return frozenset()
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"privacy.names_file {path} cannot be read ({error}); give a UTF-8 file, one name a line"
        ) from error
    stripped = (line.strip() for line in lines)
    return frozenset(line for line in stripped if line and not line.startswith("#"))


def names(text: str, known: frozenset[str]) -> Iterator[Span]:
    """Longest listed names, left to right; a name of several words also matches hyphenated."""
    index = _index(known)
    if not index:
        return
    words = list(_words(text))
    place = 0
    while place < len(words):
        length = _longest(text, words, place, index.get(words[place][2], ()))
        if length:
            start, end = words[place][0], words[place + length - 1][1]
            yield Span("name", start, end, text[start:end])
        place += max(length, 1)


def fold(word: str) -> str:
    """The form in which two spellings of a name's word are the same."""
    return word.lower() if word.isascii() else unicodedata.normalize("NFKC", word).casefold()


@lru_cache(maxsize=64)
def _index(known: frozenset[str]) -> _Index:
    """First word -> the word sequences that begin with it, longest first."""
    index: dict[str, set[tuple[str, ...]]] = {}
    for name in known:
        words = tuple(fold(match.group()) for match in WORD.finditer(plain(name)))
        if words:
            index.setdefault(words[0], set()).add(words)
    return {first: tuple(sorted(found, key=lambda words: (-len(words), words))) for first, found in index.items()}


def _words(text: str) -> Iterator[tuple[int, int, str]]:
    for match in WORD.finditer(text):
        start = match.start() + escaped(text, match.start())
        if start < match.end():
            yield start, match.end(), fold(text[start : match.end()])


def _longest(text: str, words: list[tuple[int, int, str]], place: int, options: tuple[tuple[str, ...], ...]) -> int:
    """Number of words of the longest option that stands at ``place``; 0 for none."""
    for option in options:
        found = words[place : place + len(option)]
        if tuple(word for _, _, word in found) == option and all(
            _BETWEEN.fullmatch(text, left[1], right[0]) for left, right in pairwise(found)
        ):
            return len(option)
    return 0

"""Lines: the bytes of a file -> its JSON values, one by one, whatever the file holds.

Memory is bounded by the longest value allowed, not by the file. Nothing here raises for bad data: a value
that is too long, and the point at which a file breaks off, come out as a ``Line`` with a problem.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, Final, NamedTuple

from pydantic_core import from_json

LIMIT: Final = 8 * 2**20
"""Bytes of one line or JSON value; a longer one is rejected without being held."""
PIECE: Final = 2**20
"""Bytes that are decompressed at once, however well a file was compressed."""

_GZIP: Final = b"\x1f\x8b"
_BOM: Final = b"\xef\xbb\xbf"
_OUTSIDE: Final = re.compile(rb'["\[\]{},]')
_INSIDE: Final = re.compile(rb'["\\]')


class Line(NamedTuple):
    """One value of a file. ``number`` counts lines from 1; in a JSON document it counts its values."""

    number: int
    text: bytes
    problem: str | None = None


class DamagedError(Exception):
    """Compressed data ends or breaks here; everything before it was delivered."""


def read_lines(name: str, chunks: Iterable[bytes], limit: int = LIMIT) -> Iterator[Line]:
    """The values of a file, blank ones left out.

    Args:
        name: ``*.json`` (``.gz`` or not) may be one JSON array, or objects over several lines; every other
            file holds one value a line.
        chunks: the file's bytes. Whether they are gzip is seen from the bytes.
        limit: bytes of one value.
    """
    document = name.removesuffix(".gz").endswith(".json")
    lines = (_split_document if document else _split_lines)(_inflated(iter(chunks)), limit)
    return (line for line in lines if line.problem or line.text.strip())


def _inflated(chunks: Iterator[bytes]) -> Iterator[bytes]:
    head = b""
    while len(head) < len(_GZIP) and (chunk := next(chunks, None)) is not None:
        head += chunk
    chunks = chain([head], chunks)
    return _gunzip(chunks) if head.startswith(_GZIP) else chunks


def _gunzip(chunks: Iterator[bytes]) -> Iterator[bytes]:
    stream = _inflater()
    for chunk in chunks:
        rest = chunk
        while rest := rest.lstrip(b"\0") if stream.eof else rest:  # zeros may fill a file up
            stream = _inflater() if stream.eof else stream  # a file may have several members
            before = stream.copy()
            try:
                piece = stream.decompress(rest, PIECE)
            except zlib.error as error:
                yield from _before_the_damage(before, rest)
                reason = str(error).rpartition(": ")[2]
                raise DamagedError(f"the compressed data is broken here or above ({reason})") from error
            yield piece
            rest = stream.unused_data if stream.eof else stream.unconsumed_tail
    yield stream.flush()
    if not stream.eof:
        raise DamagedError("the compressed file is cut off here")


def _inflater() -> Any:
    return zlib.decompressobj(zlib.MAX_WBITS | 16)


def _before_the_damage(stream: Any, data: bytes) -> Iterator[bytes]:
    """What can be read before ``data`` breaks: zlib gives nothing of a call that fails."""
    for at in range(len(data)):
        try:
            yield stream.decompress(data[at : at + 1], PIECE)
        except zlib.error:
            return


def _split_lines(chunks: Iterator[bytes], limit: int) -> Iterator[Line]:
    number, held, too_long = 0, b"", False
    try:
        for chunk in chunks:
            *ended, held = (held + chunk).split(b"\n")
            for text in ended:
                number += 1
                yield _line(number, text, too_long, limit)
                too_long = False
            if len(held) > limit:
                held, too_long = b"", True
    except DamagedError as error:
        yield Line(number + 1, b"", str(error))
    else:
        if held or too_long:
            yield _line(number + 1, held, too_long, limit)


def _line(number: int, text: bytes, too_long: bool, limit: int) -> Line:
    if too_long or len(text) > limit:
        return Line(number, b"", f"longer than {limit:,} bytes")
    return Line(number, text.removeprefix(_BOM) if number == 1 else text)


def _split_document(chunks: Iterator[bytes], limit: int) -> Iterator[Line]:
    """Many programs name files of JSON lines ``.json`` too: a first line that is an object by itself tells."""
    try:
        head = next(chunks, b"")
    except DamagedError as error:
        yield Line(1, b"", str(error))
        return
    split = _split_lines if _is_object(head.removeprefix(_BOM).split(b"\n", 1)[0]) else _split_values
    yield from split(chain([head], chunks), limit)


def _is_object(text: bytes) -> bool:
    try:
        return isinstance(from_json(text), dict)
    except ValueError:
        return False


def _split_values(chunks: Iterator[bytes], limit: int) -> Iterator[Line]:
    values = _Values(limit)
    try:
        for number, chunk in enumerate(chunks):
            yield from values.feed(chunk if number else chunk.removeprefix(_BOM))
    except DamagedError as error:
        yield Line(values.number + 1, b"", str(error))
    else:
        yield from values.end()


class _Values:
    """Finds where values end by their brackets alone; whether one is JSON is for the reader to say."""

    def __init__(self, limit: int) -> None:
        self.number = 0
        self._limit = limit
        self._depth = 0
        self._array = False  # within a top-level array, whose elements are the values
        self._quoted = self._escaped = self._too_long = False
        self._held = bytearray()

    def feed(self, chunk: bytes) -> Iterator[Line]:
        """The values that end in this chunk."""
        start, at = 0, int(self._escaped)
        self._escaped = False
        while mark := (_INSIDE if self._quoted else _OUTSIDE).search(chunk, at):
            at = mark.end()
            if mark[0] == b'"':
                self._quoted = not self._quoted
            elif mark[0] == b"\\":
                self._escaped, at = at == len(chunk), at + 1
            elif mark[0] in {b"[", b"{"}:
                if mark[0] == b"[" and self._opens_array(chunk[start : at - 1]):
                    self._array, start = True, at
                self._depth += 1
            elif (end := self._end_of_value(mark[0], at)) is not None:
                yield from self._value(chunk[start:end])
                start = at
        self._hold(chunk[start:])

    def end(self) -> Iterator[Line]:
        """What is left when the file ends."""
        if self._depth or self._quoted:
            yield Line(self.number + 1, b"", "the file ends within its JSON")
        else:
            yield from self._value(b"")

    def _opens_array(self, before: bytes) -> bool:
        return self._depth == 0 and self.number == 0 and not (self._too_long or self._held.strip() or before.strip())

    def _end_of_value(self, mark: bytes, at: int) -> int | None:
        """Where the value ends, if a comma or closing bracket that ends at ``at`` ends one."""
        if mark == b",":
            return at - 1 if self._array and self._depth == 1 else None
        self._depth = max(0, self._depth - 1)
        if self._depth:
            return None
        end, self._array = (at - 1 if self._array else at), False
        return end

    def _value(self, text: bytes) -> Iterator[Line]:
        self._hold(text)
        if self._too_long or self._held.strip():
            self.number += 1
            yield _line(self.number, bytes(self._held), self._too_long, self._limit)
        self._held.clear()
        self._too_long = False

    def _hold(self, text: bytes) -> None:
        self._held += text
        if len(self._held) > self._limit:
            self._held.clear()
            self._too_long = True

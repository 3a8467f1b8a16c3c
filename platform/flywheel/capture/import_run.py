"""The run of an import: every line of every file is read, then stored or put among the rejects, and counted."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, Generic, NamedTuple, Protocol, TypeVar

from flywheel.capture.import_format import LINE, RefusedError
from flywheel.capture.import_report import FileReport, ImportReport, Reject
from flywheel.capture.lines import Line, read_lines
from flywheel.capture.rejects import Rejects
from flywheel.capture.sources import SourceFile
from flywheel.errors import InputError, UsageError
from flywheel.telemetry import Progress

CHUNK: Final = 2_000
"""Lines that are stored at once, at most."""
CHUNK_BYTES: Final = 32 * 2**20
"""Their bytes, at most, so that long lines do not fill the memory."""
_REPORT_EVERY: Final = 1_000
_NAMED: Final = 20
"""Kinds of left-out things that a report tells apart."""

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Reader(Protocol[T_co]):
    """Reads the lines of one file."""

    format: str | None
    ignored: Counter[str]

    def read(self, line: bytes) -> T_co:
        """One line's row.

        Raises:
            RefusedError: it is none.
        """
        ...


class Import(NamedTuple, Generic[T]):
    """What is imported, how lines are read, and where rows go."""

    source: str
    files: Sequence[SourceFile]
    reader: Callable[[], Reader[T]]
    store: Callable[[Sequence[T]], Sequence[Counter[str]]]
    """Stores rows that are not there yet; what became of each row, under the names of ``Counts``."""
    limit: int | None = None
    """Lines to take in all; None: every one."""


def run(job: Import[T], *, strict: bool, rejects: Path | None, home: Path, progress: Progress) -> ImportReport:
    """Import, and put the rejects into a file.

    Args:
        job: what to import.
        strict: look at all lines first and store nothing if one is bad.
        rejects: file of the rejects; default ``<home>/rejects/<digest of what was read>.jsonl``.
        home: the configuration's home folder.
        progress: is told of lines.

    Raises:
        InputError: with ``strict``, names the first bad line. UsageError: there is no line at all.
    """
    if strict:
        _check(job, progress)
    with Rejects(rejects, home / "rejects") as bad:
        tally = _Tally(job, bad, progress)
        for file in job.files:
            tally.take(file)
        tally.flush()
        if not tally.lines:
            raise UsageError(f"{job.source} holds no line; give a file with one JSON object a line")
        return tally.report(bad.finish(tally.digest))


def _check(job: Import[T], progress: Progress) -> None:
    number = 0
    for file in job.files:
        reader = job.reader()
        for line in read_lines(file.name, file.chunks()):
            if number == job.limit:
                return
            try:
                _row(reader, line)
            except RefusedError as error:
                raise InputError(file.name, line.number, error.field, error.reason) from error
            number += 1
            if number % _REPORT_EVERY == 0:
                progress.update(0, None, f"checked {number:,} lines")


def _row(reader: Reader[T], line: Line) -> T:
    if line.problem:
        raise RefusedError(LINE, line.problem)
    return reader.read(line.text)


class _Tally(Generic[T]):
    """Takes file after file; rows are stored in chunks, which may span files, and counted for their own file."""

    def __init__(self, job: Import[T], rejects: Rejects, progress: Progress) -> None:
        self._job, self._rejects, self._progress = job, rejects, progress
        self._counts: list[Counter[str]] = []
        self._formats: list[str | None] = []
        self._ignored: Counter[str] = Counter()
        self._waiting: list[tuple[T, Counter[str]]] = []
        self._bytes = 0
        self._seen = hashlib.sha256()
        self.lines = 0

    @property
    def digest(self) -> str:
        """16 hex digits that name the content of the files read."""
        return self._seen.hexdigest()[:16]

    def take(self, file: SourceFile) -> None:
        """All lines of a file."""
        reader, counts = self._job.reader(), Counter[str]()
        self._counts.append(counts)
        for line in read_lines(file.name, self._hashed(file.chunks())):
            if self.lines == self._job.limit:
                break
            self._count(counts)
            try:
                row = _row(reader, line)
            except RefusedError as error:
                counts["rejected"] += 1
                self._rejects.add(Reject(file=file.name, line=line.number, field=error.field, reason=error.reason))
                continue
            self._waiting.append((row, counts))
            self._bytes += len(line.text)
            if len(self._waiting) >= CHUNK or self._bytes >= CHUNK_BYTES:
                self.flush()
        self._formats.append(reader.format)
        self._ignored += reader.ignored

    def flush(self) -> None:
        """Store what waits."""
        if not self._waiting:
            return
        outcomes = self._job.store([row for row, _ in self._waiting])
        for (_, counts), outcome in zip(self._waiting, outcomes, strict=True):
            counts.update(outcome)
        self._waiting, self._bytes = [], 0

    def report(self, rejects: Path | None) -> ImportReport:
        """Everything, once all files are stored."""
        files = [
            FileReport(file=file.name, format=format_, **counts)
            for file, format_, counts in zip(self._job.files, self._formats, self._counts, strict=True)
        ]
        named = dict(self._ignored.most_common(_NAMED))
        if rest := self._ignored.total() - sum(named.values()):
            named["other things"] = rest
        return ImportReport(
            source=self._job.source,
            files=files,
            rejects=str(rejects) if rejects else None,
            first_rejects=self._rejects.first,
            ignored=named,
            **sum(self._counts, Counter()),
        )

    def _count(self, counts: Counter[str]) -> None:
        counts["lines"] += 1
        self.lines += 1
        if self.lines % _REPORT_EVERY == 0:
            self._progress.update(self.lines, None, f"{self.lines:,} lines")

    def _hashed(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            self._seen.update(chunk)
            yield chunk

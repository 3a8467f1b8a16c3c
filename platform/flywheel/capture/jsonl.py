"""Input files of JSON lines: validate everything first, so that a bad line leaves nothing behind."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

from flywheel.errors import InputError, UsageError
from flywheel.telemetry import Progress

M = TypeVar("M", bound=BaseModel)

_BOM = b"\xef\xbb\xbf"
_REPORT_EVERY = 1_000


class Checked(NamedTuple, Generic[M]):
    """A file all of whose lines validate: ``digest`` (16 hex digits) names its content."""

    path: Path
    model: type[M]
    digest: str
    rows: int

    def chunks(self, size: int) -> Iterator[list[M]]:
        """The rows, ``size`` at a time, read from the file again.

        Raises:
            UsageError: the file changed since it was checked.
        """
        chunk: list[M] = []
        seen = hashlib.sha256()
        for number, line in _lines(self.path):
            seen.update(line)
            if row := _parse(self.path, number, line, self.model):
                chunk.append(row)
            if len(chunk) == size:
                yield chunk
                chunk = []
        if seen.hexdigest()[:16] != self.digest:
            raise UsageError(f"{self.path} changed while it was imported; run the same command again")
        if chunk:
            yield chunk


def check(path: Path, model: type[M], progress: Progress) -> Checked[M]:
    """Validate every line of a file without keeping it.

    Raises:
        InputError: names file, line and field of the first bad line.
        UsageError: the file cannot be read, or holds no line.
    """
    seen, rows = hashlib.sha256(), 0
    for number, line in _lines(path):
        seen.update(line)
        rows += _parse(path, number, line, model) is not None
        if number % _REPORT_EVERY == 0:
            progress.update(number, None)
    if rows == 0:
        raise UsageError(f"{path} holds no line; give a file with one JSON object a line")
    return Checked(path, model, seen.hexdigest()[:16], rows)


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        with path.open("rb") as lines:
            yield from enumerate(lines, start=1)
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}); give the path of a JSON lines file") from error


def _parse(path: Path, number: int, line: bytes, model: type[M]) -> M | None:
    text = line.removeprefix(_BOM).strip() if number == 1 else line.strip()
    if not text:
        return None
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "(line)"
        raise InputError(str(path), number, place, first["msg"]) from error

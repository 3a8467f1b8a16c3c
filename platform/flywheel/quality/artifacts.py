"""Rows on disk between two steps: JSON lines, written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

from flywheel.records import Record

R = TypeVar("R", bound=Record)


def write_rows(path: Path, rows: Iterable[Record]) -> Path:
    """Replace ``path`` by one JSON object a line; a kill in between leaves the old file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with draft.open("w", encoding="utf-8") as stream:
        stream.writelines(row.model_dump_json() + "\n" for row in rows)
        stream.flush()
        os.fsync(stream.fileno())
    draft.replace(path)
    return path


def read_rows(path: Path, model: type[R]) -> list[R]:
    """Validated rows of a file that ``write_rows`` wrote."""
    with path.open(encoding="utf-8") as stream:
        return [model.model_validate_json(line) for line in stream]

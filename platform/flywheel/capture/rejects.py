"""The rejects file: one JSON object a rejected line, replaced as a whole, the same for the same input."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from flywheel.capture.import_report import SHOWN, Reject
from flywheel.errors import UsageError


class Rejects:
    """Collects the rejects of one import; nothing appears under its name before ``finish``.

    Args:
        path: where the file goes; None: into ``folder``, named by what was imported.
        folder: where it goes otherwise.
    """

    def __init__(self, path: Path | None, folder: Path) -> None:
        self._path, self._folder = path, path.parent if path else folder
        self._draft = self._folder / f".rejects-{uuid.uuid4().hex}"
        self._stream: IO[str] | None = None
        self.first: list[Reject] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._stream:
            self._stream.close()
            self._draft.unlink(missing_ok=True)

    def add(self, reject: Reject) -> None:
        """Take one.

        Raises:
            UsageError: the file cannot be written.
        """
        if self._stream is None:
            self._stream = self._open()
        self._stream.write(reject.model_dump_json() + "\n")
        if len(self.first) < SHOWN:
            self.first.append(reject)

    def finish(self, name: str) -> Path | None:
        """Put the file in place; without a reject, an older file of this name goes. None: there is no file."""
        path = self._path or self._folder / f"{name}.jsonl"
        if self._stream is None:
            if path.exists():
                path.unlink()
            return None
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._draft.replace(path)
        return path

    def _open(self) -> IO[str]:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            return self._draft.open("w", encoding="utf-8")
        except OSError as error:
            raise UsageError(
                f"{self._folder} cannot be written ({error.strerror}); name a file with --rejects"
            ) from error

"""Progress of a run: rank 0 appends a line a step, the driver reads the file's end now and then.

A file instead of ``ray.train.report``: a report is a barrier over all workers (milliseconds, and the
controller looks only every two seconds), a line is microseconds and survives any process.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

READ_AT_MOST = 4096
SMOOTHING = 0.9


class Progress:
    """Written by rank 0; a no-op on the others (``path`` is None)."""

    def __init__(self, path: Path | None, steps: int) -> None:
        self._steps = steps
        self._file = path.open("a", buffering=1) if path else None
        self._seconds: float | None = None

    def add(self, step: int, epoch: int, loss: float, tokens: int, seconds: float) -> None:
        """Record one optimizer step; ``step`` counts from 1, ``seconds`` is how long it took."""
        if self._file is None:
            return
        old = seconds if self._seconds is None else self._seconds
        self._seconds = SMOOTHING * old + (1 - SMOOTHING) * seconds
        line = {
            "step": step,
            "steps": self._steps,
            "epoch": epoch + 1,
            "loss": loss,
            "tokens_per_s": round(tokens / max(self._seconds, 1e-9), 1),
            "eta_s": round((self._steps - step) * self._seconds, 1),
        }
        self._file.write(json.dumps(line) + "\n")


def latest(path: Path) -> dict[str, Any] | None:
    """The last complete line, or None."""
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - READ_AT_MOST))
            lines = file.read().split(b"\n")
    except FileNotFoundError:
        return None
    for line in reversed(lines[:-1]):  # what follows the last newline is still being written
        try:
            return json.loads(line)
        except ValueError:
            continue  # torn by a killed worker
    return None


class Watcher:
    """Context manager on the driver: hands new progress to a callback from a thread of its own."""

    def __init__(self, path: Path, callback: Callable[[dict[str, Any]], None] | None, interval_s: float = 0.25) -> None:
        self._path, self._callback, self._interval = path, callback, interval_s
        self._stop = threading.Event()
        self._seen: dict[str, Any] | None = latest(path)  # of an earlier, interrupted call
        self._thread = threading.Thread(target=self._watch, name="training-progress", daemon=True)

    def __enter__(self) -> Watcher:
        if self._callback:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._callback:
            self._thread.join()
            self._emit()

    def _watch(self) -> None:
        while not self._stop.wait(self._interval):
            self._emit()

    def _emit(self) -> None:
        line = latest(self._path)
        if line is not None and line != self._seen and self._callback:
            self._seen = line
            self._callback(line)

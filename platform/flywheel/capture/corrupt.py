"""Outbox files that SQLite cannot read: put aside, never deleted, so that one of them does not hold up the others."""

from __future__ import annotations

import logging
import sqlite3
from pathlib import Path
from typing import Final

from prometheus_client import Counter

from flywheel.capture.outbox_file import sync_folder
from flywheel.telemetry import OUTBOX_CORRUPT_TOTAL

log = logging.getLogger(__name__)

FOLDER: Final = "corrupt"
_CODES: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_ASIDE: Final = Counter(OUTBOX_CORRUPT_TOTAL, "Outboxes of dead replicas that were unreadable and put aside")


def is_corrupt(error: BaseException) -> bool:
    """Whether this says that the content of a file is damaged, which no later try changes."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in _CODES


def put_aside(folder: Path, outbox_id: str, reason: BaseException) -> Path:
    """Move the file of a dead replica, with its log, to ``corrupt/``. Returns where it is; tells how to rescue rows."""
    aside = folder / FOLDER
    aside.mkdir(mode=0o700, exist_ok=True)
    for suffix in ("-wal", "-shm", ""):
        path = folder / f"{outbox_id}.db{suffix}"
        if path.exists():
            path.rename(aside / path.name)
    sync_folder(aside)
    sync_folder(folder)
    kept = aside / f"{outbox_id}.db"
    _ASIDE.inc()
    log.error(
        "the outbox of a dead replica is damaged (%s). Acknowledged events may be in it: it was put aside as %s, "
        "nothing of it is deleted. Rescue what is readable with: sqlite3 %s .recover",
        reason,
        kept,
        kept,
    )
    return kept


def put_aside_before(folder: Path) -> list[Path]:
    """Damaged files that wait for a person."""
    return sorted((folder / FOLDER).glob("*.db"))

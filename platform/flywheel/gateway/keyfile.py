"""The key file: one ``ApiKey`` a line as JSON, private to its owner, replaced as a whole.

JSON lines and not YAML: a machine writes it, a diff shows one key a line, and an old file of plain secrets cannot be
mistaken for one.
"""

from __future__ import annotations

import os
import stat
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from filelock import FileLock
from pydantic import ValidationError

from flywheel.config import FlywheelConfig
from flywheel.errors import UsageError
from flywheel.gateway.keys import ApiKey

MODE: Final = 0o600
LOCK_TIMEOUT_S: Final = 10


def key_file(config: FlywheelConfig) -> Path:
    """Where ``flywheel keys`` works: the file the gateway reads, else the one it could be told to read."""
    chosen = config.gateway.api_keys_file
    return chosen.expanduser() if chosen else config.home_path() / "keys" / "api-keys.jsonl"


def parse_keys(text: str, name: str) -> list[ApiKey]:
    """The keys of a file's text; ``name`` is for messages.

    Raises:
        UsageError: which line is wrong and why, without its content: it could be a secret.
    """
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1)]
    keys = [_parsed(number, line, name) for number, line in lines if line and not line.startswith("#")]
    for what, values in (("id", [key.id for key in keys]), ("sha256", [key.sha256 for key in keys])):
        if len(set(values)) < len(values):
            raise UsageError(f"{name} holds one {what} twice; remove one of the two lines")
    return keys


def read_keys(path: Path) -> list[ApiKey]:
    """All keys of the file, revoked and expired ones included.

    Raises:
        UsageError: it is missing, cannot be read, is writable for others, or a line is no key.
    """
    try:
        if path.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise UsageError(f"{path} can be written by others, who could add keys of their own; chmod 600 {path}")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"the key file {path} cannot be read: {error.strerror}; see `flywheel keys create`") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"the key file {path} is not text; make a new one with `flywheel keys create`") from error
    return parse_keys(text, str(path))


def change_keys(path: Path, change: Callable[[list[ApiKey]], Sequence[ApiKey]]) -> None:
    """Replace the keys of the file by ``change`` of them (none if there is no file yet); one process at a time.

    Raises:
        UsageError: it cannot be read or written, or another process holds it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with FileLock(f"{path}.lock", timeout=LOCK_TIMEOUT_S, mode=MODE):
            _write(path, change(read_keys(path) if path.exists() else []))
    except OSError as error:  # the lock's Timeout is one
        raise UsageError(f"the key file {path} cannot be changed: {error.strerror or error}") from error


def _write(path: Path, keys: Sequence[ApiKey]) -> None:
    """Complete and synced before it has its name: a gateway never reads half of it."""
    target = path.resolve()  # a link stays a link
    draft = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, MODE)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.writelines(f"{key.model_dump_json(exclude_none=True)}\n" for key in keys)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)


def _parsed(number: int, line: str, name: str) -> ApiKey:
    if not line.startswith("{"):
        raise UsageError(
            f"line {number} of {name} is no key of ours. Files with one plain secret a line are not read any more, "
            "because whoever sees the file could use them: make new keys with `flywheel keys create` in a new file, "
            "set gateway.api_keys_file to it, and destroy the old one"
        )
    try:
        return ApiKey.model_validate_json(line)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the line"
        raise UsageError(f"line {number} of {name}: {place}: {first['msg']}") from error

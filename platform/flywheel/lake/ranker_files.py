"""Where the files of rankers lie in the lake: below their own content, each written once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol


class Files(Protocol):
    """The part of ``lake.ObjectStore`` that is needed to read."""

    def get_or_none(self, key: str) -> bytes | None:
        """The object, or None."""
        ...


class Keeps(Files, Protocol):
    """The part that is needed to write."""

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Write unless there; True when written."""
        ...


def keep_files(store: Keeps, content: str, files: Mapping[str, bytes]) -> None:
    """Store the files of the ranker with that content hash."""
    for name, data in files.items():
        store.put_if_absent(f"rankers/{content}/{name}", data)


def find_files(store: Files, content: str, names: Iterable[str]) -> dict[str, bytes] | None:
    """Its files; None when one is not there."""
    found = {name: store.get_or_none(f"rankers/{content}/{name}") for name in names}
    return {name: data for name, data in found.items() if data is not None} if all(found.values()) else None

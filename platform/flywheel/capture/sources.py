"""Sources: a path, a folder or an ``s3://`` address -> the files to import, each as a stream of bytes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from flywheel.errors import UsageError
from flywheel.lake.store import ObjectStore

SUFFIXES: Final = tuple(f"{kind}{packed}" for kind in (".jsonl", ".ndjson", ".json") for packed in ("", ".gz"))
"""Files of a folder that are taken; a file that is named itself may have any name."""
CHUNK: Final = 2**20


@dataclass(frozen=True)
class LocalFile:
    """A file on this machine."""

    path: Path

    @property
    def name(self) -> str:
        """As the user knows it."""
        return str(self.path)

    def chunks(self) -> Iterator[bytes]:
        """The bytes, at most 1 MiB at a time.

        Raises:
            UsageError: the file cannot be read.
        """
        try:
            with self.path.open("rb") as stream:
                while chunk := stream.read(CHUNK):
                    yield chunk
        except OSError as error:
            raise _unreadable(self.path, error) from error


@dataclass(frozen=True)
class StoredFile:
    """An object in a bucket."""

    store: ObjectStore
    key: str

    @property
    def name(self) -> str:
        """Its whole address."""
        return f"{self.store.uri}/{self.key}"

    def chunks(self) -> Iterator[bytes]:
        """The bytes, a few MiB at a time.

        Raises:
            LakeError: the object cannot be read, or changed meanwhile.
        """
        return self.store.chunks(self.key)


SourceFile = LocalFile | StoredFile


def find(place: str | Path, storage_options: Mapping[str, str] | None = None) -> list[SourceFile]:
    """The files at ``place``, sorted by name; a folder (or prefix) means those below it that end in ``SUFFIXES``.

    Args:
        place: a file, a folder, or ``s3://bucket/key-or-prefix``.
        storage_options: of the object store, as in ``lake.storage_options``.

    Raises:
        UsageError: there is nothing to read. LakeError: the bucket cannot be read.
    """
    files = _stored(str(place), storage_options) if str(place).startswith("s3://") else _local(Path(place))
    if not files:
        raise UsageError(f"{place} holds no file that ends in {', '.join(SUFFIXES)}; name a file, or another folder")
    return files


def _local(path: Path) -> list[SourceFile]:
    try:
        path.stat()
    except OSError as error:
        raise _unreadable(path, error) from error
    if not path.is_dir():
        return [LocalFile(path)]
    below = (item for item in path.rglob("*") if _wanted(item.relative_to(path).as_posix()) and item.is_file())
    return [LocalFile(item) for item in sorted(below)]


def _stored(address: str, options: Mapping[str, str] | None) -> list[SourceFile]:
    bucket, _, key = address.removeprefix("s3://").partition("/")
    if not bucket:
        raise UsageError(f"{address} names no bucket; write s3://bucket/key, or s3://bucket/prefix/")
    store = ObjectStore(f"s3://{bucket}", options)
    if key and not key.endswith("/") and store.exists(key):
        return [StoredFile(store, key)]
    prefix = key.rstrip("/")
    return [StoredFile(store, found) for found in store.list(prefix) if _wanted(found.removeprefix(f"{prefix}/"))]


def _wanted(name: str) -> bool:
    return name.endswith(SUFFIXES) and not any(part.startswith(".") for part in name.split("/"))


def _unreadable(path: Path, error: OSError) -> UsageError:
    return UsageError(f"{path} cannot be read ({error.strerror}); give the path of a file or folder of JSON lines")

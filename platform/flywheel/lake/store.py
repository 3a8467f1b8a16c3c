"""Objects under one root: a folder or ``s3://bucket/prefix``, through one library and one code path."""

from __future__ import annotations

import fcntl
import os
import re
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import obstore
from obstore.exceptions import AlreadyExistsError as ObjectExistsError
from obstore.exceptions import NotFoundError, PreconditionError
from obstore.store import LocalStore, S3Store

from flywheel.errors import LakeError, NotFoundInLakeError
from flywheel.lake.problems import explained

Strip = Callable[[bytes], tuple[bytes, int]]
"""Bytes -> those that stay, and how many things were taken out."""
_MISSING = (NotFoundError, FileNotFoundError)
"""obstore raises the built-in one for a folder."""
ABANDONED = timedelta(hours=1)
"""A file that is still half written after so long has no writer any more."""
_STAGED = re.compile(r"#\d+$")
CHUNK = 4 * 2**20
"""Bytes of one piece of a large object."""
SINGLE_PUT = 64 * 2**20
"""Bytes that ``put`` sends in one request. Parts of an upload that a kill cuts off stay in the bucket, unseen."""
CONFLICTS = 6
"""Times that a conditional write is tried while the storage takes it for one too many and shows no other."""
_CONFLICT_PAUSE_S = 0.05
"""Before the second time; doubled each time."""
RETRIES = {"max_retries": "10", "retry_timeout": "10s", "connect_timeout": "5s", "timeout": "60s"}
"""Give up on a dead server in seconds; the libraries' own default is three minutes."""


def resolve_uri(uri: str | Path) -> str:
    """An absolute folder path, or the ``s3://`` address without a trailing slash.

    Raises:
        LakeError: for any other scheme.
    """
    text = str(uri)
    if text.startswith("s3://"):
        return text.rstrip("/")
    if text.startswith("file://"):
        text = text.removeprefix("file://")
    if "://" in text:
        raise LakeError(f"lake address {text} is neither a folder nor s3://bucket/prefix; correct lake.uri")
    return str(Path(text).expanduser().resolve())


def storage_options(uri: str, options: Mapping[str, str] | None = None) -> dict[str, str]:
    """Options for obstore and delta-rs alike: lower-case keys, conditional puts by ETag, short retries."""
    if not uri.startswith("s3://"):
        return {}
    given = {key.lower(): str(value) for key, value in (options or {}).items()}
    return {"aws_conditional_put": "etag", **RETRIES, **given}


class ObjectStore:
    """Named byte strings. Safe to pickle and to share between threads and processes.

    On a folder every write is synced to the disk before it returns, so that whoever deletes the
    original after a ``put`` loses nothing to a power cut.
    """

    def __init__(self, uri: str, options: Mapping[str, str] | None = None) -> None:
        self.uri = resolve_uri(uri)
        self.options = storage_options(self.uri, options)
        self._folder = None if self.uri.startswith("s3://") else Path(self.uri)
        self._store = self._connect()

    def __reduce__(self) -> tuple[Any, ...]:
        return ObjectStore, (self.uri, self.options)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Write ``key`` unless it exists. True: written by us. False: it was there already, and is unchanged.

        S3 also refuses a write for another that is still under way and may yet fail (409): only what is really there
        counts as there, since our caller may delete the only other copy.

        Raises:
            LakeError: writes of others were in the way every time, and none of them arrived.
        """
        for attempt in range(CONFLICTS):
            if attempt:
                time.sleep(_CONFLICT_PAUSE_S * 2 ** (attempt - 1))
            if self._create(key, data):
                return True
            if self.exists(key):
                with explained(self._place(key)):
                    self._sync(key)  # the winner may not have synced yet, and our caller will rely on it
                return False
        raise LakeError(f"{self._place(key)}: the storage refused {CONFLICTS} writes for others that never arrived")

    def put(self, key: str, data: bytes) -> None:
        """Write ``key``, replacing what is there. For projections only; facts use ``put_if_absent``."""
        with explained(self._place(key)):
            obstore.put(self._store, key, data, use_multipart=len(data) > SINGLE_PUT)
            self._sync(key)

    def strip(self, key: str, without: Strip, *, dry: bool = False) -> int:
        """Take things out of an object, for good; of several callers at once none brings back what another took.

        For erasure only: facts are written once and otherwise never change.

        Args:
            key: the object; one that is not there holds nothing.
            without: its bytes -> the bytes that stay, and how many things went.
            dry: only count.

        Returns:
            How many things went.
        """
        with explained(self._place(key)), self._stripping():
            while True:
                try:
                    found = obstore.get(self._store, key)
                    kept, removed = without(bytes(found.bytes()))
                    if removed and not dry:
                        self._put_over(key, kept, found.meta["e_tag"])
                except _MISSING:
                    return 0
                except PreconditionError:
                    continue  # somebody else changed it meanwhile: look again
                return removed

    def get(self, key: str) -> bytes:
        """The bytes of ``key``.

        Raises:
            NotFoundInLakeError: there is no such object.
        """
        with explained(self._place(key)):
            return bytes(obstore.get(self._store, key).bytes())

    def get_or_none(self, key: str) -> bytes | None:
        """The bytes of ``key``, or None where there is no such object."""
        try:
            return self.get(key)
        except NotFoundInLakeError:
            return None

    def chunks(self, key: str, size: int = CHUNK) -> Iterator[bytes]:
        """The bytes of ``key``, at most ``size`` at a time, all of one version of the object.

        A request a chunk: one that lasted as long as its reader takes would run into the client's time limit.

        Raises:
            NotFoundInLakeError: there is no such object. LakeError: it was replaced meanwhile.
        """
        with explained(self._place(key)):
            meta = obstore.head(self._store, key)
            for start in range(0, meta["size"], size):
                wanted: Any = {"range": (start, min(start + size, meta["size"])), "if_match": meta["e_tag"]}
                yield bytes(obstore.get(self._store, key, options=wanted).bytes())

    def exists(self, key: str) -> bool:
        """Whether ``key`` is there."""
        with explained(self._place(key)):
            try:
                obstore.head(self._store, key)
            except _MISSING:
                return False
            return True

    def list(self, prefix: str = "", *, after: str | None = None, older_than: timedelta | None = None) -> list[str]:
        """Sorted keys below the folder ``prefix`` (whole path segments; "" lists everything).

        ``after``: only keys that sort behind this one; S3 skips the others without naming them. ``older_than``: only
        objects that were last written longer ago than that, by the storage's clock.
        """
        limit = datetime.max.replace(tzinfo=UTC) if older_than is None else datetime.now(UTC) - older_than
        with explained(self._place(prefix)):
            chunks = obstore.list(self._store, prefix or None, offset=after)
            return sorted(item["path"] for chunk in chunks for item in chunk if item["last_modified"] < limit)

    def remove_staged(self, prefix: str = "", *, older_than: timedelta = ABANDONED) -> int:
        """Delete what writers that were killed left half written, which no listing shows; returns how many files.

        On a folder only: a write goes to ``<name>#<number>`` first. On S3 nothing appears before it is whole.
        """
        if self._folder is None:
            return 0
        limit, removed = time.time() - older_than.total_seconds(), 0
        for path in (self._folder / prefix).rglob("*#[0-9]*"):
            if _STAGED.search(path.name) and path.is_file() and path.stat().st_mtime < limit:
                path.unlink(missing_ok=True)
                removed += 1
        return removed

    def folders(self, prefix: str) -> list[str]:
        """Sorted names of the folders directly below the folder ``prefix``, whatever they hold."""
        with explained(self._place(prefix)):
            found = obstore.list_with_delimiter(self._store, prefix)["common_prefixes"]
            return sorted(path.rsplit("/", 1)[-1] for path in found)

    def delete(self, keys: Sequence[str]) -> None:
        """Remove objects; one that is already gone is no error."""
        if not keys:
            return
        with explained(self._place(keys[0])):
            if self._folder is None:
                obstore.delete(self._store, list(keys))
                return
            for key in keys:
                try:
                    obstore.delete(self._store, key)
                except _MISSING:
                    continue

    def upload_folder(self, folder: Path, prefix: str) -> list[str]:
        """Copy every file below ``folder`` to ``prefix/...``; returns the sorted keys."""
        keys = []
        for path in sorted(item for item in folder.rglob("*") if item.is_file()):
            key = f"{prefix}/{path.relative_to(folder).as_posix()}"
            with explained(self._place(key)):
                obstore.put(self._store, key, path)
                self._sync(key)
            keys.append(key)
        return keys

    def download_folder(self, prefix: str, folder: Path) -> Path:
        """Copy every object below ``prefix`` into ``folder``; each file appears whole or not at all.

        Raises:
            NotFoundInLakeError: nothing is below ``prefix``.
        """
        keys = self.list(prefix)
        if not keys:
            raise NotFoundInLakeError(f"{self._place(prefix)} is empty; check the name, or run the step that writes it")
        for key in keys:
            target = folder / key.removeprefix(prefix.rstrip("/") + "/")
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
            with explained(self._place(key)):
                try:
                    with partial.open("wb") as out:
                        for chunk in obstore.get(self._store, key).stream():
                            out.write(chunk)
                    partial.replace(target)
                finally:
                    partial.unlink(missing_ok=True)
        return folder

    def local_path(self, key: str) -> Path | None:
        """Where ``key`` lies on this machine's disk; None on an object store."""
        return None if self._folder is None else self._folder / key

    def _create(self, key: str, data: bytes) -> bool:
        with explained(self._place(key)):
            try:
                obstore.put(self._store, key, data, mode="create", use_multipart=False)
            except ObjectExistsError:
                return False
            self._sync(key)
        return True

    @contextmanager
    def _stripping(self) -> Iterator[None]:
        """On a folder: one caller at a time. S3 compares ETags instead."""
        if self._folder is None:
            yield
            return
        handle = os.open(self._folder, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def _put_over(self, key: str, data: bytes, e_tag: str | None) -> None:
        if self._folder is None and e_tag is not None:
            obstore.put(self._store, key, data, mode={"e_tag": e_tag}, use_multipart=False)
        else:
            obstore.put(self._store, key, data)
            self._sync(key)

    def _connect(self) -> LocalStore | S3Store:
        with explained(self.uri):
            if self._folder is not None:
                return LocalStore(self._folder, mkdir=True)
            config: Any = dict(self.options)
            retry: Any = {
                "max_retries": int(config.pop("max_retries")),
                "retry_timeout": _duration(config.pop("retry_timeout")),
            }
            client: Any = {name: config.pop(name) for name in ("connect_timeout", "timeout")}
            client["allow_http"] = config.pop("aws_allow_http", "false").lower() == "true"
            return S3Store.from_url(self.uri, config=config, client_options=client, retry_config=retry)

    def _place(self, key: str) -> str:
        return f"{self.uri}/{key}"

    def _sync(self, key: str) -> None:
        if self._folder is not None:
            sync_file(self._folder / key)


def sync_file(path: Path) -> None:
    """Flush a file and its directory entry to the disk. A file removed meanwhile needs no sync."""
    for target in (path, path.parent):
        try:
            handle = os.open(target, os.O_RDONLY)
        except FileNotFoundError:
            continue
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _duration(text: str) -> Any:
    from datetime import timedelta

    return timedelta(seconds=float(text.removesuffix("s")))

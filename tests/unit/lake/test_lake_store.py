"""Objects in a folder, and the words of storage errors."""

import errno
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from deltalake.exceptions import DeltaError
from obstore.exceptions import GenericError, PermissionDeniedError

from flywheel.errors import LakeError, NotFoundInLakeError
from flywheel.lake.problems import explain
from flywheel.lake.store import ObjectStore, resolve_uri, storage_options


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return ObjectStore(str(tmp_path / "lake"))


def test_put_if_absent_keeps_the_first(store: ObjectStore):
    assert store.put_if_absent("a/b.json", b"1")
    assert not store.put_if_absent("a/b.json", b"2")
    assert store.get("a/b.json") == b"1"
    store.put("a/b.json", b"3")
    assert store.get("a/b.json") == b"3"


def test_a_large_object_comes_in_chunks_of_one_version(store: ObjectStore):
    store.put("a", bytes(range(10)))
    assert list(store.chunks("a", size=4)) == [bytes(range(4)), bytes(range(4, 8)), bytes([8, 9])]
    store.put("empty", b"")
    assert list(store.chunks("empty")) == []
    with pytest.raises(NotFoundInLakeError):
        list(store.chunks("none"))
    chunks = store.chunks("a", size=4)
    next(chunks)
    store.put("a", b"something else")
    with pytest.raises(LakeError, match="a could not be read"):
        next(chunks)


def test_one_of_many_racing_writers_wins(store: ObjectStore):
    with ThreadPoolExecutor(16) as pool:
        for key in map(str, range(20)):
            won = pool.map(lambda n, key=key: (store.put_if_absent(key, b"%d" % n), n), range(16))
            winners = [n for is_winner, n in won if is_winner]
            assert len(winners) == 1
            assert store.get(key) == b"%d" % winners[0]


def without(letter: bytes):
    return lambda data: (data.replace(letter, b""), data.count(letter))


def test_strip_takes_out_what_it_is_asked_to(store: ObjectStore):
    store.put_if_absent("fact", b"abcab")
    assert store.strip("fact", without(b"a"), dry=True) == 2
    assert store.get("fact") == b"abcab"
    assert store.strip("fact", without(b"a")) == 2
    assert store.strip("fact", without(b"a")) == 0
    assert store.get("fact") == b"bcb"
    assert store.strip("not/there", without(b"a")) == 0
    assert not store.exists("not/there")


def test_no_strip_brings_back_what_another_took(store: ObjectStore):
    letters = [bytes([n]) for n in range(ord("a"), ord("q"))]
    for key in map(str, range(5)):
        store.put(key, b"".join(letters) + b"!")
        with ThreadPoolExecutor(16) as pool:
            assert sum(pool.map(lambda letter, key=key: store.strip(key, without(letter)), letters)) == len(letters)
        assert store.get(key) == b"!"


def test_keys_list_by_whole_segments_and_sorted(store: ObjectStore):
    for key in ("landing/triage/2", "landing/triage/1", "landing/triage-2/1", "other/x"):
        store.put(key, b"")
    assert store.list("landing/triage") == ["landing/triage/1", "landing/triage/2"]
    assert store.list("landing/triage/") == ["landing/triage/1", "landing/triage/2"]
    assert len(store.list("")) == 4
    assert store.list("nothing") == []


def test_what_is_missing(store: ObjectStore, tmp_path: Path):
    assert store.get_or_none("x") is None
    assert not store.exists("x")
    store.delete(["x"])
    store.delete([])
    with pytest.raises(NotFoundInLakeError, match="x is not in the lake"):
        store.get("x")
    with pytest.raises(NotFoundInLakeError, match="empty"):
        store.download_folder("models/none", tmp_path / "copy")


def test_folders_travel_whole(store: ObjectStore, tmp_path: Path):
    source = tmp_path / "model"
    (source / "sub").mkdir(parents=True)
    (source / "config.json").write_text("{}")
    (source / "sub" / "w.bin").write_bytes(os.urandom(6_000_000))
    assert store.upload_folder(source, "models/m") == ["models/m/config.json", "models/m/sub/w.bin"]
    copied = store.download_folder("models/m", tmp_path / "copy")
    assert (copied / "sub" / "w.bin").read_bytes() == (source / "sub" / "w.bin").read_bytes()
    assert sorted(path.name for path in copied.rglob("*") if path.is_file()) == ["config.json", "w.bin"]
    assert store.local_path("models/m") == Path(store.uri) / "models/m"


def test_a_store_travels_to_other_processes(store: ObjectStore):
    store.put("a", b"1")
    assert pickle.loads(pickle.dumps(store)).get("a") == b"1"


def test_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert resolve_uri("lake") == str(tmp_path / "lake")
    assert resolve_uri(f"file://{tmp_path}/lake/") == str(tmp_path / "lake")
    assert resolve_uri("s3://bucket/prefix/") == "s3://bucket/prefix"
    with pytest.raises(LakeError, match="neither a folder nor s3"):
        resolve_uri("gs://bucket")


def test_options_put_conditionally_by_etag_and_a_users_own_win():
    assert storage_options("/folder", {"aws_region": "x"}) == {}
    options = storage_options("s3://b", {"AWS_REGION": "x", "max_retries": "9"})
    assert options["aws_conditional_put"] == "etag"
    assert (options["aws_region"], options["max_retries"]) == ("x", "9")


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (GenericError("Generic LocalFileSystem error: No space left on device (os error 28)"), "disk is full"),
        (OSError(errno.ENOSPC, "No space left on device"), "disk is full"),
        (
            PermissionDeniedError("Server returned 403 Forbidden <Code>SignatureDoesNotMatch</Code>"),
            "AWS_SECRET_ACCESS_KEY",
        ),
        (GenericError("status 404 <Code>NoSuchBucket</Code>"), "create it or correct lake.uri"),
        (DeltaError("error sending request for url (http://127.0.0.1:9/)"), "cannot be reached"),
        (GenericError("builder error: BadScheme http"), "aws_allow_http"),
        (PermissionError(errno.EACCES, "Permission denied"), "may not write there"),
        (GenericError("PUT http://169.254.169.254/latest/api/token: 403 Forbidden"), "set AWS_ACCESS_KEY_ID"),
        (GenericError("File too large (os error 27)"), "ulimit -f"),
        (DeltaError("s3://b/403-13/os error 280: something new"), "something new"),
    ],
)
def test_errors_say_what_to_do(error: Exception, advice: str):
    said = explain("s3://b/key", error)
    assert type(said) is LakeError
    assert str(said).startswith("s3://b/key")
    assert advice in str(said)


FULL = """
import resource, signal, sys
from flywheel.errors import LakeError
from flywheel.lake.store import ObjectStore
store = ObjectStore(sys.argv[1])
store.put("old", b"kept")
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    store.put_if_absent("new", b"x" * 200_000)
except LakeError as error:
    print(error, store.get("old"), store.list(""))
"""


def test_a_real_write_that_finds_no_room_leaves_nothing_behind(tmp_path: Path):
    done = subprocess.run([sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, check=True)
    assert "run the same command again" in done.stdout, done.stdout + done.stderr
    assert "b'kept' ['old']" in done.stdout

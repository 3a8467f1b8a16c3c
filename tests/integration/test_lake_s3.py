"""The lake on a real S3 server: the same behaviour as on a folder, and errors that say what to do."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.compute as pc
import pytest

from flywheel.errors import LakeError, NotFoundInLakeError
from flywheel.lake.keys import Keyring
from flywheel.lake.manifests import Manifest, lineage, list_manifests, read_manifest, write_manifest
from flywheel.lake.store import ObjectStore
from flywheel.lake.tables import Lake
from flywheel.records import Consent, Signal

pytestmark = [pytest.mark.s3, pytest.mark.slow]


def signal(n: int) -> Signal:
    return Signal(inference_id=f"i{n}", signal="length", version="1", value=float(n))


@pytest.fixture
def s3_lake(s3_environment) -> Lake:
    return Lake(s3_environment.new_lake_uri(), s3_environment.options)


def test_tables_behave_as_on_a_folder(s3_lake: Lake):
    assert s3_lake.version("signals") is None
    assert s3_lake.append("signals", [signal(1)], app="a", version=0, flow="triage")
    assert not s3_lake.append("signals", [signal(1)], app="a", version=0, flow="triage")
    parts = pickle.loads(pickle.dumps(s3_lake)).write_parts("signals", [signal(2)], flow="triage")
    assert s3_lake.commit_files("signals", parts, app="b", version=0)
    at = s3_lake.version("signals")
    for n in range(22):  # past a checkpoint
        assert s3_lake.append("signals", [], app="c", version=n)
    assert s3_lake.compact("signals") == 1
    assert s3_lake.last_committed("signals", "c") == 21
    found = sorted(s3_lake.records("signals", Signal, flow="triage", at=at), key=lambda row: row.inference_id)
    assert found == [signal(1), signal(2)]
    assert s3_lake.read("signals", flow="other").num_rows == 0
    ts = datetime(2026, 1, 1, tzinfo=UTC)
    s3_lake.append("consents", [Consent(subject="s", purpose="training", ts=ts, state="granted")], app="a", version=0)
    assert s3_lake.read_partition_ids("consents", "triage", ["2026-01-01"], "subject") == {"s"}


def test_only_one_of_many_racing_writers_wins(s3_lake: Lake):
    with ThreadPoolExecutor(16) as pool:
        for round_number in range(2):
            key = f"routing/triage/{round_number}.json"
            won = list(pool.map(lambda n, key=key: (s3_lake.store.put_if_absent(key, b"%d" % n), n), range(16)))
            winners = [n for is_winner, n in won if is_winner]
            assert len(winners) == 1
            assert s3_lake.store.get(key) == b"%d" % winners[0]


def test_no_strip_brings_back_what_another_took(s3_lake: Lake):
    letters = [bytes([n]) for n in range(ord("a"), ord("i"))]
    s3_lake.store.put("fact", b"".join(letters) + b"!")

    def take(letter: bytes) -> int:
        return s3_lake.store.strip("fact", lambda data: (data.replace(letter, b""), data.count(letter)))

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(take, letters)) == len(letters)
    assert s3_lake.store.get("fact") == b"!"
    assert s3_lake.store.strip("none", lambda data: (data, 1)) == 0


def test_deleted_rows_are_in_no_file(s3_lake: Lake):
    for n in range(3):
        rows = [signal(n), signal(10 + n)]
        s3_lake.append("signals", rows, app="a", version=n, flow="triage")
    at = s3_lake.version("signals")
    assert s3_lake.delete("signals", pc.field("value") >= 10) == 3
    assert len(s3_lake.scrub("signals")) == 3
    assert sorted(row.value or 0 for row in s3_lake.records("signals", Signal)) == [0, 1, 2]
    assert len([key for key in s3_lake.store.list("tables/signals") if key.endswith(".zstd.parquet")]) == 3
    with pytest.raises(NotFoundInLakeError, match="cannot be read any more"):
        s3_lake.read("signals", at=at)


def test_objects_and_folders(s3_lake: Lake, tmp_path: Path):
    store = s3_lake.store
    source = tmp_path / "model"
    (source / "sub").mkdir(parents=True)
    (source / "config.json").write_text("{}")
    (source / "sub" / "weights").write_bytes(bytes(range(256)) * 50_000)  # 12.8 MB: multipart
    keys = store.upload_folder(source, "models/m1")
    assert keys == store.list("models/m1") == ["models/m1/config.json", "models/m1/sub/weights"]
    copied = store.download_folder("models/m1", tmp_path / "copy")
    assert (copied / "sub" / "weights").read_bytes() == (source / "sub" / "weights").read_bytes()
    assert store.exists("models/m1/config.json")
    assert store.get_or_none("models/m1/none") is None
    store.put("models/m1/config.json", b"new")
    assert store.get("models/m1/config.json") == b"new"
    store.delete([*keys, "models/m1/never-there"])
    assert store.list("models/m1") == []
    assert store.local_path("models") is None
    with pytest.raises(NotFoundInLakeError):
        store.get("models/m1/config.json")


def test_manifests_and_subject_keys(s3_lake: Lake, tmp_path: Path):
    base = {"flow": "triage", "code_version": "0.1", "config_hash": "c", "seed": 0}
    assert write_manifest(s3_lake, Manifest(kind="dataset", id="d1", **base))
    child = Manifest(kind="model", id="m1", parents=["dataset/d1"], **base)
    assert write_manifest(s3_lake, child)
    assert not write_manifest(s3_lake, child)
    assert [item.ref for item in lineage(s3_lake, "model", "m1")] == ["model/m1", "dataset/d1"]
    assert read_manifest(s3_lake, "model", "m1") == child
    assert list_manifests(s3_lake, "model", "triage") == [child]
    keyring = Keyring(tmp_path)
    mac = keyring.row_mac(s3_lake.store, "s", "row")
    keyring.destroy_subject_key(s3_lake.store, "s")
    assert keyring.row_mac(s3_lake.store, "s", "row") != mac


@pytest.mark.parametrize("use", ["object", "table"])
def test_a_wrong_key_says_so(s3_environment, monkeypatch: pytest.MonkeyPatch, use: str):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(LakeError, match="AWS_SECRET_ACCESS_KEY"):
        _touch(Lake(s3_environment.new_lake_uri(), s3_environment.options), use)


def test_a_missing_bucket_says_so(s3_environment):
    # SeaweedFS makes a bucket at the first write of an admin, so only a read can meet a missing one here.
    lake = Lake("s3://no-such-bucket/x", s3_environment.options)
    for use in (lambda: lake.store.list("manifests"), lambda: lake.read("signals")):
        with pytest.raises(LakeError, match=r"create it or correct lake\.uri"):
            use()


@pytest.mark.timeout(90)
@pytest.mark.parametrize("use", ["object", "table"])
def test_an_unreachable_server_says_so(s3_environment, use: str):
    options = {**s3_environment.options, "aws_endpoint": "http://127.0.0.1:9", "max_retries": "2"}
    with pytest.raises(LakeError, match="cannot be reached"):
        _touch(Lake("s3://flywheel/x", options), use)


@pytest.mark.timeout(90)
@pytest.mark.parametrize("use", ["object", "table"])
def test_a_missing_key_says_so(s3_environment, monkeypatch: pytest.MonkeyPatch, use: str):
    for name in s3_environment.environment:
        monkeypatch.delenv(name)
    # Stands in for the metadata service of a cloud machine, which would be asked for a key now.
    options = {**s3_environment.options, "aws_metadata_endpoint": "http://169.254.169.254:9", "max_retries": "0"}
    with pytest.raises(LakeError, match="set AWS_ACCESS_KEY_ID"):
        _touch(Lake("s3://flywheel/x", options), use)


@pytest.mark.parametrize("use", ["object", "table"])
def test_plain_http_must_be_allowed(s3_environment, use: str):
    options = {key: value for key, value in s3_environment.options.items() if key != "aws_allow_http"}
    with pytest.raises(LakeError, match="aws_allow_http"):
        _touch(Lake("s3://flywheel/x", options), use)


def test_upper_case_options_work_too(s3_environment):
    options = {key.upper(): value for key, value in s3_environment.options.items()}
    assert ObjectStore(s3_environment.new_lake_uri(), options).put_if_absent("a", b"")


def _touch(lake: Lake, use: str) -> None:
    if use == "object":
        lake.store.put_if_absent("key", b"x")
    else:
        lake.append("signals", [signal(1)], app="a", version=0)

"""Import from a real S3 server: a key, a prefix, gzip, an object that is replaced meanwhile."""

import gzip
import json

import pytest

from flywheel.capture.importer import import_cases, import_interactions
from flywheel.capture.sources import find
from flywheel.config import FlywheelConfig, LakeConfig
from flywheel.errors import LakeError, UsageError
from flywheel.lake.keys import Keyring
from flywheel.lake.store import CHUNK, ObjectStore
from flywheel.lake.tables import open_lake

pytestmark = [pytest.mark.s3, pytest.mark.slow]


def line(n: int, text: str = "hello") -> bytes:
    row = {
        "flow": "triage", "user": f"u{n}", "messages": [{"role": "user", "content": text}], "response": "yes",
        "consent": ["training"], "model": f"m{n}",
    }  # fmt: skip
    return json.dumps(row).encode() + b"\n"


def test_a_prefix_on_s3_is_a_folder(tmp_path, s3_environment):
    logs = s3_environment.new_lake_uri()
    store = ObjectStore(logs, s3_environment.options)
    store.put("2025/01/a.jsonl", line(0) + b"broken\n" + line(1, "x" * (CHUNK + 7)))
    store.put("2025/02/b.jsonl.gz", gzip.compress(b"".join(line(n) for n in range(2, 500)))[:-9])
    store.put("2025/02/notes.txt", b"not one of them")
    store.put("2025-other/c.jsonl", line(999))
    lake_config = LakeConfig(uri=s3_environment.new_lake_uri(), storage_options=s3_environment.options)
    config = FlywheelConfig(home=tmp_path, lake=lake_config)
    lake, keyring = open_lake(config), Keyring(tmp_path)

    report = import_interactions(lake, config, keyring, f"{logs}/2025/")
    assert [file.file for file in report.files] == [f"{logs}/2025/01/a.jsonl", f"{logs}/2025/02/b.jsonl.gz"]
    assert [file.rejected for file in report.files] == [1, 1]
    assert (report.lines, report.inferences) == (report.inferences + 2, lake.read("inferences").num_rows)
    assert report.inferences > 400
    again = import_interactions(lake, config, keyring, f"{logs}/2025")
    assert (again.inferences, again.duplicates, again.rejects) == (0, report.inferences, report.rejects)
    assert import_interactions(lake, config, keyring, f"{logs}/2025-other/c.jsonl", strict=True).inferences == 1

    case = {"messages": [{"role": "user", "content": "x"}], "check": {"kind": "exact", "expected": "y"}, "suite": "s"}
    store.put("cases.json", json.dumps([case]).encode())
    assert import_cases(lake, config, f"{logs}/cases.json").cases == 1


def test_what_is_not_on_s3_says_so(s3_environment):
    options = s3_environment.options
    with pytest.raises(UsageError, match="holds no file"):
        find(f"{s3_environment.new_lake_uri()}/nothing.jsonl", options)
    with pytest.raises(LakeError, match="bucket does not exist"):
        find("s3://no-such-bucket-here/logs/", options)


def test_an_object_that_is_replaced_meanwhile_is_an_error(s3_environment):
    logs = s3_environment.new_lake_uri()
    store = ObjectStore(logs, s3_environment.options)
    store.put("a.jsonl", line(0, "x" * (CHUNK + 7)))
    (file,) = find(f"{logs}/a.jsonl", s3_environment.options)
    chunks = file.chunks()
    assert len(next(chunks)) == CHUNK
    store.put("a.jsonl", line(1, "y" * (CHUNK + 7)))
    with pytest.raises(LakeError):
        next(chunks)

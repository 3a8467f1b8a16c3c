"""Sources: a place -> files, sorted; what cannot be read says so."""

import os

import pytest

from flywheel.capture.sources import find
from flywheel.errors import UsageError


def test_a_file_may_have_any_name_and_a_folder_gives_those_that_fit(tmp_path):
    for name in ("b.jsonl", "a.json.gz", "deep/c.ndjson", "notes.txt", ".d.jsonl", ".git/e.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    assert [file.name for file in find(tmp_path / "notes.txt")] == [str(tmp_path / "notes.txt")]
    found = find(str(tmp_path))
    assert [file.name for file in found] == [str(tmp_path / n) for n in ("a.json.gz", "b.jsonl", "deep/c.ndjson")]
    assert [b"".join(file.chunks()) for file in found] == [b"a.json.gz", b"b.jsonl", b"deep/c.ndjson"]


def test_a_pipe_is_a_file(tmp_path):
    read, write = os.pipe()
    os.write(write, b"one\n")
    os.close(write)
    (file,) = find(f"/proc/self/fd/{read}")
    assert b"".join(file.chunks()) == b"one\n"
    os.close(read)


@pytest.mark.parametrize("place", ["missing.jsonl", "missing/", "empty", "s3://", "s3:///key"])
def test_where_nothing_is_the_user_is_told(tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=place.rstrip("/")):
        find(place)


def test_a_file_that_may_not_be_read_says_so(tmp_path):
    path = tmp_path / "a.jsonl"
    path.mkdir()
    (file,) = [type(find(__file__)[0])(path)]
    with pytest.raises(UsageError, match="cannot be read"):
        list(file.chunks())

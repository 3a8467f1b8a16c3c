"""Broken import files: no crash, exact counts, and every good row kept."""

import gzip
import itertools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flywheel.capture.importer import import_cases, import_interactions
from flywheel.capture.lines import LIMIT
from flywheel.config import FlywheelConfig
from flywheel.lake.keys import Keyring
from flywheel.lake.tables import open_lake
from flywheel.records import EvalCase

pytestmark = pytest.mark.slow

EXAMPLES = 1_000 if os.environ.get("FLYWHEEL_LONG") else 60
FUZZ = settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
TEXT = st.text(max_size=12)


def good(n: int, text: str = "hello") -> dict:
    return {
        "flow": "triage", "user": "ann", "ts": "2025-05-01T10:00:00Z", "model": f"m{n}", "consent": ["training"],
        "messages": [{"role": "user", "content": text}], "response": text,
        "feedback": [{"kind": "thumbs", "value": 1}],
    }  # fmt: skip


def case(n: int, text: str = "hello") -> dict:
    check = {"kind": "exact", "expected": text}
    return {"messages": [{"role": "user", "content": text}], "check": check, "suite": "s", "slice": f"m{n}"}


def packed(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def without(value: dict, key: str) -> dict:
    return {name: held for name, held in value.items() if name != key}


NOISE = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)


def bad_lines(sample: dict, required: list[str]) -> st.SearchStrategy[bytes]:
    """Lines that hold something and are no row."""
    whole = packed(sample)
    wrong = st.integers() | st.none() | st.just([1]) | st.just({"a": 1})
    return st.one_of(
        st.integers(1, len(whole) - 1).map(lambda cut: whole[:cut]),
        st.sampled_from(required).map(lambda key: packed(without(sample, key))),
        st.tuples(st.sampled_from(required), wrong).map(lambda pair: packed({**sample, pair[0]: pair[1]})),
        NOISE.map(packed),
        st.just(whole.replace(b"hello", b"h\xe9llo")),
        st.just(whole.replace(b"hello", b"h\x00llo")),
        st.just(whole + whole),
        st.just(b"[" * 5_000),
        st.just(packed({**sample, "colour": "red"})),
        st.just(packed({**sample, "messages": [{"role": "user", "content": 1}]})),
        st.binary(min_size=1, max_size=20).map(lambda noise: b"\xff" + noise.replace(b"\n", b"")),
    )


def as_file(rows: list[bytes], ending: bytes, last: bytes, kind: str) -> bytes:
    body = ending.join(rows) + last
    if kind == "bom":
        return b"\xef\xbb\xbf" + body
    if kind == "members":
        return b"".join(gzip.compress(body[at : at + 99]) for at in range(0, len(body), 99))
    return gzip.compress(body) if kind == "gzip" else body


FILES = st.fixed_dictionaries(
    {
        "ending": st.sampled_from([b"\n", b"\r\n", b"\n\n \n"]),
        "last": st.sampled_from([b"", b"\n", b"  "]),
        "kind": st.sampled_from(["plain", "bom", "gzip", "members"]),
    }
)


class Home:
    """A lake of its own for every example."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self.config = FlywheelConfig(home=self.folder / "home")
        self.lake = open_lake(self.config)

    def interactions(self, body: bytes, name: str = "file.jsonl"):
        return import_interactions(self.lake, self.config, Keyring(self.folder / "home"), self.write(body, name))

    def cases(self, body: bytes):
        return import_cases(self.lake, self.config, self.write(body, "cases.jsonl"))

    def write(self, body: bytes, name: str) -> Path:
        path = self.folder / name
        path.write_bytes(body)
        return path

    def models(self) -> list[str]:
        return sorted(self.lake.read("inferences", columns=["model_version"])["model_version"].to_pylist())


def mixed(draw_good: st.SearchStrategy[str], bad: st.SearchStrategy[bytes]) -> st.SearchStrategy[list]:
    """Texts of good rows and bytes of bad lines, in any order."""
    return st.lists(st.one_of(draw_good, bad), min_size=1, max_size=12)


@FUZZ
@given(rows=mixed(TEXT, bad_lines(good(0), ["user", "messages", "response", "consent"])), how=FILES)
def test_good_interactions_are_kept_and_bad_lines_counted(rows, how):
    lines = [packed(good(n, row)) if isinstance(row, str) else row for n, row in enumerate(rows)]
    wanted = sorted(f"m{n}" for n, row in enumerate(rows) if isinstance(row, str))
    with tempfile.TemporaryDirectory() as folder:
        home = Home(folder)
        body = as_file(lines, **how)
        report = home.interactions(body)
        assert (report.lines, report.rejected) == (len(rows), len(rows) - len(wanted))
        assert (report.inferences, report.feedback, report.duplicates) == (len(wanted), len(wanted), 0)
        assert home.models() == wanted
        assert report.all_bad == (not wanted)
        assert bool(report.rejects) == (report.rejected > 0)
        if report.rejects:
            listed = [json.loads(line) for line in Path(report.rejects).read_text().splitlines()]
            assert len(listed) == report.rejected
            assert all(set(one) == {"file", "line", "field", "reason"} for one in listed)
        again = home.interactions(body, "again.jsonl")
        assert (again.inferences, again.feedback, again.duplicates) == (0, 0, 2 * len(wanted))
        assert home.models() == wanted


@FUZZ
@given(rows=mixed(TEXT, bad_lines(case(0), ["messages", "check", "suite"])), how=FILES)
def test_good_cases_are_kept_and_bad_lines_counted(rows, how):
    lines = [packed(case(n, row)) if isinstance(row, str) else row for n, row in enumerate(rows)]
    wanted = {row for row in rows if isinstance(row, str)}
    with tempfile.TemporaryDirectory() as folder:
        home = Home(folder)
        report = home.cases(as_file(lines, **how))
        texts = sum(isinstance(row, str) for row in rows)
        assert (report.lines, report.rejected) == (len(rows), len(rows) - texts)
        assert (report.cases, report.duplicates) == (len(wanted), texts - len(wanted))
        stored = home.lake.records("eval_cases", EvalCase)
        assert sorted(one.messages[0].content for one in stored) == sorted(wanted)


@FUZZ
@given(
    edits=st.lists(
        st.tuples(st.floats(0, 1), st.integers(0, 3), st.binary(max_size=6)), min_size=1, max_size=4
    ),
    kind=st.sampled_from(["plain", "gzip", "json"]),
)  # fmt: skip
def test_damage_spoils_no_line_that_it_does_not_touch(edits, kind):
    rows = [packed(good(n, f"text {n}")) for n in range(12)]
    body = b"\n".join(rows) + b"\n" if kind != "json" else b"[" + b",\n".join(rows) + b"]"
    data = bytearray(gzip.compress(body, 1) if kind == "gzip" else body)
    for where, removed, added in edits:
        at = int(where * (len(data) - 1))
        data[at : at + removed] = added
    with tempfile.TemporaryDirectory() as folder:
        home = Home(folder)
        report = home.interactions(bytes(data), "damaged.json" if kind == "json" else "damaged.jsonl")
        (file,) = report.files
        assert file.lines - file.rejected == len(home.models()) + file.duplicates // 2
        if kind == "plain":
            left = {row for row in bytes(data).split(b"\n") if row in rows}
            assert {f"m{rows.index(row)}" for row in left} <= set(home.models())


def corpus(folder: Path) -> dict[str, tuple[int, int]]:
    """Writes broken files; their names with the good rows and the rejected lines of each."""
    numbers = itertools.count()
    expected: dict[str, tuple[int, int]] = {}

    def lines(count: int) -> list[bytes]:
        return [packed(good(next(numbers))) for _ in range(count)]

    def put(name: str, body: bytes, rows: int, rejected: int) -> None:
        (folder / name).write_bytes(body)
        expected[name] = (rows, rejected)

    put("bad_json.jsonl", b"\n".join([*lines(2), b"{", b"]", b"nul", *lines(1)]), 3, 3)
    put("wrong_types.jsonl", b"\n".join([*lines(1), *(packed(v) for v in (1, "x", [], None, True, {}))]), 1, 6)
    put("not_utf8.jsonl", b"\n".join([*lines(1), lines(1)[0].replace(b"hello", b"\xc3\x28")]), 1, 1)
    put("utf16.jsonl", (b"\n".join(lines(2)).decode()).encode("utf-16"), 0, 2)
    put("empty.jsonl", b"", 0, 0)
    put("blank.jsonl", b"\n \n\r\n", 0, 0)
    put("zeros.jsonl", bytes(4_096), 0, 1)
    put("empty.json", b"", 0, 0)
    put("empty.jsonl.gz", gzip.compress(b""), 0, 0)
    put("no_gzip.jsonl.gz", b"\n".join(lines(2)), 2, 0)
    put("gzip_without_the_name.jsonl", gzip.compress(b"\n".join(lines(2))), 2, 0)
    put("gzip_header_only.jsonl.gz", gzip.compress(b"x")[:6], 0, 1)
    put("truncated_gzip.jsonl.gz", gzip.compress(b"\n".join(lines(5)) + b"\n")[:-3], 5, 1)
    put("broken_checksum.jsonl.gz", gzip.compress(b"\n".join(lines(3)) + b"\n")[:-8] + bytes(8), 3, 1)
    put(
        "broken_within.jsonl.gz",
        gzip.compress(b"\n".join(lines(3)) + b"\n") + gzip.compress(b"x")[:-8] + b"!" * 8,
        3,
        1,
    )
    put("array.json", b"[" + b", ".join([*lines(2), b"7", *lines(1), b"{]"]), 3, 2)
    put("pretty.json", b"\n".join(json.dumps(json.loads(one), indent=2).encode() for one in lines(2)), 2, 0)
    put("lines.json", b"\n".join([*lines(1), b'{"', *lines(1)]), 2, 1)
    long_line = packed(good(next(numbers), "x" * LIMIT))
    put("long_line.jsonl", b"\n".join([*lines(1), long_line, *lines(1)]), 2, 1)
    put("a_hundred_megabytes.jsonl", b"\n".join([*lines(1), b'{"user": "' + b"x" * 10**8, *lines(1)]), 2, 1)
    put("a_hundred_megabytes.jsonl.gz", gzip.compress(b"\n".join([*lines(1), b"x" * 10**8, *lines(1)]), 1), 2, 1)
    put("a_hundred_megabytes.json", b"[" + b",".join([*lines(1), b'"' + b"x" * 10**8 + b'"', *lines(1)]) + b"]", 2, 1)
    return expected


def test_a_folder_of_broken_files_gives_every_good_row(tmp_path):
    source = tmp_path / "broken"
    source.mkdir()
    expected = corpus(source)
    home = Home(str(tmp_path))
    report = import_interactions(home.lake, home.config, Keyring(tmp_path / "home"), source)
    found = {Path(file.file).name: (file.inferences, file.rejected) for file in report.files}
    assert found == expected
    assert all(file.lines == file.inferences + file.rejected for file in report.files)
    good_rows, bad_rows = (sum(column) for column in zip(*expected.values(), strict=True))
    assert len(home.models()) == len(set(home.models())) == good_rows == report.inferences == report.feedback
    assert len(Path(report.rejects).read_text().splitlines()) == bad_rows == report.rejected
    again = import_interactions(home.lake, home.config, Keyring(tmp_path / "home"), source)
    assert (again.inferences, again.feedback, again.rejected, again.rejects) == (0, 0, bad_rows, report.rejects)


def test_a_hundred_megabytes_in_a_line_do_not_go_into_memory(tmp_path):
    path = tmp_path / "long.jsonl"
    path.write_bytes(packed(good(1)) + b"\n" + b"x" * 10**8 + b"\n" + packed(good(2)))
    code = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from flywheel.capture.importer import import_interactions\n"
        "from flywheel.config import FlywheelConfig\n"
        "from flywheel.lake.keys import Keyring\n"
        "from flywheel.lake.tables import open_lake\n"
        "home, *files = map(Path, sys.argv[1:])\n"
        "config = FlywheelConfig(home=home)\n"
        "for file in files:\n"
        "    report = import_interactions(open_lake(config), config, Keyring(home), file)\n"
        "    print(report.inferences, report.rejected, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    small = tmp_path / "small.jsonl"
    small.write_bytes(packed(good(0)))
    arguments = [sys.executable, "-c", code, tmp_path / "home", small, path]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=120, check=True)
    (one, none, before), (two, bad, after) = ([int(word) for word in line.split()] for line in done.stdout.splitlines())
    assert (one, none, two, bad) == (1, 0, 2, 1)
    assert after - before < 60_000, "KiB more than for a small file"

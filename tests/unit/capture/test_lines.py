"""Bytes -> values: whatever the cut of the chunks, whatever the file holds, within a bound of memory."""

import gzip
import json
import random
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.capture.lines import read_lines

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def pieces(data, size):
    return [data[start : start + size] for start in range(0, len(data), size)]


def read(name, data, *, size=7, limit=1_000):
    return list(read_lines(name, pieces(data, size), limit))


def test_lines_have_their_numbers_and_blank_ones_are_left_out():
    found = read("a.jsonl", b"\xef\xbb\xbfone\n\n  \r\ntwo\r\nthree")
    assert [(line.number, line.text.strip()) for line in found] == [(1, b"one"), (4, b"two"), (5, b"three")]
    assert read("a.jsonl", b"") == []


def test_a_line_that_is_too_long_is_one_problem_and_not_held():
    found = read("a.jsonl", b"one\n" + b"x" * 5_000 + b"\ntwo\n" + b"y" * 1_001)
    assert [(line.number, line.text, bool(line.problem)) for line in found] == [
        (1, b"one", False),
        (2, b"", True),
        (3, b"two", False),
        (4, b"", True),
    ]


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_memory_does_not_grow_with_a_line(name):
    chunk = b"z" * 2**20
    tracemalloc.start()
    found = list(read_lines(name, (chunk for _ in range(64)), 2**20))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [bool(line.problem) for line in found] == [True]
    assert peak < 8 * 2**20


@settings(max_examples=100, deadline=None)
@given(
    values=st.lists(st.dictionaries(st.text(max_size=5), JSON, min_size=1, max_size=4), max_size=6),
    indent=st.sampled_from([None, 1]),
    size=st.integers(1, 40),
    kind=st.sampled_from(["array", "objects", "lines", "gzip"]),
)
def test_every_value_of_a_document_comes_out(values, indent, size, kind):
    texts = [json.dumps(value, indent=indent, ensure_ascii=False) for value in values]
    if kind == "array":
        body = json.dumps(values, indent=indent, ensure_ascii=False)
    elif kind == "lines":
        body = "".join(json.dumps(value) + "\n" for value in values)
    else:
        body = "\n".join(texts)
    data = gzip.compress(body.encode()) if kind == "gzip" else body.encode()
    found = read("a.json", data, size=size, limit=100_000)
    assert [json.loads(line.text) for line in found] == values
    assert [line.number for line in found] == list(range(1, len(values) + 1))


def test_a_broken_value_of_an_array_spoils_no_other():
    found = read("a.json", b'[{"a": 1}, nonsense, {"b": }, {"c": "],{\\""}, [4,5], "x", {"d"}]')
    texts = [b'{"a": 1}', b"nonsense", b'{"b": }', b'{"c": "],{\\""}', b"[4,5]", b'"x"', b'{"d"}']
    assert [line.text.strip() for line in found] == texts


def test_brackets_that_do_not_close_spoil_only_what_follows():
    found = read("a.json", b'[{"a": 1}, {"b": [}, {"c": 1}]')
    assert [(line.text, bool(line.problem)) for line in found] == [(b'{"a": 1}', False), (b"", True)]
    assert [line.text for line in read("a.json", b'{"a":\n1}]{"b": 1}')] == [b'{"a":\n1}', b"]", b'{"b": 1}']


@pytest.mark.parametrize(
    ("data", "good", "problem"),
    [
        (b'[{"a":1},{"b":2', 1, "ends within"),
        (b'[{"a":1},', 1, "ends within"),
        (b'{"a":\n1}{"b":"', 1, "ends within"),
        (b'[{"a":1}]', 1, None),
        (b"[]", 0, None),
        (b"  ", 0, None),
    ],
)
def test_a_document_that_breaks_off_is_one_problem(data, good, problem):
    found = read("a.json", data)
    assert len([line for line in found if not line.problem]) == good
    assert [line.number for line in found if line.problem] == ([good + 1] if problem else [])
    assert all(problem in line.problem for line in found if line.problem)


def test_too_long_values_of_an_array_are_problems_of_their_own():
    body = json.dumps([{"a": "x"}, {"b": "y" * 3_000}, {"c": "z"}]).encode()
    found = read("a.json", body)
    assert [(line.number, bool(line.problem)) for line in found] == [(1, False), (2, True), (3, False)]


def noise(count):
    chance = random.Random(1)
    return b"".join(b"%x\n" % chance.getrandbits(256) for _ in range(count))


@pytest.mark.parametrize("name", ["a.jsonl.gz", "no-suffix", "a.json.gz"])
def test_gzip_is_seen_from_the_bytes(name):
    body = b'{"a":1}\n{"b":2}\n'
    members = gzip.compress(body) + gzip.compress(body) + b"\0" * 9
    assert [line.number for line in read(name, members)] == [1, 2, 3, 4]
    assert [line.number for line in read(name, body)] == [1, 2]


@pytest.mark.parametrize("size", [1, 100, 10_000])
def test_a_gzip_that_is_cut_off_gives_all_lines_before_the_cut(size):
    body = noise(200)
    packed = gzip.compress(body)
    for cut in (1, 5, 1_000, len(packed) - 1):
        found = read("a.gz", packed[:cut], size=size, limit=10_000)
        if cut == 1:
            assert found == [(1, b"\x1f", None)]
            continue
        good = [line.text for line in found[:-1]]
        assert good == body.split(b"\n")[: len(good)]
        assert found[-1] == (len(good) + 1, b"", "the compressed file is cut off here")
    assert len(good) == 200


def test_a_gzip_with_rubbish_behind_it_is_one_problem():
    found = read("a.gz", gzip.compress(b"one\n") + b"rubbish")
    assert [line.text for line in found if not line.problem] == [b"one"]
    assert "broken" in found[-1].problem


def test_a_small_file_that_unpacks_to_a_large_one_is_read_in_pieces():
    bomb = gzip.compress(b"a" * 2**26)
    tracemalloc.start()
    found = list(read_lines("bomb.gz", [bomb], 2**20))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [bool(line.problem) for line in found] == [True]
    assert peak < 8 * 2**20

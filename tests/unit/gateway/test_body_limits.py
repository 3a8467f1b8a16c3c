"""Bodies: sizes, speeds and forms that are refused, and when."""

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from flywheel.gateway.http import body as bodies
from flywheel.gateway.http.body import read_body
from flywheel.gateway.http.edge import Edge
from flywheel.gateway.problems import ApiProblem
from flywheel.gateway.protocol.freeform import MAX_DEPTH, MAX_PIECES, check_free, read_json


def read(parts, *, limit=100, announced=None, pause_s=0.0):
    """What ``read_body`` makes of these parts, and how many it took."""
    waiting = list(parts)

    async def receive():
        await asyncio.sleep(pause_s)
        if not waiting:
            return {"type": "http.disconnect"}
        part = waiting.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(waiting) or announced is not None}

    headers = [] if announced is None else [(b"content-length", announced)]
    request = Request({"type": "http", "headers": headers}, receive)
    try:
        return asyncio.run(read_body(request, limit)), len(parts) - len(waiting)
    except ApiProblem as problem:
        return problem, len(parts) - len(waiting)


def test_parts_are_joined():
    assert read([b"a", b"", b"bc"]) == (b"abc", 3)


def test_an_announced_size_is_refused_before_anything_is_read():
    problem, taken = read([b"x" * 50] * 9, announced=b"450")
    assert (problem.status, taken, problem.headers) == (413, 0, {})
    problem, taken = read([b"x"], announced=b"50000000")
    assert (problem.status, taken, problem.headers) == (413, 0, {"connection": "close"})


def test_an_unannounced_size_is_refused_as_soon_as_it_is_too_much():
    problem, taken = read([b"x" * 50] * 9)
    assert (problem.status, taken, problem.headers) == (413, 3, {"connection": "close"})


@pytest.mark.parametrize("announced", [b"-1", b"1e3", b"\xb2", b"9" * 19, b""])
def test_odd_announcements_are_bad_requests(announced):
    assert read([b"x"], announced=announced)[0].status == 400


def test_a_client_that_leaves_is_no_crash():
    problem, _ = read([b"x"], announced=b"10")
    assert (problem.status, problem.code) == (400, "incomplete_body")


def test_a_drip_is_ended_and_a_slow_but_steady_body_is_not(monkeypatch):
    monkeypatch.setattr(bodies, "WAIT_S", 0.2)
    monkeypatch.setattr(bodies, "MIN_RATE", 100)
    problem, taken = read([b"x"] * 60, pause_s=0.02)
    assert (problem.status, problem.headers) == (408, {"connection": "close"})
    assert taken < 60
    steady, _ = read([b"x" * 40] * 30, limit=10_000, pause_s=0.02)
    assert len(steady) == 1_200


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", "invalid_json"),
        (b"[]", "invalid_json"),
        (b'{"a": NaN}', "invalid_json"),
        (b'{"a": -Infinity}', "invalid_json"),
        (b'{"a": "\xff"}', "invalid_json"),
        (b'{"a": "\\ud800"}', "invalid_json"),
        (b'{"a": ' + b"9" * 5_000 + b"}", "invalid_json"),
        (b'{"a":' * 300 + b"1" + b"}" * 300, "invalid_json"),
        (b'{"a":[' + b"[]," * MAX_PIECES + b"[]]}", "too_complex"),
        (b"{" + b",".join(b'"%d":1' % n for n in range(MAX_PIECES + 1)) + b"}", "too_complex"),
    ],
    ids=range(10),
)
def test_what_is_no_body(raw, code):
    with pytest.raises(ApiProblem) as caught:
        read_json(raw)
    assert (caught.value.status, caught.value.code) == (400, code)


def test_text_full_of_commas_and_brackets_is_text():
    text = '[1,2],{"quoted \\" ' * 20_000
    assert read_json(json.dumps({"a": text}).encode()) == {"a": text}


def test_the_last_of_two_values_counts():
    assert read_json(b'{"a": 1, "a": 2}') == {"a": 2}


def nested(depth):
    value = 1
    for _ in range(depth):
        value = {"a": [value]}
    return value


def test_free_form_parts_have_a_depth_and_numbers_of_64_bits():
    check_free(nested(MAX_DEPTH // 2 - 1), "tools")
    for bad in (nested(MAX_DEPTH), {"a": 2**63}, [float("inf")]):
        with pytest.raises(ApiProblem) as caught:
            check_free(bad, "tools")
        assert caught.value.param == "tools"


@given(st.recursive(st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(),
                    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20))  # fmt: skip
def test_ordinary_json_is_read_as_it_is(value):
    raw = json.dumps({"a": value}, ensure_ascii=False)
    try:
        encoded = raw.encode()
    except UnicodeEncodeError:
        return
    assert read_json(encoded) == {"a": value}


@pytest.mark.parametrize(
    ("headers", "path", "status"),
    [
        ([(b"a", b"1")] * 101, "/", 431),
        ([(b"a", b"x" * 40_000)], "/", 431),
        ([], "/" + "a" * 9_000, 414),
        ([(b"a", b"1")] * 100, "/", 200),
    ],
)
def test_headers_are_limited_before_the_application_sees_them(headers, path, status):
    sent, called = [], []

    async def application(scope, receive, send):
        called.append(scope["flywheel.request_id"])
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": path, "headers": headers, "query_string": b""}
    asyncio.run(Edge(application)(scope, None, send))
    assert sent[0]["status"] == status
    assert bool(called) == (status == 200)
    assert dict(sent[0]["headers"])[b"x-request-id"] == scope["flywheel.request_id"].encode()

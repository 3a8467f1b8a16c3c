"""Whatever a client sends: no 5xx, no hang, no traceback, and memory stays where it was. Against a real uvicorn.

Cases come from the OpenAPI document (schemathesis, valid and broken ones) and from hypothesis (any JSON, any bytes);
the hostile ones are sent by hand over a socket. FLYWHEEL_LONG=1: 10,000 generated cases.
"""

import json
import os
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

pytestmark = pytest.mark.slow

LONG = bool(os.environ.get("FLYWHEEL_LONG"))
CASES = {"valid": 600, "broken": 600, "json": 1_500, "bytes": 1_500} if LONG else dict.fromkeys(
    ("valid", "broken", "json", "bytes"), 40
)  # fmt: skip
"""Examples of each kind for each of the routes it is run on; the long form adds up to 10,200."""
POSTS = ("/v1/chat/completions", "/v1/completions", "/v1/feedback", "/v1/consent")
HANG_S = 30.0
"""No answer takes longer, not even on a machine with a hundred other things to do."""
START_S = 300.0
MEMORY_MB = 200
COMBINATIONS = {"invalid_combination", "too_deep", "invalid_value"}
"""What a body that fits the document may still be refused for: fields against each other, free-form parts."""


class Server:
    def __init__(self, home: Path) -> None:
        port_file, self.log = home / "port", home / "log"
        worker = Path(__file__).with_name("gateway_fuzz_worker.py")
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, worker, home, port_file], stdout=log, stderr=subprocess.STDOUT, env=os.environ
            )
        try:
            self._wait(port_file)
        except AssertionError:
            self.stop()
            raise
        self.port = int(port_file.read_text())
        self.url = f"http://127.0.0.1:{self.port}"
        self.session = requests.Session()
        for _ in range(20):
            self.session.post(f"{self.url}{POSTS[0]}", json=chat(), timeout=HANG_S).raise_for_status()
        self.rss_before = self.rss_mb()
        self.peak = self.rss_before

    def _wait(self, port_file: Path) -> None:
        deadline = time.monotonic() + START_S
        while not port_file.exists():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, "the gateway did not start"
            time.sleep(0.1)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(60)

    def rss_mb(self) -> float:
        self.peak = max(getattr(self, "peak", 0), rss := psutil.Process(self.process.pid).memory_info().rss / 2**20)
        return rss

    def post(self, path: str, body: bytes, headers: dict[str, str] | None = None) -> requests.Response:
        return self.session.post(f"{self.url}{path}", data=body, headers=headers, timeout=HANG_S)

    def raw(self, *parts: bytes, pause_s: float = 0.0) -> tuple[int | None, dict]:
        """Send by hand; status and JSON of the answer, (None, {}) when the connection was only closed."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=HANG_S) as connection:
            try:
                for part in parts:
                    connection.sendall(part)
                    time.sleep(pause_s)
            except OSError:
                pass  # refused while still sending: the answer may be there nevertheless
            try:
                with connection.makefile("rb") as answer:
                    return read_answer(answer)
            except ConnectionError:
                return None, {}


def read_answer(answer) -> tuple[int | None, dict]:
    first = answer.readline()
    if not first:
        return None, {}
    length = 0
    while (line := answer.readline()) not in {b"\r\n", b""}:
        if line.lower().startswith(b"content-length:"):
            length = int(line.split(b":")[1])
    body = answer.read(length)
    return int(first.split()[1]), json.loads(body) if body[:1] == b"{" else {}


def chat(**more) -> dict:
    return {"messages": [{"role": "user", "content": "hello"}], **more}


def head(path: str = POSTS[0], *headers: str, method: str = "POST") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "host: gateway", *headers, "", ""]).encode()


def fuzz(kind: str):
    return settings(
        max_examples=CASES[kind], deadline=None, suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.generate, Phase.shrink], derandomize=not LONG, database=None,
    )  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("fuzz"))
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def schema(server):
    return schemathesis.openapi.from_url(f"{server.url}/openapi.json")


def assert_refused_well(response) -> None:
    assert response.status_code < 500, response.text
    if response.status_code >= 400:
        assert set(response.json()["error"]) == {"message", "type", "param", "code"}
    assert response.headers["x-request-id"]


def for_this_flow(case):
    """Names of models and flows are made up by the generator and would all be 404."""
    case.headers = {name: value for name, value in (case.headers or {}).items() if name.lower() != "x-flywheel-flow"}
    if isinstance(case.body, dict) and isinstance(case.body.get("model"), str):
        case.body["model"] = "triage"
    return case


@pytest.mark.parametrize("path", POSTS)
def test_what_fits_the_document_is_answered_as_it_says(server, schema, path):
    refused = []

    @fuzz("valid")
    @given(schema[path]["POST"].as_strategy(GenerationMode.POSITIVE))
    def each(case):
        response = for_this_flow(case).call(timeout=HANG_S)
        assert response.status_code < 500, response.text
        checks = [status_code_conformance, content_type_conformance, response_headers_conformance]
        streamed = response.headers["content-type"][0].startswith("text/event-stream")
        case.validate_response(response, checks=checks if streamed else [*checks, response_schema_conformance])
        if path in POSTS[:2] and response.status_code != 200:
            error = response.json()["error"]
            assert error["code"] in COMBINATIONS, (error, case.body)
            refused.append(error["code"])

    each()
    assert len(refused) < CASES["valid"], "nothing that fits the document was ever accepted"


@pytest.mark.parametrize("path", POSTS)
def test_what_breaks_the_document_is_refused(server, schema, path):
    @fuzz("broken")
    @given(schema[path]["POST"].as_strategy(GenerationMode.NEGATIVE, headers={}))
    def each(case):
        response = case.call(timeout=HANG_S)
        assert response.status_code < 500, response.text
        if path in POSTS[:2]:  # bodies of reactions are read leniently: "1" is taken for 1
            case.validate_response(response, checks=[status_code_conformance, negative_data_rejection])

    each()


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
FIELDS = (
    "model", "messages", "prompt", "n", "stream", "stream_options", "tools", "tool_choice", "stop", "logit_bias",
    "seed", "response_format", "logprobs", "top_logprobs", "metadata", "user", "kind", "value", "items", "inference_id",
    "state", "purposes", "feedback_token", "max_tokens", "temperature",
)  # fmt: skip
GOOD = {"messages": [{"role": "user", "content": "hi"}], "prompt": "hi", "kind": "thumbs", "value": 1, "user": "a",
        "state": "granted", "purpose": "training", "inference_id": "01a203d6-df35-7332-a27f-6e2b001fe0a6"}  # fmt: skip
BODIES = ANY | st.dictionaries(st.sampled_from(FIELDS), ANY, max_size=6)
HEADERS = st.dictionaries(
    st.sampled_from(["x-flywheel-consent", "x-flywheel-parent", "x-flywheel-session", "x-flywheel-user",
                     "x-flywheel-flow", "content-type", "authorization"]),
    st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=40),
    max_size=3,
)  # fmt: skip


@pytest.mark.parametrize("path", POSTS[:2])
def test_any_json_is_answered(server, path):
    @fuzz("json")
    @given(BODIES, st.sampled_from(sorted(GOOD)), HEADERS)
    def each(body, kept, headers):
        if isinstance(body, dict):
            body = {kept: GOOD[kept], **body}
        raw = json.dumps(body).encode()
        encoded = {name: value.strip().encode("latin-1") for name, value in headers.items()}
        assert_refused_well(server.post(path, raw, encoded))

    each()


@pytest.mark.parametrize("path", POSTS)
def test_any_bytes_are_answered(server, path):
    whole = json.dumps({**chat(), "tools": [{"type": "function", "function": {"name": "a"}}]}).encode()

    @fuzz("bytes")
    @given(st.binary(max_size=200), st.integers(0, len(whole)), st.integers(0, 40))
    def each(noise, place, cut):
        response = server.post(path, whole[:place] + noise + whole[place + cut :])
        assert_refused_well(response)

    each()


@pytest.mark.parametrize(
    "body",
    [
        b'{"messages":' + b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 90_000 + b"1" + b"}" * 90_000,
        b'{"messages":[{"role":"user","content":"x"}],"seed":' + b"9" * 900_000 + b"}",
        b'{"messages":[{"role":"user","content":"x"}],"temperature":1e999}',
        b'{"messages":[{"role":"user","content":"x"}],"temperature":NaN}',
        b'{"messages":[' + b'{"role":"user","content":"x"},' * 3_000 + b'{"role":"user","content":"x"}]}',
        b"{" + b",".join(b'"k%d":1' % n for n in range(60_000)) + b"}",
        b'{"messages":[{"role":"user","content":"\xff\xfe"}]}',
        b'{"messages":[{"role":"user","content":"\\ud800"}]}',
        b'{"messages":[{"role":"user","content":"x"}],"tools":[{"type":"function","function":{"name":"f","parameters":'
        + b'{"a":' * 60 + b"1" + b"}" * 60 + b"}}]}",
        b'{"messages":[{"role":"user","content":"x"}],"response_format":{"type":"json_schema","json_schema":{"name":"a",'
        b'"schema":{"maximum":' + b"9" * 400 + b"}}}}",
        b'\xef\xbb\xbf{"messages":[]}',
        b"",
    ],
    ids=lambda body: f"{body[:12].decode('latin-1')}-{len(body)}",
)  # fmt: skip
def test_known_bombs_are_refused_as_bad_requests(server, body):
    response = server.post(POSTS[0], body)
    assert response.status_code == 400, response.text
    assert_refused_well(response)


def test_of_a_key_given_twice_the_last_counts_in_what_is_recorded_and_asked(server):
    body = b'{"messages":[{"role":"user","content":"a"}],"messages":[{"role":"user","content":"b"}],"n":9,"n":1}'
    assert server.post(POSTS[0], body).json()["choices"][0]["message"]["content"] == "B"


def test_large_bodies_are_refused_early(server):
    length = 50_000_000
    announced, error = server.raw(head(POSTS[0], f"content-length: {length}"))
    assert announced == 413, "before a byte of it was sent"
    assert error["error"]["code"] == "body_too_large"
    chunk = b"10000\r\n" + b" " * 65_536 + b"\r\n"
    started = server.rss_mb()
    status, _ = server.raw(head(POSTS[0], "transfer-encoding: chunked"), *[chunk] * (length // 65_536))
    assert status in {413, None}
    assert server.rss_mb() - started < 50
    a_little_over = server.post(POSTS[0], b" " * 1_500_000)
    assert a_little_over.status_code == 413, "an honest client reads its refusal"


@pytest.mark.parametrize("length", ["-1", "1e3", "99999999999999999999", "٣"])
def test_odd_lengths_are_refused(server, length):
    status, _ = server.raw(head(POSTS[0], f"content-length: {length}"))
    assert status in {400, 413, None}


def test_slow_bodies_end_in_408_and_hold_nobody_up(server):
    def drip() -> int | None:
        parts = [head(POSTS[0], "content-length: 100"), *[b" "] * 12]
        return server.raw(*parts, pause_s=0.3)[0]

    with ThreadPoolExecutor(32) as pool:
        slow = [pool.submit(drip) for _ in range(32)]
        for _ in range(10):
            assert server.post(POSTS[0], json.dumps(chat()).encode()).status_code == 200
        assert {one.result(HANG_S) for one in slow} == {408}


def test_a_body_that_ends_early_is_no_crash(server):
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(head(POSTS[0], "content-length: 100") + b"{")
    assert server.post(POSTS[0], json.dumps(chat()).encode()).status_code == 200


def test_header_bombs_are_refused(server):
    many = [f"x-h{n}: 1" for n in range(500)]
    large = [f"x-large: {'a' * 40_000}"]
    for bomb in (many, large, [f"cookie: {'a' * 900}"] * 60):
        assert server.raw(head("/v1/models", *bomb, method="GET"))[0] in {400, 431}
    assert server.raw(head("/v1/models?" + "a" * 9_000, method="GET"))[0] in {400, 414}


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/chat/completions/", "/v1/models/", "/docs", "/redoc", "/healthz/",
                                  "/%00", "/v1/../metrics", "//v1/models"])  # fmt: skip
def test_unknown_routes_and_wrong_methods_have_the_shape_of_errors(server, path):
    for method in ("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"):
        status, body = server.raw(head(path, "content-length: 0", "connection: close", method=method))
        assert status in {404, 405}, (method, path)
        assert body["error"]["code"] in {"unknown_url", "method_not_allowed"}


def test_afterwards_it_is_healthy_small_and_without_a_traceback(server):
    """Last of this file: everything above went through one process."""
    assert server.session.get(f"{server.url}/readyz", timeout=HANG_S).status_code == 200
    assert server.rss_mb() - server.rss_before < MEMORY_MB
    assert server.peak - server.rss_before < MEMORY_MB
    log = server.log.read_text()
    assert "Traceback" not in log, log[-4_000:]

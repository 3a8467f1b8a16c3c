"""The pure parts of the shadow: budget, breaker, limits, and the reader of answers that nobody trusts."""

import asyncio
import json
from dataclasses import replace

import pytest

from flywheel.config import GatewayConfig
from flywheel.gateway.problems import ApiProblem
from flywheel.gateway.shadow.breaker import Breaker
from flywheel.gateway.shadow.budget import Bucket
from flywheel.gateway.shadow.heard import listen
from flywheel.gateway.shadow.limits import Limits, limits_of
from flywheel.inference.coalesce import coalesced
from flywheel.records import FunctionCall, ToolCall
from flywheel.rollout.routing import Shadow

LIMITS = Limits(4, 8, 5.0, None, None, 10, 1000)


def test_a_budget_refuses_past_a_minutes_worth_and_refills_evenly():
    bucket = Bucket(60)
    assert [bucket.take(20, 0) for _ in range(4)] == [True, True, True, False]
    assert not bucket.take(20, 19.9)
    assert bucket.take(20, 20)
    bucket.give_back(15)
    assert bucket.take(15, 20)
    assert not bucket.take(1, 20)


def test_over_an_hour_no_more_than_the_budget_passes_beyond_the_first_minutes_worth():
    bucket, passed = Bucket(100), 0
    for second in range(3600):
        passed += 7 * sum(bucket.take(7, second) for _ in range(3))
    assert 100 * 60 * 0.99 <= passed <= 100 * 61


def test_a_request_larger_than_the_budget_passes_when_it_is_full_and_is_waited_off():
    bucket = Bucket(10)
    assert bucket.take(30, 0)
    assert not bucket.take(1, 119)
    assert bucket.take(1, 127)


def test_without_a_budget_everything_passes():
    assert all(Bucket(None).take(1e9, now) for now in range(10))


def test_a_smaller_budget_takes_effect_at_once():
    bucket = Bucket(100)
    bucket.resize(10)
    assert bucket.take(10, 0)
    assert not bucket.take(1, 0)


def test_the_breaker_opens_after_failures_in_a_row_and_waits_longer_each_time():
    breaker = Breaker(failures=3, first_pause_s=1, last_pause_s=3)
    for _ in range(2):
        breaker.failed(0)
    breaker.succeeded()
    for _ in range(2):
        breaker.failed(0)
    assert breaker.admit(0), "a success in between starts the count anew"
    breaker.failed(0)
    assert not breaker.admit(0.9)
    waits = []
    now = 0.0
    for _ in range(4):
        started = now
        while not breaker.admit(now):
            now += 0.1
        waits.append(round(now - started))
        assert not breaker.admit(now), "one trial at a time"
        breaker.failed(now)
    assert waits == [1, 2, 3, 3]


def test_a_trial_that_succeeds_closes_the_breaker_and_one_that_told_nothing_makes_room_for_another():
    breaker = Breaker(failures=1, first_pause_s=1)
    breaker.failed(0)
    assert breaker.admit(1.1)
    breaker.undecided()
    assert breaker.admit(1.1)
    breaker.succeeded()
    assert breaker.admit(1.1)
    assert breaker.admit(1.1)


def test_what_was_sent_before_it_opened_does_not_prolong_the_pause():
    breaker = Breaker(failures=1, first_pause_s=1)
    for now in (0, 0.5, 0.9):
        breaker.failed(now)
    assert breaker.admit(1.0)


def test_a_shadows_own_limits_win_and_budgets_are_shared_by_the_replicas():
    config = GatewayConfig(num_replicas=4, shadow_requests_per_minute=40, shadow_concurrency=3)
    plain = limits_of(Shadow(version="v2", folder="/2"), config)
    assert (plain.concurrency, plain.requests_per_minute, plain.tokens_per_minute) == (3, 10, None)
    own = Shadow(version="v2", folder="/2", max_concurrency=1, queue=0, tokens_per_minute=100, priority=0)
    limits = limits_of(own, config)
    assert (limits.concurrency, limits.queue, limits.tokens_per_minute, limits.priority) == (1, 0, 25, 0)


def sse(*chunks):
    return "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks)


def delta(text=None, finish=None, **more):
    return {"choices": [{"index": 0, "delta": {"content": text, **more}, "finish_reason": finish}]}


async def blocks_of(*items):
    for item in items:
        if isinstance(item, Exception):
            raise item
        yield item


def hear(*items, limits=LIMITS):
    return asyncio.run(listen(blocks_of(*items), limits))


def test_an_answer_is_the_same_however_it_is_cut_into_blocks():
    usage = {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2}}
    chunks = [delta(""), delta("He"), delta("llo"), delta(None, "stop"), usage]
    events = [*map(sse, chunks), "data: [DONE]\n\n"]
    for cut in (events, ["".join(events)], [events[0], "".join(events[1:])]):
        heard = hear(*cut)
        assert (heard.answer, heard.finish_reason, heard.error) == ("Hello", "stop", None)
        assert (heard.prompt_tokens, heard.completion_tokens) == (5, 2)
        assert 0 < heard.ttft_ms <= heard.latency_ms


def test_tool_calls_are_put_together_and_only_kept():
    first = {"index": 0, "id": "a", "function": {"name": "refund", "arguments": ""}}
    second = {"index": 0, "function": {"arguments": '{"to": "Zoë"}'}}
    heard = hear(sse(delta(tool_calls=[first]), delta(tool_calls=[second]), delta(None, "tool_calls")))
    assert heard.answer == ""
    (call,) = heard.tool_calls
    assert call == ToolCall(id="a", function=FunctionCall(name="refund", arguments='{"to": "Zoë"}'))


def test_a_completion_is_heard_as_well():
    text = {"choices": [{"index": 0, "text": "Hel", "finish_reason": None}]}
    last = {"choices": [{"index": 0, "text": "lo", "finish_reason": "length"}]}
    heard = hear(sse(text, last))
    assert (heard.answer, heard.finish_reason, heard.error) == ("Hello", "length", None)


@pytest.mark.parametrize(
    ("blocks", "kind"),
    [
        (["<html>no</html>"], "malformed"),
        (["data: {nonsense\n\n"], "malformed"),
        (["data: [1, 2]\n\n"], "malformed"),
        (["data: " + "[" * 100_000 + "\n\n"], "too_large"),
        (["data: " + "[" * 12_000 + "\n\n"], "malformed"),
        ([b"data: {}"], "malformed"),
        ([None], "malformed"),
        ([sse({"choices": {}})], "malformed"),
        ([sse({"choices": [7]})], "malformed"),
        ([sse({"choices": [{"index": 0}]})], "malformed"),
        ([sse(delta(7))], "malformed"),
        ([sse(delta({"a": 1}))], "malformed"),
        ([sse(delta(tool_calls=["x"]))], "malformed"),
        ([sse(delta(tool_calls=[{"index": "x", "function": {}}]))], "malformed"),
        ([sse(*(delta(tool_calls=[{"index": i, "function": {}}]) for i in range(129)))], "too_large"),
        ([sse(delta("half"))], "malformed"),
        ([], "malformed"),
        ([sse(delta("x" * 1001))], "too_large"),
        ([sse(delta("é" * 501))], "too_large"),
        ([sse(delta("x"))] * 2000, "too_large"),
        ([": ping\n\n"] * 2000, "too_large"),
        (["x" * 10**8], "too_large"),
        ([sse({"error": {"message": "boom", "code": 500}})], "engine_error"),
        ([sse({"error": {"message": "too long", "code": 400}})], "refused"),
        ([sse({"error": "boom"})], "engine_error"),
        ([ValueError("boom")], "engine_error"),
        ([RecursionError()], "engine_error"),
        ([ApiProblem(503, "gone", "server_error", code="engine_unavailable")], "unavailable"),
        ([ApiProblem(504, "late", "timeout_error", code="engine_timeout")], "timeout"),
    ],
    ids=lambda value: value if isinstance(value, str) else repr(value)[:40],
)
def test_whatever_a_candidate_says_is_an_error_of_a_known_kind(blocks, kind):
    heard = hear(*blocks)
    assert heard.error_kind == kind
    assert heard.answer is None
    assert heard.tool_calls == []
    assert len(heard.error) <= 300


def test_numbers_that_are_none_are_left_out_and_text_that_no_store_takes_is_replaced():
    usage = {"prompt_tokens": float("nan"), "completion_tokens": "many"}
    heard = hear(sse({**delta("a\ud800b", "made up"), "usage": usage}))
    assert (heard.prompt_tokens, heard.completion_tokens, heard.finish_reason) == (None, None, "other")
    assert heard.answer == "a?b"


async def forever(item, pause=None):
    while True:
        if pause is not None:
            await asyncio.sleep(pause)
        yield item


@pytest.mark.parametrize("pause", [None, 0.005, 60])
def test_a_stream_without_an_end_ends(pause):
    limits = replace(LIMITS, timeout_s=0.05, answer_bytes=10**9)
    heard = asyncio.run(listen(forever(sse(delta("x")), pause), limits))
    assert heard.error_kind == "timeout"


def test_a_stream_that_never_pauses_does_not_keep_the_others_from_their_turn():
    turns = []

    async def other():
        while True:
            turns.append(1)
            await asyncio.sleep(0)

    async def run():
        task = asyncio.create_task(other())
        await listen(forever(sse(delta("x"))), replace(LIMITS, answer_bytes=10_000))
        task.cancel()

    asyncio.run(run())
    assert len(turns) > 10


def test_a_stream_is_closed_when_it_is_left():
    closed = []

    async def source():
        try:
            async for block in forever("nonsense", 0):
                yield block
        finally:
            closed.append(True)

    assert asyncio.run(listen(source(), LIMITS)).error_kind == "malformed"
    assert closed == [True]


def test_coalescing_keeps_every_event_sends_the_first_at_once_and_stops_at_the_limit():
    async def collect(count, most):
        return [piece async for piece in coalesced(blocks_of(*(sse(delta("x" * 100)) for _ in range(count))), most)]

    pieces = asyncio.run(collect(1000, None))
    assert pieces[0] == sse(delta("x" * 100))
    assert "".join(pieces) == sse(delta("x" * 100)) * 1000
    assert len(pieces) == 2 + len(pieces[0]) * 999 // 65_536
    assert '"error"' in asyncio.run(collect(1000, 5000))[-1]
    assert asyncio.run(collect(1000, 5000))[-2:-1] in ([], [sse(delta("x" * 100))])

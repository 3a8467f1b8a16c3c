"""The shadow at work: every sampled request is accounted for, several candidates do not disturb each other."""

import asyncio
import json
from contextlib import asynccontextmanager

import pytest
from prometheus_client import REGISTRY

from flywheel.capture.outbox import Outbox, outbox_folder
from flywheel.config import FlywheelConfig, load
from flywheel.errors import CaptureError
from flywheel.gateway.asked import Asked
from flywheel.gateway.mirror import Mirror
from flywheel.gateway.route import Router
from flywheel.records import Inference, Message, utcnow
from flywheel.rollout import routing
from flywheel.rollout.routing import Shadow, Variant
from flywheel.testing import FakeEngine, LocalEngines, MemoryStore


def counted(name, **labels):
    """The sum of a counter over the labels that are not given."""
    return sum(
        sample.value
        for family in REGISTRY.collect()
        for sample in family.samples
        if sample.name == f"flywheel_shadow_{name}" and labels.items() <= sample.labels.items()
    )


def by(name, label, candidate):
    return {
        sample.labels[label]: sample.value
        for family in REGISTRY.collect()
        for sample in family.samples
        if sample.name == f"flywheel_shadow_{name}" and sample.labels.get("candidate") == candidate
    }


class Bench:
    """A mirror over fake engines; candidates have names of their own in each test, as counters live for ever."""

    def __init__(self, tmp_path, *shadows, engines=None, **overrides):
        settings = {"home": str(tmp_path), **{f"gateway.{name}": value for name, value in overrides.items()}}
        self.config = load(FlywheelConfig, None, settings)
        self.shadows = list(shadows)
        self.engines = engines or LocalEngines(FakeEngine("v1"), *(FakeEngine(s.version) for s in shadows))
        self.store = MemoryStore()
        state = routing.bootstrap("triage", Variant(version="v1", folder="/1"), actor="t")
        routing.publish(self.store, state)
        for shadow in shadows:
            state = routing.with_shadow(state, shadow, actor="t", reason="r")
            routing.publish(self.store, state)
        self.state = state
        self.router = Router(self.store, "triage", self.engines, cache=tmp_path / "cache.json", poll_s=1)
        self.outbox = Outbox.open(outbox_folder(self.config), group_commit_ms=0)
        self.pairs = []
        self.mirror = Mirror(self.engines, self.router, self, self.config.gateway)
        self.full, self.room = False, None

    mode = "durable"

    def refusal(self):
        """Stands in for the recorder."""
        return self.room

    async def append(self, events):
        """Stands in for the recorder."""
        if self.full:
            raise CaptureError("the disk is full")
        self.pairs += [json.loads(event.body) for event in events]

    @asynccontextmanager
    async def running(self):
        await self.router.step()
        task = asyncio.create_task(self.mirror.run())
        await asyncio.sleep(0)
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            self.outbox.close()

    def offer(self, text="hello", user="ann", consent=("evaluation",), **more):
        n = f"0190b3a0-0000-7000-8000-{len(self.pairs) + id(more) % 2**40:012x}"
        params = {"max_tokens": 10, **more.pop("params", {})}
        asked = Asked(n, "default", user, "s1", None, list(consent), "", [Message(role="user", content=text)], params,
                      stream=False)  # fmt: skip
        row = Inference(
            inference_id=n, flow="triage", ts=utcnow(), session_id="s1", subject=user, consent=list(consent),
            model_version="v1", policy_version=self.state.n, messages=asked.messages, choices=[text.upper()],
            finish_reason="stop", prompt_tokens=20, completion_tokens=4, latency_ms=7.0, ttft_ms=2.0, **more,
        )  # fmt: skip
        self.mirror.offer(asked, row, self.shadows)


def balanced(candidate):
    waiting = counted("waiting", candidate=candidate)
    sampled = counted("sampled_total", candidate=candidate)
    sent, dropped = counted("sent_total", candidate=candidate), counted("dropped_total", candidate=candidate)
    assert sampled == sent + dropped + waiting
    return sampled, sent, dropped


async def until(condition):
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not happen")


def run(bench, use):
    async def inside():
        async with bench.running():
            return await use()

    return asyncio.run(inside())


def test_a_pair_says_how_it_came_about(tmp_path):
    bench = Bench(tmp_path, Shadow(version="says", folder="/2", share=1.0))

    async def use():
        bench.offer(params={"n": 3, "logprobs": True, "tools": [{"type": "function"}]}, tags={"team": "a"})
        await until(lambda: bench.pairs)

    run(bench, use)
    (pair,) = bench.pairs
    told = {name: pair[name] for name in (
        "candidate", "live_version", "live_answer", "candidate_answer", "policy_version",
        "mirror_propensity", "session_id", "live_tokens", "live_prompt_tokens", "candidate_tokens", "live_ttft_ms",
        "candidate_prompt_tokens", "candidate_finish_reason", "live_finish_reason", "error_kind", "tags",
    )}  # fmt: skip
    assert told == {
        "candidate": "says", "live_version": "v1", "live_answer": "HELLO", "candidate_answer": "HELLO",
        "policy_version": 2, "mirror_propensity": 1.0, "session_id": "s1", "live_tokens": 4,
        "live_prompt_tokens": 20, "candidate_tokens": 3, "live_ttft_ms": 2.0, "candidate_prompt_tokens": 5,
        "candidate_finish_reason": "stop", "live_finish_reason": "stop", "error_kind": None, "tags": {"team": "a"},
    }  # fmt: skip
    assert 0 < pair["candidate_ttft_ms"] <= pair["candidate_latency_ms"]
    assert pair["queue_ms"] >= 0
    (body,) = bench.engines.engines["says"].bodies
    assert (body["n"], body["stream"], body["priority"], "logprobs" in body) == (1, True, 10, False)
    assert body["tools"] == [{"type": "function"}], "the candidate is asked the same"


@pytest.mark.parametrize(
    ("name", "limits", "overrides", "reason"),
    [
        ("q", {"queue": 2, "max_concurrency": 1}, {}, "queue_full"),
        ("r", {"requests_per_minute": 3}, {}, "request_budget"),
        ("t", {"tokens_per_minute": 100}, {}, "token_budget"),
        ("m", {}, {"shadow_memory_bytes": 1000}, "memory"),
    ],
)
def test_what_does_not_fit_is_dropped_for_a_reason_and_nothing_is_unaccounted_for(
    tmp_path, name, limits, overrides, reason
):
    candidate = f"fit-{name}"
    bench = Bench(tmp_path, Shadow(version=candidate, folder="/2", **limits), **overrides)

    async def use():
        for _ in range(12):
            bench.offer("x" * 50)
            balanced(candidate)
        await until(lambda: len(bench.pairs) == counted("sent_total", candidate=candidate) > 0)

    run(bench, use)
    sampled, sent, dropped = balanced(candidate)
    assert sampled == 12
    assert dropped > 0
    assert by("dropped_total", "reason", candidate) == {reason: dropped}
    assert by("outcomes_total", "outcome", candidate) == {"answered": sent}


def test_tokens_that_were_not_used_are_given_back(tmp_path):
    bench = Bench(tmp_path, Shadow(version="back", folder="/2", tokens_per_minute=100))

    async def use():
        for n in range(8):  # 20 + 10 tokens each at the most, 5 + 3 in truth
            bench.offer()
            await until(lambda n=n: len(bench.pairs) == n + 1)

    run(bench, use)
    assert balanced("back") == (8, 8, 0)


def test_without_consent_nothing_is_sampled(tmp_path):
    bench = Bench(tmp_path, Shadow(version="silent", folder="/2"))

    async def use():
        bench.offer(consent=())
        bench.offer(consent=("training",))
        await asyncio.sleep(0.02)

    run(bench, use)
    assert balanced("silent") == (0, 0, 0)


def test_a_withdrawal_reaches_what_waits_and_nobody_elses(tmp_path):
    slow = LocalEngines(FakeEngine("v1"), FakeEngine("with", delay_s=0.02))
    bench = Bench(tmp_path, Shadow(version="with", folder="/2", max_concurrency=1), engines=slow)

    async def use():
        for user in ("ann", "bob", "ann", "bob"):
            bench.offer(user=user)
        bench.mirror.withdraw("default", "ann")
        bench.mirror.withdraw("other", "bob")
        await until(lambda: len(bench.pairs) == 3)

    run(bench, use)
    assert [pair["subject"] for pair in bench.pairs] == ["ann", "bob", "bob"], "the first was under way"
    assert by("dropped_total", "reason", "with") == {"withdrawn": 1}
    assert balanced("with") == (4, 3, 1)


def test_a_candidate_that_leaves_the_routing_gets_nothing_more(tmp_path):
    slow = LocalEngines(FakeEngine("v1"), FakeEngine("left", delay_s=0.3))
    bench = Bench(tmp_path, Shadow(version="left", folder="/2", max_concurrency=1), engines=slow)

    async def use():
        for _ in range(3):
            bench.offer("ab")
        routing.publish(bench.store, routing.without_shadow(bench.state, "left", actor="t", reason="r"))
        await bench.router.step()
        await until(lambda: by("dropped_total", "reason", "left"))

    run(bench, use)
    assert by("dropped_total", "reason", "left") == {"left_routing": 2}
    assert balanced("left") == (3, 1, 2)


def test_at_the_end_what_waits_and_what_is_under_way_is_accounted_for(tmp_path):
    slow = LocalEngines(FakeEngine("v1"), FakeEngine("shut", delay_s=9))
    bench = Bench(tmp_path, Shadow(version="shut", folder="/2", max_concurrency=1), engines=slow)

    async def use():
        for _ in range(3):
            bench.offer()
        await asyncio.sleep(0.02)

    run(bench, use)
    assert balanced("shut") == (3, 1, 2)
    assert by("dropped_total", "reason", "shut") == {"shutdown": 2}
    assert by("outcomes_total", "outcome", "shut") == {"interrupted": 1}


def test_a_failing_candidate_is_left_alone_and_does_not_touch_another_one(tmp_path):
    class Down(LocalEngines):
        async def stream(self, version, body, timeout_s):
            if version == "down":
                raise RuntimeError("boom")
            async for block in super().stream(version, body, timeout_s):
                yield block

    engines = Down(FakeEngine("v1"), FakeEngine("down"), FakeEngine("fine"))
    bench = Bench(
        tmp_path, Shadow(version="down", folder="/2", max_concurrency=1), Shadow(version="fine", folder="/3"),
        engines=engines,
    )  # fmt: skip

    async def use():
        for n in range(20):
            bench.offer()
            await until(lambda n=n: sum(p["candidate"] == "fine" for p in bench.pairs) == n + 1)

    run(bench, use)
    failed = [pair for pair in bench.pairs if pair["candidate"] == "down"]
    assert {pair["error_kind"] for pair in failed} == {"engine_error"}
    assert 5 <= len(failed) < 10, "after five failures in a row it is left alone"
    assert by("dropped_total", "reason", "down") == {"breaker_open": 20 - len(failed)}
    assert balanced("fine") == (20, 20, 0)
    balanced("down")


def test_a_pair_that_cannot_be_stored_is_counted_and_the_lane_goes_on(tmp_path):
    bench = Bench(tmp_path, Shadow(version="full", folder="/2"))

    async def use():
        bench.full = True
        bench.offer()
        await until(lambda: counted("pairs_lost_total", candidate="full"))
        bench.full = False
        bench.offer()
        await until(lambda: bench.pairs)

    run(bench, use)
    assert balanced("full") == (2, 2, 0)
    assert counted("pairs_lost_total", candidate="full") == 1


def test_where_nothing_is_recorded_nothing_is_sent(tmp_path):
    bench = Bench(tmp_path, Shadow(version="unkept", folder="/2"))

    async def use():
        bench.mode = "off"
        bench.offer()
        bench.mode, bench.room = "durable", "the disk is nearly full"
        bench.offer()

    run(bench, use)
    assert by("dropped_total", "reason", "unkept") == {"not_recording": 2}
    assert balanced("unkept") == (2, 0, 2)


def test_limits_follow_the_routing(tmp_path):
    bench = Bench(tmp_path, Shadow(version="more", folder="/2", requests_per_minute=1))

    async def use():
        bench.offer()
        bench.offer()
        bench.shadows = [Shadow(version="more", folder="/2")]
        bench.offer()
        await until(lambda: len(bench.pairs) == 2)

    run(bench, use)
    assert balanced("more") == (3, 2, 1)

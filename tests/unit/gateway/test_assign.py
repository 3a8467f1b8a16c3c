"""Who answers: the recorded propensities are the true ones, whoever is ready, and what a request names is no draw."""

import asyncio
from collections import Counter

import pytest

from flywheel.gateway.asked import read_chat
from flywheel.gateway.assign import assign
from flywheel.gateway.breaker import FAILURES, FIRST_PAUSE_S, LAST_PAUSE_S, Breaker
from flywheel.gateway.route import Router, mirrored
from flywheel.records import Inference, Message, utcnow
from flywheel.rollout import canaries, routing
from flywheel.rollout.routing import Canary, Shadow, Variant
from flywheel.testing import FakeEngine, LocalEngines, MemoryStore

WHO = {"actor": "t", "reason": "r"}
FIRST = routing.bootstrap("triage", Variant(version="v1", folder="/v1"), actor="t")


def with_canary(state, version, share, **more):
    return canaries.with_canary(state, Canary(version=version, folder="/x", share=share, **more), **WHO)


TWO = with_canary(with_canary(FIRST, "a", 0.3), "b", 0.15)


def asked(user="ann", *, model="triage", tenant="default", session=None):
    body = {"messages": [{"role": "user", "content": "x"}], "model": model, **({"user": user} if user else {})}
    return read_chat(body, {"x-flywheel-session": session} if session else {}, tenant=tenant, default_max_tokens=8)


def decide(state=TWO, *, ready=("a", "b"), secret=b"s", **what):
    return assign(state, asked(**what), secret=secret, usable=set(ready).__contains__)


@pytest.mark.parametrize("ready", [("a", "b"), ("a",), ("b",), ()])
def test_recorded_propensities_are_the_true_ones_over_salts(ready):
    draws = 20_000
    chosen, recorded = Counter(), {}
    for salt in range(draws):
        made = decide(ready=ready, secret=salt.to_bytes(4, "big"))
        chosen[made.variant.version] += 1
        recorded[made.variant.version] = made.propensity
        assert set(made.eligible) == {"v1", *ready}
        assert made.how == ("random" if ready else "only")
    assert set(chosen) == {"v1", *ready}
    assert sum(recorded.values()) == pytest.approx(1)
    for version, count in chosen.items():
        p = recorded[version]
        assert abs(count / draws - p) <= 4 * (p * (1 - p) / draws) ** 0.5


def test_inverse_propensity_weights_recover_every_model_from_what_was_recorded():
    """Outcomes differ by model; canaries come and go. Weighted rows estimate each model's mean without bias."""
    worth, total, n = {"v1": 0.2, "a": 0.9, "b": 0.5}, Counter(), 30_000
    for number in range(n):
        made = decide(ready=("a", "b") if number % 3 else ("b",), user=f"u{number}")
        total[made.variant.version] += worth[made.variant.version] / made.propensity
    assert total["v1"] / n == pytest.approx(0.2, abs=0.01)
    assert total["b"] / n == pytest.approx(0.5, abs=0.03)
    assert total["a"] / (n * 2 / 3) == pytest.approx(0.9, abs=0.03), "of the requests that it was eligible for"


def test_a_user_keeps_the_model_over_sessions_and_replicas_else_a_session_does():
    people = [{decide(user=f"u{n}", session=session).variant.version for session in ("s1", "s2")} for n in range(200)]
    assert all(len(seen) == 1 for seen in people)
    assert set.union(*people) == {"v1", "a", "b"}
    sessions = [{decide(user=None, session=f"s{n}").variant.version for _ in range(5)} for n in range(200)]
    assert all(len(seen) == 1 for seen in sessions)
    assert len({decide(user=None).variant.version for _ in range(200)}) == 3, "without either, each request by itself"


def test_the_recorded_key_is_the_same_for_one_user_and_tells_nothing_without_the_secret():
    made = decide(user="ann")
    assert made.key_hash == decide(user="ann", session="other").key_hash
    assert "ann" not in made.key_hash
    assert len({decide(user="ann").key_hash, decide(user="bob").key_hash, decide(tenant="acme").key_hash,
                decide(secret=b"other").key_hash}) == 4  # fmt: skip


@pytest.mark.parametrize(
    ("model", "version", "kind"),
    [("a", "a", "canary"), ("b", "b", "canary"), ("v1", "v1", "live"), ("s", "v1", "live"), ("v0", "v1", "live")],
)
def test_a_request_that_names_a_version_is_pinned_and_no_part_of_the_draw(model, version, kind):
    state = routing.with_shadow(TWO, Shadow(version="s", folder="/s"), **WHO)
    for user in range(50):
        made = decide(state, model=model, user=f"u{user}")
        assert (made.variant.version, made.eligible, made.propensity, made.how) == (version, [version], 1.0, "pinned")
        assert made.kind == kind


def test_a_named_canary_that_cannot_answer_is_stood_in_for_and_the_row_says_so():
    made = decide(model="a", ready=("b",))
    assert (made.variant.version, made.eligible, made.propensity, made.how) == ("v1", ["v1"], 1.0, "fallback")
    assert made.fallback.model_dump() == {"assigned": "a", "eligible": ["a"], "propensity": 1.0, "reason": "not_ready"}
    assert not made.may_fall_back


def test_a_canary_for_some_tenants_takes_only_theirs():
    state = with_canary(FIRST, "a", 0.5, tenants=["acme"])
    assert {decide(state, user=f"u{n}").how for n in range(50)} == {"only"}
    assert decide(state, model="a").variant.version == "v1"
    theirs = [decide(state, user=f"u{n}", tenant="acme") for n in range(200)]
    assert {made.variant.version for made in theirs} == {"v1", "a"}
    assert {made.propensity for made in theirs} == {0.5}


def test_without_a_secret_or_without_canaries_the_live_model_answers_everybody():
    for made in (decide(secret=None), decide(FIRST), decide(ready=())):
        assert (made.variant.version, made.eligible, made.propensity, made.how) == ("v1", ["v1"], 1.0, "only")
    assert decide(FIRST).key_hash is None


def router(tmp_path, store, *ready):
    engines = LocalEngines(*(FakeEngine(version) for version in ready))
    return engines, Router(store, "triage", engines, cache=tmp_path / "r.json", poll_s=0.01, secret=b"s")


def published(store, *states):
    for state in states:
        routing.publish(store, state)


def arms(made_by, users=200):
    return {made_by.assign(asked(f"u{n}")).variant.version for n in range(users)}


def test_a_canary_gets_requests_once_its_engine_answers_and_none_after_it_was_lost(tmp_path):
    store = MemoryStore()
    published(store, FIRST, with_canary(FIRST, "a", 0.5))
    engines, made_by = router(tmp_path, store, "v1")
    asyncio.run(made_by.step())
    assert arms(made_by) == {"v1"}
    engines.engines["a"] = FakeEngine("a")
    asyncio.run(made_by.step())
    assert arms(made_by) == {"v1", "a"}
    made_by.lost("a")
    assert arms(made_by) == {"v1"}


def test_a_stopped_canary_stops_although_the_next_live_model_is_not_up_yet(tmp_path):
    store = MemoryStore()
    begun = routing.with_shadow(with_canary(FIRST, "a", 0.5), Shadow(version="v2", folder="/2"), **WHO)
    published(store, FIRST, with_canary(FIRST, "a", 0.5), begun)
    _, made_by = router(tmp_path, store, "v1", "a")
    asyncio.run(made_by.step())
    assert arms(made_by) == {"v1", "a"}
    promoted = routing.promoted(begun, "v2", **WHO)
    published(store, promoted, canaries.without_canary(promoted, "a", **WHO))
    asyncio.run(made_by.step())
    assert made_by.live().n == 3
    assert arms(made_by) == {"v1"}


def test_only_what_the_live_model_answered_at_once_is_mirrored():
    row = Inference(
        inference_id="i", flow="triage", ts=utcnow(), subject="s", consent=["evaluation"], model_version="v1",
        messages=[Message(role="user", content="x")],
    )  # fmt: skip
    shadows = [Shadow(version="s", folder="/s")]
    drawn = decide(model="a", ready=()).fallback
    assert mirrored(row, shadows) == shadows
    assert mirrored(row.model_copy(update={"traffic_kind": "canary"}), shadows) == []
    assert mirrored(row.model_copy(update={"fallback": drawn}), shadows) == []


def test_the_breaker_opens_after_failures_in_a_row_for_longer_each_time_and_closes_at_a_success():
    now = [0.0]
    breaker = Breaker(clock=lambda: now[0])
    for _ in range(FAILURES - 1):
        breaker.failed("a")
    breaker.succeeded("a")
    for _ in range(FAILURES - 1):
        breaker.failed("a")
    assert breaker.closed("a")
    breaker.failed("a")
    assert not breaker.closed("a")
    assert breaker.closed("b")
    breaker.failed("a")  # was on its way: the pause stays what it is
    pauses = []
    for _ in range(12):
        begin = now[0]
        while not breaker.closed("a"):
            now[0] += FIRST_PAUSE_S / 8
        pauses.append(now[0] - begin)
        breaker.failed("a")
    assert pauses[:3] == pytest.approx([FIRST_PAUSE_S, 2 * FIRST_PAUSE_S, 4 * FIRST_PAUSE_S])
    assert pauses[-1] == pytest.approx(LAST_PAUSE_S)
    breaker.keep({"b"})
    assert breaker.closed("a")

import asyncio

from flywheel.gateway.route import Router, mirrored
from flywheel.records import Inference, Message, utcnow
from flywheel.rollout import routing
from flywheel.rollout.routing import Shadow, Variant
from flywheel.testing import FakeEngine, LocalEngines, MemoryStore

WHO = {"actor": "t", "reason": "r"}


def setup(tmp_path, *versions):
    store = MemoryStore()
    state = routing.bootstrap("triage", Variant(version="v1", folder="/v1"), actor="t")
    routing.publish(store, state)
    engines = LocalEngines(*(FakeEngine(version) for version in versions))
    return store, state, engines, Router(store, "triage", engines, cache=tmp_path / "r.json", poll_s=0.01)


def promote(store, state, version="v2"):
    for change in (routing.with_shadow(state, Shadow(version=version, folder="/2"), **WHO),):
        routing.publish(store, change)
        state = routing.promoted(change, version, **WHO)
        routing.publish(store, state)
    return state


def step(router):
    asyncio.run(router.step())


def test_a_new_live_model_takes_over_only_when_its_engine_answers(tmp_path):
    store, state, engines, router = setup(tmp_path, "v1")
    step(router)
    promote(store, state)
    step(router)
    assert router.live().live.version == "v1"
    engines.engines["v2"] = FakeEngine("v2")
    step(router)
    assert router.live().live.version == "v2"


def test_a_dead_old_engine_does_not_hold_the_new_routing_back(tmp_path):
    store, state, engines, router = setup(tmp_path, "v1")
    step(router)
    promote(store, state)
    del engines.engines["v1"]
    router.lost("v1")
    step(router)
    assert router.policy.live.version == "v2"


def test_shadows_change_at_once(tmp_path):
    store, state, _, router = setup(tmp_path, "v1")
    step(router)
    routing.publish(store, routing.with_shadow(state, Shadow(version="v2", folder="/2"), **WHO))
    step(router)
    assert [s.version for s in router.live().shadows] == ["v2"]
    assert not router.is_ready("v2")


def test_an_engine_that_left_the_routing_is_probed_again_when_it_returns(tmp_path):
    store, state, engines, router = setup(tmp_path, "v1", "v2")
    step(router)
    state = promote(store, state)
    step(router)
    del engines.engines["v1"]  # the controller stopped it
    routing.publish(store, routing.rolled_back(state, **WHO))
    step(router)
    assert router.live().live.version == "v2", "the rolled-back model is not up yet"


def test_the_last_good_routing_survives_a_store_that_is_away_and_a_restart(tmp_path):
    store, _, engines, router = setup(tmp_path, "v1")
    step(router)
    store.broken = True
    step(router)
    assert router.live().live.version == "v1"
    again = Router(store, "triage", engines, cache=tmp_path / "r.json", poll_s=0.01)
    step(again)
    assert again.live().live.version == "v1"


def inference(number, consent):
    return Inference(
        inference_id=f"i{number}", flow="triage", ts=utcnow(), subject="s", consent=consent, model_version="v1",
        messages=[Message(role="user", content="x")],
    )  # fmt: skip


def test_the_mirrored_share_is_the_share_and_zero_without_consent():
    shadows = [Shadow(version="v2", folder="/2", share=0.3)]
    sent = sum(bool(mirrored(inference(i, ["evaluation"]), shadows)) for i in range(2000))
    assert 500 < sent < 700
    assert not any(mirrored(inference(i, ["training", "third_party"]), shadows) for i in range(100))

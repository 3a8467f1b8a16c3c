import pytest

from flywheel.errors import BusyError, LakeError, UsageError
from flywheel.rollout import routing
from flywheel.rollout.routing import Shadow, Variant
from flywheel.testing import MemoryStore

WHO = {"actor": "test", "reason": "because"}


def first(store=None):
    state = routing.bootstrap("triage", Variant(version="v1", folder="/m/v1"), actor="test")
    if store is not None:
        routing.publish(store, state)
    return state


def shadow(version, share=1.0):
    return Shadow(version=version, folder=f"/m/{version}", share=share)


def test_no_routing_before_the_first():
    assert routing.current(MemoryStore(), "triage") is None


def test_promotion_keeps_the_old_live_as_previous_and_ends_its_shadow():
    state = routing.with_shadow(first(), shadow("v2"), **WHO)
    state = routing.with_shadow(state, shadow("v3", 0.5), **WHO)
    state = routing.promoted(state, "v2", **WHO, decision_id="d1")
    assert (state.n, state.live.version, state.previous.version) == (4, "v2", "v1")
    assert [s.version for s in state.shadows] == ["v3"]
    assert type(state.live) is Variant
    assert state.decision_id == "d1"
    assert routing.without_shadow(state, "v3", **WHO).decision_id is None


def test_rollback_and_back_again():
    state = routing.promoted(routing.with_shadow(first(), shadow("v2"), **WHO), "v2", **WHO)
    back = routing.rolled_back(state, **WHO)
    assert (back.live.version, back.previous.version) == ("v1", "v2")
    assert routing.rolled_back(back, **WHO).live.version == "v2"


def test_rollback_to_a_version_that_is_a_shadow_ends_the_shadow():
    state = routing.promoted(routing.with_shadow(first(), shadow("v2"), **WHO), "v2", **WHO)
    state = routing.with_shadow(state, shadow("v1"), **WHO)
    assert routing.rolled_back(state, **WHO).shadows == []


@pytest.mark.parametrize(
    "change",
    [
        lambda r: routing.promoted(r, "v9", **WHO),
        lambda r: routing.without_shadow(r, "v9", **WHO),
        lambda r: routing.with_shadow(r, shadow("v1"), **WHO),
        lambda r: routing.rolled_back(r, **WHO),
    ],
)
def test_impossible_changes_are_refused(change):
    with pytest.raises(UsageError):
        change(first())


def test_of_two_writers_one_wins():
    store = MemoryStore()
    state = first(store)
    routing.publish(store, routing.with_shadow(state, shadow("v2"), **WHO))
    with pytest.raises(BusyError):
        routing.publish(store, routing.with_shadow(state, shadow("v3"), **WHO))
    assert routing.current(store, "triage").shadows[0].version == "v2"


def test_a_number_without_predecessor_is_refused():
    state = routing.with_shadow(first(), shadow("v2"), **WHO)
    with pytest.raises(UsageError, match="no predecessor"):
        routing.publish(MemoryStore(), state)


def test_numbers_are_compared_as_numbers_and_flows_kept_apart():
    store = MemoryStore()
    state = first(store)
    for i in range(11):
        state = routing.with_shadow(state, shadow(f"s{i % 3}"), **WHO)
        routing.publish(store, state)
    routing.publish(store, routing.bootstrap("other", Variant(version="x", folder="/x"), actor="t"))
    assert routing.current(store, "triage").n == 12
    assert routing.current(store, "triage", at_least=10).n == 12
    assert routing.newer(store, "triage", 12) is None
    assert routing.newer(store, "triage", 11).n == 12
    assert routing.current(store, "other").n == 1


def test_a_broken_object_is_named():
    store = MemoryStore()
    first(store)
    store.objects["routing/triage/1.json"] = b"{}"
    with pytest.raises(LakeError, match=r"routing/triage/1\.json"):
        routing.current(store, "triage")


def test_the_live_model_is_live_since_it_became_so_whatever_its_shadows_did():
    from datetime import timedelta

    store = MemoryStore()
    state = first()
    begin = state.ts
    steps = [
        lambda now: routing.with_shadow(now, shadow("v2"), **WHO),
        lambda now: routing.promoted(now, "v2", **WHO),
        lambda now: routing.with_shadow(now, shadow("v3"), **WHO),
        lambda now: routing.rolled_back(now, **WHO),
    ]
    since = []
    for n, step in enumerate([lambda now: now, *steps]):
        state = step(state).model_copy(update={"ts": begin + timedelta(hours=n)})
        routing.publish(store, state)
        since.append((routing.live_since(store, state) - begin) / timedelta(hours=1))
    assert since == [0, 0, 2, 2, 4]

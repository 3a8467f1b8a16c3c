"""Canaries in the routing: what each change moves, for every place on the line and any number of canaries."""

import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from flywheel.errors import UsageError
from flywheel.rollout import canaries, routing, slots
from flywheel.rollout.routing import Canary, Routing, Shadow, Variant
from flywheel.testing import MemoryStore

WHO = {"actor": "t", "reason": "r"}
FIRST = routing.bootstrap("triage", Variant(version="v1", folder="/v1"), actor="t")


def canary(version, share, **more):
    return Canary(version=version, folder=f"/{version}", share=share, **more)


def started(*shares, state=FIRST):
    for number, share in enumerate(shares, start=2):
        state = canaries.with_canary(state, canary(f"v{number}", share), **WHO)
    return state


def holder(state, place):
    return next((c.version for c in state.canaries if c.holds(place)), state.live.version)


def borders(*states):
    """Every place at which the holder may change, in one of the states: between two of them it is constant."""
    edges = {0} | {edge for state in states for c in state.canaries for pair in c.slots for edge in pair}
    return sorted(edge for edge in edges if edge < slots.TICKS)


versions = st.sampled_from(["v1", "v2", "v3", "v4", "v5"])
shares = st.integers(1, 999_999).map(lambda millionths: millionths / 1e6)
changes = st.one_of(
    st.tuples(st.just("canary"), versions, shares),
    st.tuples(st.just("stop"), versions, shares),
    st.tuples(st.just("promote"), versions, shares),
    st.tuples(st.just("shadow"), versions, shares),
    st.tuples(st.just("rollback"), versions, shares),
)


def apply(state, change):
    kind, version, share = change
    if kind == "canary":
        return canaries.with_canary(state, canary(version, share), **WHO)
    if kind == "stop":
        return canaries.without_canary(state, version, **WHO)
    if kind == "promote":
        return routing.promoted(state, version, **WHO)
    if kind == "shadow":
        return routing.with_shadow(state, Shadow(version=version, folder="/x"), **WHO)
    return routing.rolled_back(state, **WHO)


@settings(max_examples=300, deadline=None)
@given(st.lists(changes, min_size=1, max_size=25))
def test_a_change_moves_keys_only_between_live_and_the_canary_it_names_and_only_one_way(steps):
    state = FIRST
    for kind, version, share in steps:
        try:
            after = apply(state, (kind, version, share))
        except UsageError:
            continue
        before = {c.version: c for c in state.canaries}
        grew = kind == "canary" and share >= (before[version].share if version in before else 0)
        for place in borders(state, after):
            old, new = holder(state, place), holder(after, place)
            if old == new:
                continue
            if kind in {"promote", "rollback"}:  # the old live model's keys go to the new one; only ended canaries too
                assert new == after.live.version
                assert old in {state.live.version, version} | (set(before) if kind == "rollback" else set())
            else:
                assert kind in {"canary", "stop"}
                assert (old, new) == ((state.live.version, version) if grew else (version, state.live.version))
        assert holds_exactly_its_share(after)
        assert after.epoch == ((state.epoch or after.n) if after.canaries else None)
        assert Routing.model_validate_json(after.model_dump_json()) == after
        state = after


def holds_exactly_its_share(state):
    held = dict.fromkeys([state.live.version, *(c.version for c in state.canaries)], 0)
    edges = [*borders(state), slots.TICKS]
    for start, end in itertools.pairwise(edges):
        held[holder(state, start)] += end - start
    return held.pop(state.live.version) > 0 and held == {c.version: round(c.share * 1e6) for c in state.canaries}


def test_shrinking_and_growing_again_returns_the_same_keys_while_nobody_else_took_them():
    state = started(0.25, 0.1)
    less = canaries.with_share(state, "v2", 0.05, **WHO)
    again = canaries.with_share(less, "v2", 0.25, **WHO)
    assert again.canaries == state.canaries
    assert [c.slots for c in again.canaries] == [[(0, 250_000)], [(250_000, 350_000)]]
    taken = canaries.with_canary(less, canary("v4", 0.1), **WHO)
    split = canaries.with_share(taken, "v2", 0.25, **WHO)
    assert [c.slots for c in split.canaries] == [
        [(0, 50_000), (150_000, 250_000), (350_000, 450_000)], [(250_000, 350_000)], [(50_000, 150_000)],
    ]  # fmt: skip


def test_a_shadow_becomes_a_canary_and_both_end_when_it_is_promoted():
    state = routing.with_shadow(FIRST, Shadow(version="v2", folder="/v2"), **WHO)
    state = started(0.5, 0.2, state=routing.with_shadow(state, Shadow(version="v9", folder="/9"), **WHO))
    assert [v.version for v in state.variants()] == ["v1", "v2", "v3", "v9"]
    done = routing.promoted(state, "v2", **WHO)
    assert (done.live, done.previous) == (Variant(version="v2", folder="/v2"), state.live)
    assert type(done.live) is Variant
    assert [c.version for c in done.canaries] == ["v3"]
    assert done.epoch == state.epoch == 4


def test_a_rollback_ends_every_canary_and_the_next_ones_draw_anew():
    state = canaries.with_canary(routing.promoted(started(0.5), "v2", **WHO), canary("v3", 0.1), **WHO)
    assert (state.previous.version, [c.version for c in state.canaries], state.epoch) == ("v1", ["v3"], 4)
    back = routing.rolled_back(state, **WHO)
    assert (back.live.version, back.canaries, back.epoch) == ("v1", [], None)
    assert started(0.1, state=back).epoch == back.n + 1


def test_impossible_changes_are_refused_with_what_to_do():
    state = started(0.5, 0.4)
    with pytest.raises(UsageError, match="beside itself"):
        canaries.with_canary(state, canary("v1", 0.1), **WHO)
    with pytest.raises(UsageError, match=r"leaves nothing to the live model .v1.: 0\.1 is not taken"):
        canaries.with_canary(state, canary("v4", 0.1), **WHO)
    with pytest.raises(UsageError, match=r"no canary of 'triage'; canaries: v2, v3"):
        canaries.with_share(state, "v9", 0.1, **WHO)
    with pytest.raises(UsageError, match="no canary"):
        canaries.without_canary(FIRST, "v2", **WHO)
    with pytest.raises(UsageError, match="is a canary; stop that first"):
        routing.with_shadow(state, Shadow(version="v2", folder="/2"), **WHO)
    assert canaries.with_canary(state, canary("v4", 0.099999), **WHO).canaries[-1].share == 0.099999


@pytest.mark.parametrize(
    "broken",
    [
        {"canaries": []},
        {"epoch": None},
        {"canaries": [canary("v2", 0.5)]},
        {"canaries": [canary("v2", 0.5, slots=[(0, 500_000)]), canary("v3", 0.1, slots=[(400_000, 500_000)])]},
        {"canaries": [canary("v1", 0.5, slots=[(0, 500_000)])]},
        {"canaries": [canary(f"c{n}", 0.5, slots=[(n * 500_000, (n + 1) * 500_000)]) for n in range(2)]},
    ],
)
def test_a_routing_that_contradicts_itself_cannot_be_read(broken):
    with pytest.raises(ValidationError):
        Routing.model_validate({**started(0.5).model_dump(), **broken})


@pytest.mark.parametrize(
    ("share", "places"),
    [(0.0, []), (1.0, []), (1e-7, []), (1 / 3, []), (0.5, [(0, 400_000)]), (0.5, [(600_000, 1_100_000)])],
)
def test_a_share_is_whole_millionths_below_one_and_as_wide_as_its_slots(share, places):
    with pytest.raises(ValidationError):
        canary("v2", share, slots=places)


def test_objects_from_before_canaries_are_read_and_routings_without_them_look_as_before():
    old = json.loads(FIRST.model_dump_json(exclude={"canaries", "epoch", "rollouts"}))
    assert Routing.model_validate(old) == FIRST
    store = MemoryStore()
    routing.publish(store, FIRST)
    assert json.loads(store.objects["routing/triage/1.json"]) == old
    state = started(0.25)
    routing.publish(store, state)
    assert routing.current(store, "triage") == state

"""The split over keys: a million of them, other salts, other hashes."""

from collections import Counter

import numpy as np
import pytest
from scipy.stats import chi2_contingency

from flywheel.rollout import canaries, routing
from flywheel.rollout.assignment import key_of
from flywheel.rollout.routing import Canary, Variant
from flywheel.text.hashing import unit_interval

WHO = {"actor": "t", "reason": "r"}
SECRET = b"a secret of this flow"
KEYS = 1_000_000
FIRST = routing.bootstrap("triage", Variant(version="v1", folder="/v1"), actor="t")


def with_canary(state, version, share):
    return canaries.with_canary(state, Canary(version=version, folder="/x", share=share), **WHO)


BEGUN = with_canary(FIRST, "a", 0.05)


@pytest.fixture(scope="module")
def places():
    return np.array([key_of(SECRET, BEGUN, "default", f"user-{number}").place for number in range(KEYS)])


def inside(places, canary):
    held = np.zeros(len(places), dtype=bool)
    for start, end in canary.slots:
        held |= (places >= start) & (places < end)
    return held


def test_a_million_keys_split_as_asked_and_growing_moves_none_out(places):
    state, held = BEGUN, {}
    for version, share in [("a", 0.05), ("b", 0.1), ("a", 0.25), ("c", 0.033333), ("a", 0.5), ("b", 0.2)]:
        state = with_canary(state, version, share)
        now = {canary.version: inside(places, canary) for canary in state.canaries}
        for canary in state.canaries:
            assert abs(now[canary.version].mean() - canary.share) < 0.001
        assert not (held.get(version, False) & ~now[version]).any(), "a key left the canary that grew"
        assert all((held[other] == now[other]).all() for other in held if other != version)
        held = now
    assert (sum(held.values()) <= 1).all()
    assert [c.holds(int(place)) for place in places[:2_000] for c in state.canaries] == [
        bool(held[c.version][i]) for i in range(2_000) for c in state.canaries
    ]


def test_places_are_uniform_and_names_do_not_repeat(places):
    counts = np.bincount(places // 10_000, minlength=100)
    assert ((counts - KEYS / 100) ** 2 / (KEYS / 100)).sum() < 160  # chi-square of 99 degrees: p = 1e-4
    assert len({key_of(SECRET, BEGUN, "default", f"user-{number}").hash for number in range(10_000)}) == 10_000


def test_every_part_of_the_salt_draws_anew():
    other = BEGUN.model_copy(update={"epoch": 7})
    draws = [
        (SECRET, BEGUN, "default"), (b"another secret", BEGUN, "default"), (SECRET, other, "default"),
        (SECRET, BEGUN.model_copy(update={"flow": "chat"}), "default"), (SECRET, BEGUN, "acme"),
    ]  # fmt: skip
    arms = np.array([[key_of(*draw, f"user-{n}").place < 500_000 for n in range(10_000)] for draw in draws])
    agreement = np.corrcoef(arms)[np.triu_indices(len(draws), 1)]
    assert (abs(agreement) < 0.05).all()


def test_a_later_routing_of_the_same_epoch_keeps_every_key_where_it_is():
    later = routing.with_shadow(BEGUN, routing.Shadow(version="s", folder="/s"), **WHO)
    assert all(key_of(SECRET, BEGUN, "t", str(n)) == key_of(SECRET, later, "t", str(n)) for n in range(100))


def test_the_split_is_independent_of_every_other_split_of_the_same_text():
    """The shadow's share hashes the request's id, the label splits the subject; here even the text is the same."""
    table = Counter(
        (key_of(SECRET, BEGUN, "default", f"i{n}").place < 500_000, unit_interval(f"i{n}", "v2") < 0.3)
        for n in range(50_000)
    )
    counts = [[table[canary, shadow] for shadow in (False, True)] for canary in (False, True)]
    assert chi2_contingency(counts).pvalue > 0.001


def test_parts_cannot_be_shifted_into_one_another_and_a_secret_is_needed():
    assert key_of(SECRET, BEGUN, "ab", "c") != key_of(SECRET, BEGUN, "a", "bc")
    with pytest.raises(ValueError, match="secret"):
        key_of(b"", BEGUN, "t", "u")

"""A unit's contribution is fixed by the times of its requests, however they were cut into batches."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.config import LiveQualityConfig
from flywheel.rollout.live.units import Units

RULES = LiveQualityConfig(pairs_per_unit=3, settle_s=10, idle_s=100)


def settled(units: Units, upto: float) -> list[tuple[str, float, list[str]]]:
    return [(unit.key, unit.at, [row.id for row in unit.rows]) for unit in units.settle(upto)]


def test_a_unit_is_fixed_by_a_pause_or_when_it_is_full():
    units = Units(RULES)
    for n, ts in enumerate([0, 4, 30, 31]):
        units.row("a", f"a{n}", ts)
    for n, ts in enumerate([0, 1, 2, 3]):
        units.row("b", f"b{n}", ts)
    assert settled(units, 5) == [("b", 2, ["b0", "b1", "b2"])]
    assert settled(units, 14) == [("a", 14, ["a0", "a1"])]
    assert settled(units, 90) == [], "what a session does later changes nothing"


def test_after_a_long_pause_it_is_another_unit():
    units = Units(RULES)
    units.row("a", "1", 0)
    units.row("a", "2", 99)
    assert settled(units, 50) == [("a", 10, ["1"])]
    assert settled(units, 120) == []
    units.row("a", "3", 199)  # exactly idle_s after the second: still the same
    units.row("a", "4", 300)
    assert settled(units, 400) == [("a", 310, ["4"])]


def test_a_canarys_user_is_one_unit_for_good():
    units = Units(RULES, for_ever=True)
    units.row("u", "1", 0)
    assert settled(units, 10) == [("u", 10, ["1"])]
    units.row("u", "2", 1_000_000)
    assert settled(units, 2_000_000) == []


def test_a_row_that_comes_after_its_unit_was_fixed_counts_nowhere():
    units = Units(RULES)
    units.row("a", "1", 0)
    assert len(settled(units, 20)) == 1
    units.row("a", "late", 5)
    assert settled(units, 500) == []


def test_nothing_is_kept_of_sessions_that_are_over():
    units = Units(RULES)
    for n in range(50):
        units.row(f"s{n}", "x", n)
    assert len(settled(units, 70)) == 50
    assert settled(units, 1_000) == []
    assert not units.rows
    assert not units.fixed


rows = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 400)), min_size=1, max_size=40, unique=True
)  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(rows, st.lists(st.integers(0, 450), max_size=8), st.booleans(), st.booleans())
def test_batches_and_restarts_change_nothing(found, looks, for_ever, restart):
    """Rows come in time, in batches that end at the looks; or all at once at the end."""
    whole, pieces = Units(RULES, for_ever=for_ever), Units(RULES, for_ever=for_ever)
    for key, ts in found:
        whole.row(key, f"{key}{ts}", ts)
    everything = settled(whole, 1_000)
    by_piece, seen = [], -1
    for look in [*sorted(looks), 1_000]:
        for key, ts in sorted((row for row in found if seen < row[1] <= look), key=lambda row: -row[1]):
            pieces.row(key, f"{key}{ts}", ts)
        seen = max(seen, look)
        by_piece += settled(pieces, look)
        if restart:
            stored = json.loads(json.dumps(pieces.dump()))
            pieces = Units(RULES, for_ever=for_ever)
            pieces.restore(stored)
    assert by_piece == everything
    assert pieces.fixed == whole.fixed

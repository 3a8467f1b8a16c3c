import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from flywheel.text import hashing
from flywheel.text.hashing import stable_hash, unit_interval


def test_the_hash_never_changes_between_releases():
    assert stable_hash() == 0xE4A6A0577479B2B4
    assert stable_hash("split", "user-1") == 9768511590854594890


def test_parts_are_told_apart():
    assert stable_hash("ab", "c") != stable_hash("a", "bc") != stable_hash("abc")


@given(st.lists(st.text(st.characters(), max_size=20)))
def test_unit_interval_stays_below_one(parts):
    assert 0 <= unit_interval(*parts) < 1


def test_unit_interval_is_below_one_for_the_largest_hash(monkeypatch):
    monkeypatch.setattr(hashing, "stable_hash", lambda *parts: 2**64 - 1)
    assert unit_interval("x") < 1


def test_unit_interval_is_uniform():
    points = np.array([unit_interval("seed", str(i)) for i in range(20_000)])
    counts, _ = np.histogram(points, bins=20, range=(0, 1))
    assert abs(counts - 1000).max() < 150  # five standard deviations

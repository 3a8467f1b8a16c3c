import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.text.minhash import MISS, PERMUTATIONS, banding, jaccard, near_duplicate_groups, shingles

WORDS = [
    "order",
    "refund",
    "parcel",
    "late",
    "broken",
    "screen",
    "login",
    "password",
    "invoice",
    "change",
    "address",
    "cancel",
    "plan",
    "upgrade",
    "phone",
]


def exact_groups(texts, threshold):
    """All pairs, no shortcut."""
    group = list(range(len(texts)))
    for i in range(len(texts)):
        for j in range(i):
            if jaccard(texts[i], texts[j]) >= threshold:
                low, high = sorted((group[i], group[j]))
                group = [low if g == high else g for g in group]
    return group


def corpus(n, seed, edits=3):
    rng = random.Random(seed)
    texts = []
    while len(texts) < n:
        base = " ".join(rng.choice(WORDS) for _ in range(rng.randint(4, 14)))
        for _ in range(rng.randint(1, 5)):
            letters = list(base)
            for _ in range(rng.randint(0, edits)):
                letters[rng.randrange(len(letters))] = rng.choice("abcdefgh ")
            texts.append("".join(letters))
    return texts[:n]


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.8, 0.9, 1.0])
def test_groups_equal_those_of_all_pairs(threshold):
    texts = corpus(250, seed=3)
    assert near_duplicate_groups(texts, threshold) == exact_groups(texts, threshold)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(alphabet="ab ", max_size=14), max_size=12), st.sampled_from([0.2, 0.5, 0.8, 1.0]))
def test_groups_equal_those_of_all_pairs_for_any_texts(texts, threshold):
    assert near_duplicate_groups(texts, threshold) == exact_groups(texts, threshold)


def test_a_group_is_named_by_its_first_text():
    assert near_duplicate_groups(["x y z", "My order is late", "my ORDER is late!", "X y z."], 0.9) == [0, 1, 1, 0]


def test_empty_texts_are_one_group():
    assert near_duplicate_groups(["", "a text of its own", "  "], 0.8) == [0, 1, 0]
    assert near_duplicate_groups([], 0.8) == []


def test_similarity_is_transitive_within_a_group():
    a, b, c = "abcdefghijklmnopqrst", "bcdefghijklmnopqrstu", "cdefghijklmnopqrstuv"
    assert jaccard(a, c) < 0.85 < jaccard(a, b)
    assert near_duplicate_groups([a, c, b], 0.85) == [0, 0, 0]


@pytest.mark.parametrize("threshold", [0.0, -1.0, 1.1, float("nan")])
def test_a_threshold_out_of_range_is_refused(threshold):
    with pytest.raises(ValueError, match="threshold"):
        near_duplicate_groups(["a"], threshold)


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99])
def test_banding_misses_almost_no_pair_at_the_threshold(threshold):
    rows, bands = banding(threshold)
    apart = 1 - threshold**rows
    assert apart**bands + bands * (1 - apart) * apart ** (bands - 1) <= MISS
    assert rows == 1 or rows * bands <= PERMUTATIONS


def test_shingles_of_lone_surrogates_do_not_fail():
    assert near_duplicate_groups(["abc\ud800defgh", "abc\ud800defgh", "other text"], 0.8) == [0, 0, 2]


def test_ten_thousand_texts_in_seconds():
    texts = corpus(10_000, seed=5)
    began = time.process_time()
    near_duplicate_groups(texts, 0.8)
    assert time.process_time() - began < 30  # CPU time; about 3 s


def test_ten_thousand_copies_with_small_edits_are_not_quadratic():
    base = "my parcel with the new phone has not arrived and the tracking page shows nothing at all since monday"
    texts = [f"{base} {i}" for i in range(10_000)]
    began = time.process_time()
    assert set(near_duplicate_groups(texts, 0.8)) == {0}
    assert time.process_time() - began < 30


def test_jaccard_by_hand():
    assert shingles("abcdefg") == {"abcde", "bcdef", "cdefg"}
    assert jaccard("abcdefg", "bcdefgh") == pytest.approx(2 / 4)

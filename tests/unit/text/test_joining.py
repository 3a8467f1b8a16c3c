"""Buckets, hot ones included, and numbered shingles: against pairs, sets and sums made by hand."""

import random

import numpy as np
import pytest

from flywheel.text.joining import join
from flywheel.text.minhash import band_keys, jaccard, near_duplicate_groups, shingles
from flywheel.text.normalise import normalise
from flywheel.text.shingles import ShingleSets, number_shingles

ALPHABETS = ("abcdefgh ", "abé ü", "漢字仮名ab ", "\ud800ab\u0fff\uffff😀\0")


def anything(count, seed=0):
    rng = random.Random(seed)
    return [normalise("".join(rng.choices(rng.choice(ALPHABETS), k=rng.randint(0, 30)))) for _ in range(count)]


def family(count, seed=0, own=12, shared=40):
    """Texts that begin alike and differ after it: near each other, but not duplicates."""
    rng = random.Random(seed)
    words = ["".join(rng.choices("abcdefghijklmnop", k=5)) for _ in range(400)]
    start = " ".join(rng.choices(words, k=shared))
    return [f"{start} {' '.join(rng.choices(words, k=own))}" for _ in range(count)]


def test_equal_shingles_have_one_number_and_others_have_others():
    texts = anything(600)
    numbers, offsets = number_shingles(texts)
    of, back = {}, {}
    for place, text in enumerate(texts):
        own = [text[i : i + 5] for i in range(max(1, len(text) - 4))] if text else []
        found = numbers[offsets[place] : offsets[place + 1]].tolist()
        assert len(found) == len(own)
        for shingle, number in zip(own, found, strict=True):
            assert of.setdefault(shingle, number) == number
            assert back.setdefault(number, shingle) == shingle
    assert len(of) > 1_000


def test_jaccards_of_numbers_are_those_of_sets():
    texts = anything(200, seed=1)
    rng = np.random.default_rng(0)
    left, right = rng.integers(0, 200, size=(2, 2_000))
    found = ShingleSets(texts).jaccards(left, right)
    assert found == pytest.approx([jaccard(texts[a], texts[b]) for a, b in zip(left, right, strict=True)])


def test_two_texts_of_equal_shingles_share_every_key():
    one, two = band_keys([normalise("abcde abcde abcde"), normalise("abcde abcde abcde abcde")], 0.9)
    assert shingles("abcde abcde abcde") == shingles("abcde abcde abcde abcde")
    assert (one == two).all()
    assert near_duplicate_groups(["abcde abcde abcde", "abcde abcde abcde abcde"], 1.0) == [0, 0]


def test_a_hot_bucket_is_capped_and_counted_and_near_copies_in_it_are_found():
    texts = family(150)
    copies = [f"{text} again" for text in texts[:20]]
    normals = [normalise(text) for text in [*texts, *copies]]
    keys = band_keys(normals, 0.9)
    whole, capped = (join(normals, keys, 0.9, bucket) for bucket in (1_000, 10))
    assert whole.hot.buckets == whole.hot.pairs == 0
    assert capped.hot.buckets > 0
    assert capped.hot.texts <= len(normals)
    assert capped.hot.pairs > 0
    assert (whole.root == capped.root).all()
    assert (whole.root[150:] == np.arange(20)).all()


def test_a_capped_bucket_compares_far_fewer_pairs(monkeypatch):
    compared = []
    measure = ShingleSets.jaccards
    monkeypatch.setattr(ShingleSets, "jaccards", lambda self, a, b: compared.append(a.size) or measure(self, a, b))
    normals = [normalise(text) for text in family(300)]
    keys = band_keys(normals, 0.9)
    join(normals, keys, 0.9, 1_000)
    whole = sum(compared)
    compared.clear()
    join(normals, keys, 0.9, 10)
    assert sum(compared) < whole / 4


def test_texts_compared_before_are_not_compared_again():
    normals = [
        normalise(text) for text in ["the same words once", "the same words once!?!", "the same words once more"]
    ]
    keys = np.zeros((3, 2), dtype=np.uint32)
    apart = join(normals, keys, 0.5, known=np.array([0, 1]))
    assert apart.root.tolist() == [0, 0, 0]  # through the third one, which is similar to both
    assert set(zip(apart.left.tolist(), apart.right.tolist(), strict=True)) == {(0, 2), (1, 2)}
    assert join(normals[:2], keys[:2], 0.5, known=np.array([0, 1])).root.tolist() == [0, 1]

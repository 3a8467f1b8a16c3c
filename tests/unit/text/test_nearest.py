"""Near-duplicates of indexed texts: exactly those that comparing every pair finds."""

import random

import pytest

from flywheel.text.minhash import jaccard_of, shingles
from flywheel.text.nearest import NearIndex


def corpus(seed):
    """Texts with one long instruction before short questions, near copies of them, and free ones."""
    rng = random.Random(seed)
    words = ["".join(rng.choices("abcdefgh", k=rng.randint(2, 7))) for _ in range(60)]
    start = " ".join(rng.choices(words, k=20))
    asked = [f"{start} {' '.join(rng.choices(words, k=rng.randint(1, 12)))}" for _ in range(40)]
    free = [" ".join(rng.choices(words, k=rng.randint(0, 9))) for _ in range(40)]
    return asked + free + [f"{text}!{rng.choice(words)}" for text in rng.sample(asked + free, 20)] + ["", "a", "ab c"]


@pytest.mark.parametrize("threshold", [0.3, 0.8, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_what_is_found_is_what_comparing_every_pair_finds(seed, threshold):
    indexed, asked = corpus(seed), corpus(seed + 100)[::3] + corpus(seed)[::3]
    sets = [shingles(text) for text in indexed]
    wanted = [
        {place: value for place, known in enumerate(sets) if known and (value := jaccard_of(said, known)) >= threshold}
        for said in map(shingles, asked)
    ]
    assert NearIndex(indexed, threshold).find(asked) == wanted
    assert any(wanted)


def test_an_instruction_that_all_share_makes_nobody_be_compared(monkeypatch):
    import flywheel.text.nearest as nearest

    compared = []
    monkeypatch.setattr(nearest, "jaccard_of", lambda *_: compared.append(1) or 0.0)
    rng = random.Random(0)
    start = " ".join("".join(rng.choices("abcdefgh", k=6)) for _ in range(30))
    texts = [f"{start} {' '.join(''.join(rng.choices('ijklmnop', k=6)) for _ in range(15))}" for _ in range(100)]
    NearIndex(texts[:50], 0.8).find(texts[50:])
    assert len(compared) < 50

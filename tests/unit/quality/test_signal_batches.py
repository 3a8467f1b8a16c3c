import random

from flywheel.quality.signals.batches import MOST_PADDING, chunks, padded_tokens, token_batches


def lengths(count=800, seed=0):
    rng = random.Random(seed)
    return [min(400, 4 + int(rng.lognormvariate(3.2, 0.7))) for _ in range(count)]


def test_every_sequence_once_within_the_budget():
    some = lengths()
    made = token_batches(some, 512)
    assert sorted(index for batch in made for index in batch) == list(range(len(some)))
    assert all(padded_tokens(some, batch) <= 512 for batch in made)


def test_padding_is_bounded_in_every_batch_however_lengths_lie():
    for some in (lengths(), [1, 500, 2, 400, 3, 300], list(range(1, 200)), [7] * 50):
        for batch in token_batches(some, 1024):
            padded = padded_tokens(some, batch)
            assert 1 - sum(some[index] for index in batch) / padded <= MOST_PADDING + 1e-12


def test_batches_are_large_where_lengths_are_alike():
    assert len(token_batches([8] * 100, 80)) == 10
    assert len(token_batches(lengths(), 2048)) < 60


def test_a_sequence_beyond_the_budget_goes_alone():
    assert token_batches([900, 10, 10], 100) == [[0], [1, 2]]
    assert token_batches([], 100) == []


def test_chunks_hold_alike_sizes_and_ties_keep_their_order():
    assert chunks([1, 9, 1, 9, 5], 2) == [[1, 3], [4, 0], [2]]

"""The batch plan: every example once an epoch, the same for the same (seed, epoch, step, rank)."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.training.batches import BUCKET_BATCHES, FILLER, Layout, Schedule, collate, epoch_plan
from flywheel.training.examples import Encoded


def encoded(count, seed=0):
    lengths = np.random.default_rng(seed).integers(3, 40, count)
    return [Encoded(f"e{i}", np.arange(n, dtype=np.int32), np.ones(n, np.float32)) for i, n in enumerate(lengths)]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 150), st.integers(1, 3), st.integers(1, 4), st.integers(1, 3), st.integers(0, 9))
def test_an_epoch_holds_every_example_once(count, world, micro, accumulation, epoch):
    layout = Layout(world, micro, accumulation)
    plan = epoch_plan([5] * count, layout, seed=1, epoch=epoch)
    assert plan.shape == (layout.steps_per_epoch(count), accumulation, world, micro)
    assert sorted(plan[plan != FILLER]) == list(range(count))
    sizes = [(step != FILLER).sum() for step in plan]
    assert min(sizes) >= 1  # its loss would be 0 / 0
    assert max(sizes) - min(sizes) <= 1


def test_the_plan_depends_on_seed_and_epoch_only():
    lengths, layout = [len(item.ids) for item in encoded(100)], Layout(2, 4, 1)
    first = epoch_plan(lengths, layout, seed=3, epoch=1)
    np.testing.assert_array_equal(first, epoch_plan(lengths, layout, seed=3, epoch=1))
    assert (first != epoch_plan(lengths, layout, seed=3, epoch=2)).any()
    assert (first != epoch_plan(lengths, layout, seed=4, epoch=1)).any()


def test_bucketing_saves_padding():
    items = encoded(BUCKET_BATCHES * 16 * 3)
    lengths = np.array([len(item.ids) for item in items])
    plan = epoch_plan(lengths.tolist(), Layout(2, 8, 1), seed=0, epoch=0)
    padded = sum(lengths[micro].max() * micro.size for step in plan for micro in step[0])
    shuffled = sum(lengths[i : i + 8].max() * 8 for i in range(0, len(lengths), 8))
    assert lengths.sum() <= padded < lengths.sum() * 1.15 < shuffled


def test_resuming_anywhere_continues_the_same_sequence():
    def steps(start, rank):
        plan = Schedule(encoded(37), Layout(2, 3, 2), epochs=3, seed=5, rank=rank, pad_id=0)
        return [(s.index, s.epoch, [b.ids.tolist() for b in s.batches], s.total_weight) for s in plan.since(start)]

    for rank in (0, 1):
        whole = steps(0, rank)
        assert len(whole) == 3 * 4
        for start in (1, 4, 7, 12):
            assert steps(start, rank) == whole[start:]
    assert steps(0, 0)[0][2] != steps(0, 1)[0][2]


def test_ranks_share_the_step_without_overlap_and_agree_on_its_weight():
    items = encoded(40)
    ranks = [list(Schedule(items, Layout(2, 4, 1), epochs=1, seed=0, rank=r, pad_id=0).since(0)) for r in (0, 1)]
    for a, b in zip(*ranks, strict=True):
        assert a.total_weight == b.total_weight == a.batches[0].weights.sum() + b.batches[0].weights.sum()
        assert a.tokens == a.batches[0].mask.sum() + b.batches[0].mask.sum()


def test_padding_weighs_nothing_and_fillers_take_no_room():
    items = encoded(3)
    batch = collate(items, np.array([0, FILLER, 2]), pad_id=99)
    width = max(len(items[0].ids), len(items[2].ids))
    assert batch.ids.shape == batch.mask.shape == batch.weights.shape == (2, width)
    assert (batch.ids[batch.mask == 0] == 99).all()
    assert (batch.weights[batch.mask == 0] == 0).all()


def test_a_rank_without_examples_takes_part_with_a_weightless_row():
    batch = collate(encoded(3), np.array([FILLER, FILLER]), pad_id=99)
    assert batch.mask.tolist() == [[1, 0]]
    assert batch.weights.sum() == 0


@pytest.mark.parametrize("count", [1, 2])
def test_fewer_examples_than_ranks(count):
    for rank in (0, 1, 2):
        (step,) = Schedule(encoded(count), Layout(3, 2, 1), epochs=1, seed=0, rank=rank, pad_id=0).since(0)
        assert (step.batches[0].weights.sum() > 0) == (rank < count)

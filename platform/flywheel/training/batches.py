"""Which examples a rank sees at a step: a pure function of (seed, epoch, step, rank).

Nothing about the order is ever saved. After a crash, the same step asks for the same batch again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flywheel.training.examples import Encoded

FILLER = -1
"""Stands for "no example" where an epoch's steps do not divide the examples."""
BUCKET_BATCHES = 8
"""Global batches sorted by length together: little padding, and batches still mix."""


@dataclass(frozen=True)
class Layout:
    """How one optimizer step is spread."""

    world_size: int
    micro_batch: int
    accumulation: int

    @property
    def global_batch(self) -> int:
        """Examples of one optimizer step."""
        return self.world_size * self.micro_batch * self.accumulation

    def steps_per_epoch(self, examples: int) -> int:
        """Optimizer steps that see every example once."""
        return -(-examples // self.global_batch)


@dataclass(frozen=True)
class Batch:
    """One micro-batch, padded on the right."""

    ids: NDArray[np.int64]
    """``[examples, tokens]``, at most ``micro_batch`` examples"""
    mask: NDArray[np.int64]
    """1 where there is a token."""
    weights: NDArray[np.float32]
    """Loss weights, 0 on padding and fillers."""


def epoch_plan(lengths: Sequence[int], layout: Layout, *, seed: int, epoch: int) -> NDArray[np.int64]:
    """Rows of every micro-batch of an epoch; each example appears exactly once.

    Args:
        lengths: tokens of each example.
        layout: how a step is spread.
        seed: the run's seed.
        epoch: counted from 0; another epoch is another order.

    Returns:
        Row numbers (or ``FILLER``), shape ``[steps, accumulation, world_size, micro_batch]``. Steps differ
        by one example at the most: a last step of a few left-overs would weigh each of them many times
        more. Rows of one micro-step have similar lengths on all ranks, so that no rank waits for another.
    """
    generator = np.random.Generator(np.random.Philox(key=np.array([seed, epoch], dtype=np.uint64)))
    steps = layout.steps_per_epoch(len(lengths))
    batches = np.array_split(generator.permutation(len(lengths)), steps)
    sizes = np.asarray(lengths)
    plan = np.full((steps, layout.accumulation, layout.world_size, layout.micro_batch), FILLER, dtype=np.int64)
    places = generator.permutation(steps)
    for start in range(0, steps, BUCKET_BATCHES):
        window = batches[start : start + BUCKET_BATCHES]
        rows = np.concatenate(window)
        rows = rows[np.argsort(sizes[rows], kind="stable")]
        bounds = np.cumsum([len(batch) for batch in window])[:-1]
        for place, batch in zip(places[start:], np.split(rows, bounds), strict=False):
            _spread(batch, plan[place])
    return plan


def _spread(batch: NDArray[np.int64], slots: NDArray[np.int64]) -> None:
    """Lay a batch, sorted by length, into ``[accumulation, world_size, micro_batch]`` slots, evenly."""
    accumulation, world_size, _ = slots.shape
    for micro, rows in enumerate(np.array_split(batch, accumulation)):
        for rank in range(world_size):
            mine = rows[rank::world_size]
            slots[micro, rank, : len(mine)] = mine


def collate(encoded: Sequence[Encoded], rows: NDArray[np.int64], *, pad_id: int) -> Batch:
    """Pad the rows of one micro-batch to its longest. Fillers take no room.

    A micro-batch of fillers only becomes one masked row without loss weight: its rank still has to take
    part in the collectives of the step.
    """
    chosen = [encoded[row] for row in rows if row != FILLER]
    shape = (max(1, len(chosen)), max((len(item.ids) for item in chosen), default=2))
    ids = np.full(shape, pad_id, dtype=np.int64)
    mask = np.zeros(shape, dtype=np.int64)
    weights = np.zeros(shape, dtype=np.float32)
    mask[:, 0] = 1  # attention over nothing at all would be NaN
    for index, item in enumerate(chosen):
        ids[index, : len(item.ids)] = item.ids
        mask[index, : len(item.ids)] = 1
        weights[index, : len(item.ids)] = item.weights
    return Batch(ids, mask, weights)


@dataclass(frozen=True)
class Step:
    """One optimizer step of one rank."""

    index: int
    epoch: int
    batches: list[Batch]
    total_weight: float
    """Sum of loss weights over the *global* batch."""
    tokens: int
    """Tokens of the global batch, padding not counted."""


class Schedule:
    """All steps of a run, for one rank."""

    def __init__(
        self, encoded: Sequence[Encoded], layout: Layout, *, epochs: int, seed: int, rank: int, pad_id: int
    ) -> None:
        self._encoded, self._layout, self._seed, self._rank, self._pad_id = encoded, layout, seed, rank, pad_id
        self._lengths = np.array([len(item.ids) for item in encoded])
        self._weights = np.array([item.total_weight for item in encoded])
        self.per_epoch = layout.steps_per_epoch(len(encoded))
        self.steps = self.per_epoch * epochs

    def since(self, step: int) -> Iterator[Step]:
        """Steps from ``step`` (counted from 0) to the end."""
        while step < self.steps:
            epoch, offset = divmod(step, self.per_epoch)
            plan = epoch_plan(self._lengths.tolist(), self._layout, seed=self._seed, epoch=epoch)
            for rows in plan[offset:]:
                yield self._step(step, epoch, rows)
                step += 1

    def _step(self, index: int, epoch: int, rows: NDArray[np.int64]) -> Step:
        mine = [collate(self._encoded, micro[self._rank], pad_id=self._pad_id) for micro in rows]
        everyone = rows[rows != FILLER]
        return Step(index, epoch, mine, float(self._weights[everyone].sum()), int(self._lengths[everyone].sum()))

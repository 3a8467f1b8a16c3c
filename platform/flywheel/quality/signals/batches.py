"""Rows of one length travel together: padding is work that nobody wanted. Pure."""

from __future__ import annotations

from collections.abc import Sequence

MOST_PADDING = 0.08
"""Share of a batch's tokens that may be padding, at the most."""


def token_batches(lengths: Sequence[int], budget: int, most_padding: float = MOST_PADDING) -> list[list[int]]:
    """Indices in batches, the longest first, each of at most ``budget`` tokens with its padding.

    A sequence that is longer than the budget is a batch of its own. No batch has a larger share of padding than
    ``most_padding``, so neither have all together.
    """
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    made: list[list[int]] = []
    held = 0
    for index in order:
        if made:
            longest, count = lengths[made[-1][0]], len(made[-1]) + 1
            wide = longest * count
            if wide <= budget and held + lengths[index] >= (1 - most_padding) * wide:
                made[-1].append(index)
                held += lengths[index]
                continue
        made.append([index])
        held = lengths[index]
    return made


def padded_tokens(lengths: Sequence[int], batch: Sequence[int]) -> int:
    """Tokens that a batch computes, padding included."""
    return max(lengths[index] for index in batch) * len(batch)


def chunks(sizes: Sequence[int], rows: int) -> list[list[int]]:
    """Indices in chunks of at most ``rows`` of similar size, the largest first; ties by index.

    The driver makes them from characters, which it knows, so that each actor finds little to sort by tokens.
    """
    order = sorted(range(len(sizes)), key=lambda index: (-sizes[index], index))
    return [order[start : start + rows] for start in range(0, len(order), rows)]

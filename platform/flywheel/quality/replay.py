"""What is repeated so that new skills do not cost old ones.

It is liked answers, rows that were learnt from before, and what the live model was taught with before there was any
feedback (``flywheel import --taught``). Rehearsing a share of earlier data is the plain remedy against catastrophic
forgetting (Robins 1995). All shares are drawn by hash and not by reward, so that what is repeated looks like traffic
and not like its easiest part. An older row is never fetched from an earlier dataset: it must be a candidate of *now*,
so it was consented to, is not erased, is not held out, overlaps with nothing that judges, and passed today's filter
like any other row.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from flywheel.lake.manifests import Manifest
from flywheel.quality.rows import Candidate, Drop
from flywheel.text.hashing import stable_hash

Split = tuple[list[Candidate], list[Drop]]


def learnt_before(ancestors: Iterable[Manifest]) -> frozenset[str]:
    """Inferences that a model was trained on, from the manifests of it and its ancestors (``lineage``)."""
    return frozenset(
        inference
        for item in ancestors
        if item.kind == "dataset"
        for _, inferences, *_ in item.data["rows"]
        for inference in inferences
    )


def replay_liked(rows: list[Candidate], share: float, seed: int, *, least: int = 0) -> Split:
    """Liked rows beyond ``share`` per correction leave, but not where rows would then be fewer than ``least``.

    Without a correction there is nothing to be a share of; the first few must not cost almost everything.
    """
    corrections = sum(row.origin == "correction" for row in rows)
    if corrections == 0:
        return rows, []
    liked = [row for row in rows if row.origin == "liked"]
    most = max(round(share * corrections), least - corrections)
    _, drops = cap(liked, most, "over_replay_share", by_hash(seed, "replay"))
    return without(rows, drops), drops


def replay_older(rows: list[Candidate], share: float | None, older: Collection[str], seed: int, *, most: int) -> Split:
    """Older rows beyond ``share`` per new row leave.

    Args:
        rows: what is left so far.
        share: older rows per new one; None: older and new rows compete alike.
        older: inferences that the model learnt from before.
        seed: of the draw.
        most: size of the dataset. Of a full one the older rows get their share, and not what the new ones leave.
    """
    if share is None:
        return rows, []
    old = [row for row in rows if row.inference_id in older]
    new = min(len(rows) - len(old), round(most / (1 + share)))
    _, drops = cap(old, round(share * new), "over_older_share", by_hash(seed, "older"))
    return without(rows, drops), drops


def taught_share(taught: Sequence[Candidate], others: int, share: float, seed: int) -> Split:
    """What a model was taught with, beyond ``share`` per other row leaves; ``others`` is their number."""
    rows = list(taught)
    _, drops = cap(rows, round(share * others), "over_taught_share", by_hash(seed, "taught"))
    return without(rows, drops), drops


def cap_total(rows: list[Candidate], most: int, older: Collection[str], best: Callable[[Candidate], Any]) -> Split:
    """The best rows, ``most`` in all. The rows in ``older`` were drawn as a share already, and stay."""
    new = [row for row in rows if row.inference_id not in older]
    _, drops = cap(new, max(0, most - (len(rows) - len(new))), "over_max_examples", best)
    return without(rows, drops), drops


def by_hash(seed: int, purpose: str) -> Callable[[Candidate], tuple[int, str]]:
    """An order that looks random, and is the same in every run."""
    return lambda row: (stable_hash(str(seed), purpose, row.inference_id), row.inference_id)


def cap(rows: list[Candidate], most: int, reason: str, key: Callable[[Candidate], Any]) -> Split:
    """The first ``most`` in the order of ``key`` stay, in their old order; each drop says its place."""
    ranked = sorted(rows, key=key)
    drops = [
        Drop(inference_id=row.inference_id, reason=reason, detail=f"place {place} of {len(rows)}, {most} stay")
        for place, row in enumerate(ranked[most:], start=most + 1)
    ]
    return without(rows, drops), drops


def without(rows: list[Candidate], drops: list[Drop]) -> list[Candidate]:
    """The rows that were not dropped, in their order."""
    gone = {drop.inference_id for drop in drops}
    return [row for row in rows if row.inference_id not in gone]

"""Cross-fitting folds: a row is scored by a model that saw neither its people nor its near-duplicates. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from flywheel.quality.rows import Candidate, prompt_text
from flywheel.text.hashing import stable_hash
from flywheel.text.minhash import near_duplicate_groups

NEAR_DUPLICATE_JACCARD = 0.8
LARGEST_COMPONENT = 0.5
"""A block of linked people and texts bigger than this share of the rows cannot be put in one fold."""


@dataclass(frozen=True)
class Folds:
    """``score[i]`` is the fold that scores row i; ``train[f]`` are the rows that model f may learn from."""

    score: list[int]
    train: list[list[int]]


def make_folds(rows: Sequence[Candidate], folds: int) -> Folds:
    """Split by subject and near-duplicate group; a function of the rows' content alone.

    People and texts that are linked go to one fold together, so nothing is lost. Where traffic is so
    repetitive that one block would hold most rows, the split is by rater, and rows with a near-duplicate
    in the scored fold are left out of that fold's training. Rows held out for tuning are scored, not learnt from.
    """
    groups = near_duplicate_groups([prompt_text(row.messages) for row in rows], NEAR_DUPLICATE_JACCARD) if rows else []
    blocks = _components(rows, groups)
    sizes = Counter(blocks)
    if rows and max(sizes.values()) > LARGEST_COMPONENT * len(rows):
        blocks = [row.rater for row in rows]
        sizes = Counter(blocks)
    fold_of = _balanced(sizes, folds)
    score = [fold_of[block] for block in blocks]
    train = [_train_rows(rows, groups, score, fold) for fold in range(folds)]
    return Folds(score=score, train=train)


def _train_rows(rows: Sequence[Candidate], groups: list[int], score: list[int], fold: int) -> list[int]:
    held = [index for index in range(len(rows)) if score[index] == fold]
    texts = {groups[index] for index in held}
    people = {person for index in held for person in (rows[index].subject, rows[index].rater)}
    return [
        index
        for index, row in enumerate(rows)
        if score[index] != fold
        and row.held_out is None
        and groups[index] not in texts
        and row.subject not in people
        and row.rater not in people
    ]


def _components(rows: Sequence[Candidate], groups: list[int]) -> list[str]:
    parent: dict[str, str] = {}

    def find(node: str) -> str:
        parent.setdefault(node, node)
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for row, group in zip(rows, groups, strict=True):
        for node in (f"person:{row.subject}", f"person:{row.rater}"):
            parent[find(node)] = find(f"text:{group}")
    return [find(f"text:{group}") for group in groups]


def _balanced(sizes: Counter[str], folds: int) -> dict[str, int]:
    """Largest block first into the emptiest fold; hashes break ties."""
    load = [0] * folds
    chosen: dict[str, int] = {}
    for block in sorted(sizes, key=lambda name: (-sizes[name], stable_hash(name), name)):
        fold = min(range(folds), key=lambda index: (load[index], index))
        chosen[block] = fold
        load[fold] += sizes[block]
    return chosen

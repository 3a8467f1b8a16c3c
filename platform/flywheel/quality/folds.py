"""Cross-fitting folds: a row is scored by a model that saw neither its people nor its near-duplicates. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from flywheel.quality.asked import question_groups
from flywheel.quality.rows import Candidate
from flywheel.records import Message
from flywheel.text.hashing import stable_hash

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
    groups = question_groups([row.messages for row in rows], NEAR_DUPLICATE_JACCARD) if rows else []
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


@dataclass(frozen=True)
class Placed:
    """Where further pairs belong: ``score[i]`` is None for those that people or texts tie to several folds."""

    score: list[int | None]
    train: list[list[int]]


def place_beside(
    rows: Sequence[Candidate], folds: Folds, people: Sequence[Sequence[str]], prompts: Sequence[Sequence[Message]]
) -> Placed:
    """Folds of pairs that are no candidates (comparisons, thumbs), so that no fold's model learns what it judges.

    Args:
        rows: the candidates that ``folds`` split.
        folds: of the candidates; they do not change.
        people: of each pair, everybody who asked or judged.
        prompts: of each pair.
    """
    count = len(folds.train)
    everything = [*(row.messages for row in rows), *prompts]
    groups = question_groups(everything, NEAR_DUPLICATE_JACCARD) if prompts else []
    blocks = _linked([[f"text:{group}", *(f"person:{who}" for who in own)]
                      for group, own in zip(groups[len(rows) :], people, strict=True)])  # fmt: skip
    tied: dict[str, set[int]] = {}
    for row, group, fold in zip(rows, groups, folds.score, strict=False):
        for node in (f"text:{group}", f"person:{row.subject}", f"person:{row.rater}"):
            tied.setdefault(node, set()).add(fold)
    known: dict[int, set[int]] = {}
    for block, group, own in zip(blocks, groups[len(rows) :], people, strict=True):
        nodes = [f"text:{group}", *(f"person:{who}" for who in own)]
        known.setdefault(block, set()).update(*(tied.get(node, set()) for node in nodes))
    free = Counter(str(block) for block in blocks if not known[block])
    fold_of = _balanced(free, count)
    score = [fold_of[str(block)] if not known[block] else next(iter(known[block])) if len(known[block]) == 1 else None
             for block in blocks]  # fmt: skip
    train = [
        [index for index, block in enumerate(blocks) if score[index] != fold and fold not in known[block]]
        for fold in range(count)
    ]
    return Placed(score, train)


def _linked(nodes: Sequence[Sequence[str]]) -> list[int]:
    """Connected components of items that share a node: one number an item."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not nodes:
        return []
    names = {name: place for place, name in enumerate(sorted({name for own in nodes for name in own}))}
    left = [index for index, own in enumerate(nodes) for _ in own]
    right = [len(nodes) + names[name] for own in nodes for name in own]
    size = len(nodes) + len(names)
    graph = coo_array(([1] * len(left), (left, right)), shape=(size, size))
    return connected_components(graph, directed=False)[1][: len(nodes)].tolist()
